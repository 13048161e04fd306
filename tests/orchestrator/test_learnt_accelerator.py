"""Studies that name no accelerator: what their nodes are is asked of the devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.placement import Bundle
from orchestrator.spec import Experiment
from orchestrator.study import run
from orchestrator.wiring import Study, wire
from runtimes.json_types import Json
from search.trial import Params
from tests.e2e.studies import experiment
from tests.orchestrator.commands import executable
from tracking.events import Expanded
from tracking.journal import read_journal
from tracking.layout import RunLayout

TWO_L4 = ("0, GPU-aa, NVIDIA L4, 23034, 4", "1, GPU-bb, NVIDIA L4, 23034, 4")


def made(**cluster: Json) -> Experiment:
    return Experiment.from_dict(
        experiment(
            model="meta-llama/Llama-3.1-70B",
            weights="dummy",
            engines={"vllm": {"search": {"max-num-seqs": [64, 128]}}},
            parallel={"tp": [1, 2]},
            search={"sampler": "tpe", "seed": 3, "baseline": False},
            cluster={"kind": "in_process", **cluster},
        )
    )


def bundle(number: int, accelerator: str) -> Bundle:
    return Bundle(f"bundle-{number}", f"node-{number}", ("0", "1"), accelerator=accelerator)


def reason(study: Study, tp: int) -> str | None:
    params = Params("vllm", {"tp": tp, "pp": 1, "dp": 1, "max-num-seqs": 64})
    excluded = study.admission.check(params)
    return None if excluded is None else excluded.rule


def test_nodes_of_one_kind_are_what_a_study_is_predicted_for() -> None:
    study = wire(made())
    assert study.predictions.warm_start() == []
    assert reason(study, 1) is None
    found = study.on([bundle(0, "H100"), bundle(1, "H100")])
    assert found.accelerator is not None
    assert found.accelerator.name == "H100"
    assert (reason(found, 1), reason(found, 2)) == ("weights_fit", "memory")
    found = study.on([bundle(0, "B200")])
    assert (reason(found, 1), reason(found, 2)) == ("memory", None)
    assert [params.values["tp"] for params in found.predictions.warm_start()] == [2, 2]


@pytest.mark.parametrize("names", [(), ("H100", "B200"), ("H100", ""), ("",)])
def test_nodes_that_differ_or_are_unknown_tell_nothing(names: tuple[str, ...]) -> None:
    study = wire(made())
    bundles = [bundle(number, name) for number, name in enumerate(names)]
    assert study.on(bundles) is study


@pytest.mark.parametrize("named", ["H200", "cpu"])
def test_what_the_file_names_stands(named: str) -> None:
    study = wire(made(accelerator=named))
    assert study.on([bundle(0, "L4")]) is study


def test_a_run_leaves_out_what_its_devices_cannot_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "bin", "nvidia-smi", "\n".join(f"echo '{row}'" for row in TWO_L4))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    result = run(made(), results=tmp_path / "runs")
    assert (result.best, dict(result.counts)) == (None, {})
    events = [event for _, event in read_journal(RunLayout(result.folder).journal_dir)]
    (counted,) = [event for event in events if isinstance(event, Expanded)]
    assert counted.valid == 0
    assert sum(counted.excluded.values()) == 4
    assert all("of an L4's 22.5 GiB" in words for words in counted.excluded)
