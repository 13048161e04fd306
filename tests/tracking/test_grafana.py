"""Dashboards and scrape configuration: our own lint, since no Grafana runs in these tests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import promql_parser
import pytest
import yaml

from runtimes.errors import UserError
from runtimes.json_types import Json
from runtimes.slo import Slo
from tests.tracking.dashboard_panels import (
    PanelQuery,
    mapping,
    number,
    panels,
    queries,
    sequence,
    text,
)
from tracking.exporter import Exporter
from tracking.grafana.panels import COLUMNS, DATASOURCE
from tracking.grafana.write import dashboards, write_grafana
from tracking.run_data import Goal

_PANEL_TYPES = {"stat", "timeseries", "bargauge"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
_DASHBOARDS = pytest.mark.parametrize("dashboard", dashboards().values(), ids=list(dashboards()))
_QUERIES = pytest.mark.parametrize("query", queries(), ids=str)


def _exported_names() -> set[str]:
    exporter = Exporter(
        run="r",
        name="n",
        model="m",
        goals=[Goal("goodput", "maximize")],
        slo=Slo(),
        capacity_gpus=1,
        version="0",
    )
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", exporter.text(), re.MULTILINE)
    return {name + suffix for name, kind in kinds for suffix in _SUFFIXES[kind]}


def _selectors(query: PanelQuery) -> Iterator[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: object) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(query.substituted("1m")), visit)
    assert found, f"{query} selects nothing"
    yield from found


@_DASHBOARDS
def test_panels_have_unique_ids_and_titles(dashboard: dict[str, Json]) -> None:
    ids = [number(panel["id"]) for panel in panels(dashboard)]
    titles = [text(panel["title"]) for panel in panels(dashboard)]
    assert len(set(ids)) == len(ids) > 10
    assert len(set(titles)) == len(titles)


@_DASHBOARDS
def test_panels_lie_in_the_grid_and_do_not_overlap(dashboard: dict[str, Json]) -> None:
    cells: dict[str, set[tuple[int, int]]] = {}
    for panel in panels(dashboard):
        grid = {key: number(value) for key, value in mapping(panel["gridPos"]).items()}
        assert grid["x"] >= 0
        assert grid["x"] + grid["w"] <= COLUMNS
        cells[text(panel["title"])] = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
    for (one, covered), (other, taken) in combinations(cells.items(), 2):
        assert not covered & taken, f"{one} overlaps {other}"
    lines = {y for covered in cells.values() for _, y in covered}
    assert sum(map(len, cells.values())) == len(lines) * COLUMNS, "a row has a gap"


@_DASHBOARDS
def test_panels_say_what_they_show(dashboard: dict[str, Json]) -> None:
    for panel in panels(dashboard):
        assert panel["type"] in _PANEL_TYPES
        assert text(panel["title"])
        assert text(panel["description"]).endswith(".")
        assert text(mapping(mapping(panel["fieldConfig"])["defaults"])["unit"])


@_DASHBOARDS
def test_the_datasource_is_a_variable_everywhere(dashboard: dict[str, Json]) -> None:
    variables = [mapping(item) for item in sequence(mapping(dashboard["templating"])["list"])]
    assert {text(item["name"]) for item in variables} == {"datasource", "instance"}
    assert all(item.get("datasource", DATASOURCE) == DATASOURCE for item in variables)
    for panel in panels(dashboard):
        assert panel["datasource"] == DATASOURCE
        for target in map(mapping, sequence(panel["targets"])):
            assert target["datasource"] == DATASOURCE
    assert DATASOURCE["uid"] == "${datasource}"


@_DASHBOARDS
def test_queries_of_a_panel_have_their_own_letters(dashboard: dict[str, Json]) -> None:
    for panel in panels(dashboard):
        refs = [text(mapping(target)["refId"]) for target in sequence(panel["targets"])]
        assert refs == sorted(set(refs))


@_QUERIES
def test_every_metric_is_one_the_exporter_has(query: PanelQuery) -> None:
    names = {selector.name for selector in _selectors(query)}
    assert names <= _exported_names()


@_QUERIES
def test_every_selector_is_limited_to_the_chosen_driver(query: PanelQuery) -> None:
    for selector in _selectors(query):
        assert 'instance=~".*"' in selector.prettify()


@_QUERIES
def test_rates_use_the_interval_that_fits_the_scrapes(query: PanelQuery) -> None:
    ranges = re.findall(r"\[([^\]]+)\]", query.expr)
    assert set(ranges) <= {"$__rate_interval"}
    calls = re.findall(r"\b(?:rate|increase)\(", query.expr)
    assert len(calls) == len(ranges)
    assert "_bucket" not in query.expr or calls, "buckets without a rate"


def test_names_the_exporter_lacks_are_noticed() -> None:
    planted = PanelQuery("d", "planted", "A", 'rate(servetune_trial_total{a="b"}[1m])', "")
    names = {selector.name for selector in _selectors(planted)}
    assert names == {"servetune_trial_total"}
    assert not names <= _exported_names()


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    written = write_grafana(tmp_path / "out", ["127.0.0.1:9100", "[::1]:9101"])
    names = {path.relative_to(tmp_path / "out").as_posix() for path in written}
    assert names == {
        "dashboards/servetune-overview.json",
        "provisioning/dashboards/servetune.yaml",
        "provisioning/datasources/servetune.yaml",
        "prometheus.yml",
    }
    board = json.loads((tmp_path / "out/dashboards/servetune-overview.json").read_text())
    assert board == dashboards()["servetune-overview.json"]
    provider = yaml.safe_load((tmp_path / "out/provisioning/dashboards/servetune.yaml").read_text())
    assert provider["providers"][0]["options"]["path"] == str(tmp_path / "out/dashboards")
    scrape = yaml.safe_load((tmp_path / "out/prometheus.yml").read_text())
    assert scrape["scrape_configs"][0]["static_configs"] == [
        {"targets": ["127.0.0.1:9100", "[::1]:9101"]}
    ]


def test_promtool_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    write_grafana(tmp_path, ["driver.example:9100"], scrape_interval_s=1)
    checked = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    "targets", [[], ["http://127.0.0.1:9100/metrics"], ["127.0.0.1"], ["h:1", "h:1/metrics"]]
)
def test_what_prometheus_cannot_scrape_is_refused(tmp_path: Path, targets: list[str]) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9100"):
        write_grafana(tmp_path / "out", targets)
    assert not (tmp_path / "out").exists()
