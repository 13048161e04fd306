"""Builders of Grafana panels as plain JSON; the shapes are those of Grafana 10 and later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtimes.json_types import Json

COLUMNS = 24
"""Width of Grafana's grid."""

DATASOURCE: dict[str, Json] = {"type": "prometheus", "uid": "${datasource}"}
LIMIT = "limit"
"""Legends that begin so are drawn as dashed lines: limits, not measurements."""

_INSTANT = frozenset({"stat", "bargauge", "table"})


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series (`{{label}}` is filled in).

    In a table the legend is the title of the query's column, and `unit` the column's.
    """

    expr: str
    legend: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel before it has a place.

    Attributes:
        kind: Grafana's panel type.
        unit: Grafana's unit id (`s`, `percentunit`, `short`, `suffix: tok/s`).
        width: columns of the grid.
        stacked: areas on top of each other, for parts of a whole.
        show_name: a stat that shows its series' name in place of the number.
        alarm_from: a number is red from here on.
        key: the label that tells a table's rows apart.
    """

    kind: str
    title: str
    description: str
    unit: str
    width: int
    queries: tuple[Query, ...]
    stacked: bool = False
    show_name: bool = False
    alarm_from: float | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, `height` grid units high; `heading` begins a section."""

    height: int
    panels: Sequence[Panel]
    heading: str = ""


def stat(
    title: str,
    description: str,
    width: int,
    expr: str,
    unit: str = "short",
    alarm_from: float | None = None,
) -> Panel:
    """One number."""
    query = Query(expr, title)
    return Panel("stat", title, description, unit, width, (query,), alarm_from=alarm_from)


def lines(
    title: str,
    description: str,
    unit: str,
    width: int,
    *queries: Query,
    stacked: bool = False,
) -> Panel:
    """Figures over time."""
    return Panel("timeseries", title, description, unit, width, queries, stacked=stacked)


def bars(title: str, description: str, unit: str, width: int, query: Query) -> Panel:
    """One bar for each series."""
    return Panel("bargauge", title, description, unit, width, (query,))


def heatmap(title: str, description: str, unit: str, width: int, expr: str) -> Panel:
    """A histogram over time; `expr` gives increases by `le`."""
    return Panel("heatmap", title, description, unit, width, (Query(expr, "{{le}}"),))


def place(rows: Sequence[Row]) -> list[Json]:
    """Panels laid out row by row; ids count from 1."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        if row.heading:
            placed.append(_heading(row.heading, len(placed) + 1, y))
            y += 1
        x = 0
        for panel in row.panels:
            grid: Json = {"x": x, "y": y, "w": panel.width, "h": row.height}
            placed.append(_panel(panel, len(placed) + 1, grid))
            x += panel.width
        y += row.height
    return placed


def _heading(title: str, identity: int, y: int) -> Json:
    return {
        "id": identity,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        "panels": [],
    }


def _panel(panel: Panel, identity: int, grid: Json) -> Json:
    built: dict[str, Json] = {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": dict(DATASOURCE),
        "gridPos": grid,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        "targets": _targets(panel),
    }
    if panel.kind == "table":
        built["transformations"] = _columns(panel)
    return built


def _defaults(panel: Panel) -> dict[str, Json]:
    defaults: dict[str, Json] = {"unit": panel.unit}
    if panel.kind in ("timeseries", "bargauge"):
        defaults["min"] = 0
    if panel.unit == "percentunit" and panel.kind != "heatmap":
        defaults["max"] = 1
    if panel.alarm_from is not None:
        steps: list[Json] = [
            {"color": "green", "value": None},
            {"color": "red", "value": panel.alarm_from},
        ]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 40 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "auto",
            "spanNulls": not panel.stacked,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return defaults


def _overrides(panel: Panel) -> list[Json]:
    if panel.kind == "table":
        return [
            {
                "matcher": {"id": "byName", "options": query.legend},
                "properties": [{"id": "unit", "value": query.unit or panel.unit}],
            }
            for query in panel.queries
        ]
    if not any(query.legend.startswith(LIMIT) for query in panel.queries):
        return []
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/^{LIMIT}/"},
            "properties": [
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
                {"id": "custom.fillOpacity", "value": 0},
                {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
            ],
        }
    ]


def _options(panel: Panel) -> Json:
    reduce: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    legend: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    match panel.kind:
        case "timeseries":
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "state-timeline":
            return {
                "alignValue": "left",
                "legend": legend,
                "mergeValues": True,
                "rowHeight": 0.8,
                "showValue": "auto",
                "tooltip": {"mode": "single", "sort": "none"},
            }
        case "heatmap":
            return _heatmap_options(panel.unit)
        case "table":
            return {"cellHeight": "sm", "showHeader": True}
        case "bargauge":
            return {"displayMode": "basic", "orientation": "horizontal", "reduceOptions": reduce}
    named = any("{{" in query.legend for query in panel.queries)
    return {
        "colorMode": "none" if panel.alarm_from is None else "value",
        "graphMode": "none",
        "reduceOptions": reduce,
        "textMode": "name" if panel.show_name else "value_and_name" if named else "value",
    }


def _heatmap_options(unit: str) -> Json:
    return {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": unit},
    }


def _targets(panel: Panel) -> list[Json]:
    instant = panel.kind in _INSTANT
    shape = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    return [
        {
            "refId": letter,
            "datasource": dict(DATASOURCE),
            "editorMode": "code",
            "expr": query.expr,
            "format": shape,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
            "exemplar": panel.kind == "timeseries" and "_bucket" in query.expr,
        }
        for letter, query in _lettered(panel.queries)
    ]


def _columns(panel: Panel) -> list[Json]:
    """One row per value of `key`, one column per query under its own title."""
    titles: dict[str, Json] = {panel.key: panel.key.capitalize()}
    titles |= {f"Value #{letter}": query.legend for letter, query in _lettered(panel.queries)}
    organize: Json = {"excludeByName": {"Time": True}, "renameByName": titles}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def _lettered(queries: Iterable[Query]) -> Iterable[tuple[str, Query]]:
    return ((chr(ord("A") + index), query) for index, query in enumerate(queries))
