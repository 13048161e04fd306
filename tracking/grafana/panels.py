"""Builders of Grafana panels as plain JSON; the shapes are those of Grafana 10 and later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtimes.json_types import Json

COLUMNS = 24
"""Width of Grafana's grid."""

DATASOURCE: dict[str, Json] = {"type": "prometheus", "uid": "${datasource}"}
SELECTOR = 'instance=~"$instance"'
"""Limits a query to the driver chosen at the top of the dashboard."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series (`{{label}}` is filled in)."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel before it has a place.

    Attributes:
        kind: Grafana's panel type: `stat`, `timeseries`, `bargauge`.
        unit: Grafana's unit id (`s`, `percentunit`, `short`, `suffix: tok/s`).
        width: columns of the grid.
        stacked: areas on top of each other, for parts of a whole.
        show_name: a stat that shows its series' name in place of the number.
    """

    kind: str
    title: str
    description: str
    unit: str
    width: int
    queries: tuple[Query, ...]
    stacked: bool = False
    show_name: bool = False


def place(rows: Sequence[tuple[int, Sequence[Panel]]]) -> list[Json]:
    """Panels laid out row by row, each row with its height in grid units; ids count from 1."""
    placed: list[Json] = []
    y = 0
    for height, panels in rows:
        x = 0
        for panel in panels:
            grid: Json = {"x": x, "y": y, "w": panel.width, "h": height}
            placed.append(_panel(panel, len(placed) + 1, grid))
            x += panel.width
        y += height
    return placed


def _panel(panel: Panel, identity: int, grid: Json) -> Json:
    defaults: dict[str, Json] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 40 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "auto",
            "spanNulls": True,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": dict(DATASOURCE),
        "gridPos": grid,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": _targets(panel.queries, instant=panel.kind != "timeseries"),
    }


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    reduce: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "bargauge":
        return {"displayMode": "basic", "orientation": "horizontal", "reduceOptions": reduce}
    return {
        "colorMode": "none",
        "graphMode": "none",
        "reduceOptions": reduce,
        "textMode": "name" if panel.show_name else "value_and_name" if _named(panel) else "value",
    }


def _named(panel: Panel) -> bool:
    return any("{{" in query.legend for query in panel.queries)


def _targets(queries: Iterable[Query], *, instant: bool) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + index),
            "datasource": dict(DATASOURCE),
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
        }
        for index, query in enumerate(queries)
    ]
