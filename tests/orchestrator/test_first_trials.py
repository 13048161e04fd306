"""What runs before the search: an engine's defaults, and the same on every node."""

from __future__ import annotations

from pathlib import Path

import yaml

from orchestrator.first_trials import first_proposals
from orchestrator.placement import Bundle, node_label
from orchestrator.scheduler import BundleReady, Launch, Limits, Scheduler
from orchestrator.spec import Experiment
from orchestrator.standing import Standing
from orchestrator.wiring import Study, wire
from runtimes.json_types import Json
from search.trial import Params
from tests.orchestrator.commands import servetune
from tracking.events import Proposed
from tracking.journal import Journal, read_journal


def study(*, reference: bool = True, label: str | None = None) -> Study:
    engine: dict[str, Json] = {} if label is None else {"environment": {"label": label}}
    return wire(
        Experiment.from_dict(
            {
                "name": "n",
                "model": "meta-llama/Llama-3.2-1B",
                "engines": {"simulated": {**engine, "search": {"max-num-seqs": [4, 8]}}},
                "parallel": {"tp": 2},
                "search": {"reference_per_node": reference},
                "cluster": {"kind": "ray", "simulated_gpus": 2, "accelerator": "H100"},
            }
        )
    )


def bundle(node: str, gpus: int = 2, labels: frozenset[str] = frozenset()) -> Bundle:
    every = labels | {node_label(node)}
    return Bundle(f"on-{node}", node, tuple(map(str, range(gpus))), labels=every)


def proposals(
    made: Study, folder: Path, known: tuple[Proposed, ...], *nodes: Bundle
) -> tuple[Proposed, ...]:
    with Journal(folder, clock=lambda: 1.0) as journal:
        found = first_proposals(made, known, nodes, journal)
    assert [event for _, event in read_journal(folder)][-len(found) :] or found == known
    return found


def test_every_node_that_holds_it_gets_one_and_they_are_journalled(tmp_path: Path) -> None:
    made = study()
    nodes = (bundle("b"), bundle("a"), bundle("small", 0))
    found = proposals(made, tmp_path, (), *nodes)
    assert [(each.number, each.baseline, each.reference, each.node) for each in found] == [
        (0, True, False, ""),
        (1, False, True, "a"),
        (2, False, True, "b"),
    ]
    assert len({each.config_id for each in found}) == 1
    assert tuple(event for _, event in read_journal(tmp_path)) == found


def test_one_node_has_nothing_to_be_told_from(tmp_path: Path) -> None:
    assert [each.reference for each in proposals(study(), tmp_path, (), bundle("a"))] == [False]


def test_they_are_run_only_where_the_file_asks_for_them(tmp_path: Path) -> None:
    found = proposals(study(reference=False), tmp_path, (), bundle("a"), bundle("b"))
    assert [each.baseline for each in found] == [True]


def test_nodes_without_the_engine_are_left_out(tmp_path: Path) -> None:
    has = frozenset({"engine-x"})
    nodes = (bundle("a", labels=has), bundle("b", labels=has), bundle("c"))
    made = study(label="engine-x")
    made.bundles = [*nodes]
    found = proposals(made, tmp_path, (), *nodes)
    assert [each.node for each in found] == ["", "a", "b"]


def test_a_resumed_run_measures_new_nodes_only(tmp_path: Path) -> None:
    made = study()
    known = proposals(made, tmp_path, (), bundle("a"), bundle("b"))
    searched = Proposed(3, "simulated", {"max-num-seqs": 4}, "config")
    found = proposals(made, tmp_path, (*known, searched), bundle("b"), bundle("c"))
    assert [(each.number, each.node) for each in found[4:]] == [(4, "c")]


def test_a_reference_waits_for_its_own_node(tmp_path: Path) -> None:
    made = study()
    found = proposals(made, tmp_path, (), bundle("a"), bundle("b"))
    waiting = Standing(proposed=found).restored(made).waiting
    assert [trial.label for trial in waiting] == [None, node_label("a"), node_label("b")]
    scheduler = Scheduler(Limits(), Standing(proposed=found).restored(made))
    launched = {
        action.trial.number: action.allocation.node
        for name in ("b", "a")
        for action in scheduler.handle(BundleReady(bundle(name)), 0.0)
        if isinstance(action, Launch)
    }
    # The baseline took node b, so that the reference of b waits there; node a runs its own.
    assert launched == {0: "b", 1: "a"}
    assert waiting[0].params == Params("simulated", found[0].values)


def test_a_reference_for_every_node_is_announced(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for asked in (True, False):
        search = {"reference_per_node": asked}
        experiment = {"name": "n", "model": "acme/m", "engines": {"vllm": {}}, "search": search}
        path.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        done = servetune("plan", path, cwd=tmp_path)
        assert ("the defaults of vllm are measured once more on each" in done.stdout) is asked
