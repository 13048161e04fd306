"""Dashboards hold to our lint and to Grafana's own types, since no Grafana runs in these tests."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from runtimes.json_types import Json
from tests.tracking.dashboard_lint import problems
from tests.tracking.dashboard_panels import mapping, panels, queries, sequence, variables
from tests.tracking.exported import RAY_METRICS, Known, known_metrics
from tests.tracking.expressions import read
from tracking.grafana.write import dashboards

Board: TypeAlias = dict[str, Json]

register_default_plugins()
_NAMES = list(dashboards())
_OVERVIEW = "servetune-overview.json"


@pytest.fixture(scope="module")
def known() -> Mapping[str, Known]:
    return known_metrics()


@pytest.mark.parametrize("name", _NAMES)
def test_a_dashboard_has_no_problem(name: str, known: Mapping[str, Known]) -> None:
    assert problems(name, dashboards()[name], known) == []


def test_there_are_four_dashboards_and_they_lead_to_each_other() -> None:
    assert {name.removesuffix(".json") for name in _NAMES} == {
        "servetune-cluster",
        "servetune-engine",
        "servetune-overview",
        "servetune-trial",
    }
    for board in dashboards().values():
        (link,) = map(mapping, sequence(board["links"]))
        assert set(map(str, sequence(board["tags"]))) == set(map(str, sequence(link["tags"])))


def test_every_metric_of_ours_is_on_a_dashboard_or_names_the_study(
    known: Mapping[str, Known],
) -> None:
    shown = set[str]()
    for query in queries():
        reading, _ = read(query.substituted("1m"), known)
        shown |= {_family(name) for name in reading.names}
    ours = {_family(name) for name in known if name.startswith("servetune_")}
    assert ours - shown == {"servetune_build_info"}


def _family(name: str) -> str:
    for suffix in ("_bucket", "_sum", "_count"):
        name = name.removesuffix(suffix)
    return name


def test_rays_agent_exports_what_the_cluster_dashboard_asks_for() -> None:
    ray = importlib.util.find_spec("ray")
    if ray is None or ray.origin is None:
        pytest.skip("ray is not installed")
    agent = Path(ray.origin).parent / "dashboard/modules/reporter/reporter_agent.py"
    source = agent.read_text(encoding="utf-8")
    for name in RAY_METRICS:
        assert f'"{name.removeprefix("ray_")}": Gauge(' in source
    assert '"GpuIndex": str(gpu_index)' in source


def _lost(written: Json, read_back: Json, path: str = "") -> Iterator[str]:
    """Keys and values of `written` that `read_back` lacks."""
    if isinstance(written, dict) and isinstance(read_back, dict):
        for key, value in written.items():
            if key in read_back:
                yield from _lost(value, read_back[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(written, list) and isinstance(read_back, list):
        if len(written) != len(read_back):
            yield path
        for index, (one, other) in enumerate(zip(written, read_back, strict=False)):
            yield from _lost(one, other, f"{path}[{index}]")
    elif written != read_back:
        yield path


def _round_trip(board: Board) -> Json:
    back: Json = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    return back


@pytest.mark.parametrize("name", _NAMES)
def test_grafanas_own_types_know_every_key(name: str) -> None:
    board = dashboards()[name]
    assert list(_lost(board, _round_trip(board))) == []


def test_keys_that_grafana_does_not_know_are_noticed() -> None:
    board = dashboards()[_OVERVIEW]
    panel = panels(board)[1]
    board["refrsh"] = "5s"
    panel["titl"] = "x"
    mapping(panel["gridPos"])["hh"] = 3
    mapping(panel["options"])["graphMod"] = "x"
    mapping(sequence(panel["targets"])[0])["exprr"] = "x"
    assert {path.rpartition(".")[2] for path in _lost(board, _round_trip(board))} == {
        "refrsh",
        "titl",
        "hh",
        "graphMod",
        "exprr",
    }


def _panel(board: Board) -> Board:
    """`Trials ended`, which is a number with one query."""
    return panels(board)[1]


def _target(board: Board) -> Board:
    return mapping(sequence(_panel(board)["targets"])[0])


def _asks(expr: str, legend: str = "") -> Callable[[Board], None]:
    def plant(board: Board) -> None:
        _target(board).update(expr=expr, legendFormat=legend)

    return plant


def _sets(key: str, value: Json) -> Callable[[Board], None]:
    return lambda board: _panel(board).update({key: value})


def _unit(board: Board) -> None:
    mapping(mapping(_panel(board)["fieldConfig"])["defaults"])["unit"] = "ms"


def _lists(query: str) -> Callable[[Board], None]:
    def plant(board: Board) -> None:
        mapping(variables(board)[1]["query"])["query"] = query

    return plant


_R = 'run=~"$run"'
_FAULTS: list[tuple[str, Callable[[Board], None]]] = [
    ("id 1 is there twice", _sets("id", 1)),
    ("'Study' is there twice", _sets("title", "Study")),
    ("overlaps", _sets("gridPos", {"x": 5, "y": 0, "w": 4, "h": 4})),
    ("leaves the grid", _sets("gridPos", {"x": 22, "y": 90, "w": 4, "h": 4})),
    ("a row has a gap", _sets("gridPos", {"x": 6, "y": 90, "w": 3, "h": 4})),
    ("is no panel type", _sets("type", "timeserie")),
    ("no description", _sets("description", "words")),
    ("no unit we know: 'ms'", _unit),
    ("its data source is no variable", _sets("datasource", {"type": "prometheus", "uid": "P1"})),
    ("is of one Grafana only", _sets("datasource", {"type": "prometheus", "uid": "P1"})),
    ("of a query is no variable", lambda board: _target(board).update(datasource="P1")),
    ("letters of its queries", lambda b: sequence(_panel(b)["targets"]).append(_target(b))),
    ("variables begin with", lambda board: variables(board)[1].update(name="study")),
    ("nothing exports what it lists", _lists("label_values(servetune_study, run)")),
    ("nothing exports what it lists", _lists("label_values(servetune_study_info, nun)")),
    ("All leaves out", lambda board: variables(board)[1].update(allValue=".+")),
    ("no PromQL", _asks("sum(servetune_trials_running{}")),
    ("nothing exports it", _asks(f"servetune_trial_running{{{_R}}}")),
    ("have no label 'stat'", _asks(f'servetune_gpus{{{_R},stat="busy"}}')),
    ("by (stat)", _asks(f"sum by (stat) (servetune_gpus{{{_R}}})")),
    ("on (trial)", _asks(f"servetune_gpus{{{_R}}} and on (trial) servetune_trial_gpus{{{_R}}}")),
    ("without le", _asks(f"histogram_quantile(0.5, sum(servetune_gpus{{{_R}}}))")),
    ("names 'kind'", _asks(f"servetune_gpus{{{_R}}}", "{{kind}}")),
    ("names 'state'", _asks(f"sum(servetune_gpus{{{_R}}})", "{{state}}")),
    ("not limited to the chosen runs", _asks("sum(servetune_gpus)")),
    ("no variable $trial", _asks(f'sum(servetune_trial_gpus{{{_R},trial=~"$trial"}})')),
    ("not over $__rate_interval", _asks(f"sum(rate(servetune_requests_total{{{_R}}}[5m]))")),
    ("rate() of what is no counter", _asks(f"rate(servetune_gpus{{{_R}}}[$__rate_interval])")),
]


@pytest.mark.parametrize(("words", "plant"), _FAULTS, ids=[words for words, _ in _FAULTS])
def test_a_planted_fault_is_found(
    words: str, plant: Callable[[Board], None], known: Mapping[str, Known]
) -> None:
    board = copy.deepcopy(dashboards()[_OVERVIEW])
    plant(board)
    found = problems(_OVERVIEW, board, known)
    assert any(words in problem for problem in found), found


def test_a_counter_as_it_is_must_be_said(known: Mapping[str, Known]) -> None:
    board = copy.deepcopy(dashboards()[_OVERVIEW])
    assert problems(_OVERVIEW, board, known) == []
    _panel(board)["description"] = "Attempts that ended."
    (found,) = problems(_OVERVIEW, board, known)
    assert "servetune_trials_total: a counter as it is" in found
