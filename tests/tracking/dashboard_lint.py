"""A lint of Grafana dashboards: what would show nothing, something wrong, or only on one Grafana.

Most rules are those of Grafana's own dashboard-linter, which is a Go program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations

from runtimes.json_types import Json
from tests.tracking.dashboard_panels import (
    PanelQuery,
    boxes,
    mapping,
    number,
    panels,
    queries_of,
    sequence,
    text,
    variables,
)
from tests.tracking.exported import Known
from tests.tracking.expressions import read
from tracking.grafana.panels import COLUMNS

PANEL_TYPES = frozenset({"bargauge", "heatmap", "stat", "state-timeline", "table", "timeseries"})
UNITS = frozenset({"cps", "mbytes", "percent", "percentunit", "reqps", "s", "short"})
SINCE_START = "since the driver started"
"""A panel that shows counters as they are says so; else they stand under a rate."""

_DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_LABEL_VALUES = re.compile(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)")


def problems(name: str, dashboard: Mapping[str, Json], known: Mapping[str, Known]) -> list[str]:
    """Everything wrong with a dashboard, one line each; `known` is what can be asked for."""
    return [
        *_frame(dashboard, known),
        *_grid(dashboard),
        *(problem for panel in panels(dashboard) for problem in _panel(panel)),
        *(
            f"{query}: {problem}"
            for query in queries_of(name, dashboard)
            for problem in _query(query, dashboard, known)
        ),
    ]


def _frame(dashboard: Mapping[str, Json], known: Mapping[str, Known]) -> Iterator[str]:
    names = [text(item["name"]) for item in variables(dashboard)]
    if names[:2] != ["datasource", "run"]:
        yield f"variables begin with {names[:2]}, not with datasource and run"
    for item in variables(dashboard):
        if item["type"] != "query":
            continue
        if item["datasource"] != _DATASOURCE:
            yield f"variable {item['name']}: its data source is no variable"
        found = _LABEL_VALUES.fullmatch(text(mapping(item["query"])["query"]))
        if found is None or found[1] not in known or found[2] not in known[found[1]].labels:
            yield f"variable {item['name']}: nothing exports what it lists"
        if item.get("allValue") != ".*":
            yield f"variable {item['name']}: All leaves out series without the label"
    for uid in re.findall(r"'uid': '([^']*)'", repr(dict(dashboard))):
        if uid not in ("${datasource}", dashboard["uid"]):
            yield f"uid {uid!r} is of one Grafana only"


def _grid(dashboard: Mapping[str, Json]) -> Iterator[str]:
    ids = [number(box["id"]) for box in boxes(dashboard)]
    titles = [text(box["title"]) for box in boxes(dashboard)]
    yield from (f"id {one} is there twice" for one in sorted({i for i in ids if ids.count(i) > 1}))
    yield from (
        f"{one!r} is there twice" for one in sorted({t for t in titles if titles.count(t) > 1})
    )
    cells: dict[str, set[tuple[int, int]]] = {}
    for box in boxes(dashboard):
        grid = {key: number(value) for key, value in mapping(box["gridPos"]).items()}
        if grid["x"] < 0 or grid["x"] + grid["w"] > COLUMNS:
            yield f"{box['title']}: leaves the grid of {COLUMNS} columns"
        cells[text(box["title"])] = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
    for (one, covered), (other, taken) in combinations(cells.items(), 2):
        if covered & taken:
            yield f"{one} overlaps {other}"
    rows = {y for covered in cells.values() for _, y in covered}
    if len(set().union(*cells.values())) != len(rows) * COLUMNS:
        yield "a row has a gap"


def _panel(panel: Mapping[str, Json]) -> Iterator[str]:
    title = text(panel["title"])
    if panel["type"] not in PANEL_TYPES:
        yield f"{title}: {panel['type']} is no panel type we use"
    if not title:
        yield f"panel {panel['id']} has no title"
    if not text(panel.get("description", "")).endswith("."):
        yield f"{title}: no description in a sentence"
    unit = text(mapping(mapping(panel["fieldConfig"])["defaults"]).get("unit", ""))
    if unit not in UNITS and not unit.startswith("suffix:"):
        yield f"{title}: no unit we know: {unit!r}"
    if panel.get("datasource") != _DATASOURCE:
        yield f"{title}: its data source is no variable"
    targets = [mapping(target) for target in sequence(panel["targets"])]
    if any(target.get("datasource") != _DATASOURCE for target in targets):
        yield f"{title}: the data source of a query is no variable"
    letters = [text(target["refId"]) for target in targets]
    if letters != sorted(set(letters)):
        yield f"{title}: letters of its queries: {letters}"


def _query(
    query: PanelQuery, dashboard: Mapping[str, Json], known: Mapping[str, Known]
) -> Iterator[str]:
    names = {text(item["name"]) for item in variables(dashboard)}
    for name in re.findall(r"\$\{?(\w+)", f"{query.expr} {query.legend}"):
        if name not in names | {"__rate_interval"}:
            yield f"no variable ${name}"
    if intervals := set(re.findall(r"\[([^\]]*)\]", query.expr)) - {"$__rate_interval"}:
        yield f"a rate over {sorted(intervals)}, not over $__rate_interval"
    try:
        reading, labels = read(query.substituted("1m"), known)
    except ValueError as error:
        yield f"no PromQL: {error}"
        return
    yield from reading.problems
    yield from (f"{name}: not limited to the chosen runs" for name in sorted(reading.unlimited))
    if reading.raw and SINCE_START not in _description(dashboard, query.panel):
        yield f"{', '.join(sorted(reading.raw))}: a counter as it is"
    for label in re.findall(r"{{(\w+)}}", query.legend):
        if label not in labels:
            yield f"its legend names {label!r}, which its series lack"


def _description(dashboard: Mapping[str, Json], title: str) -> str:
    found = (panel for panel in panels(dashboard) if panel["title"] == title)
    return text(next(found).get("description", ""))
