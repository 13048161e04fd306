"""Dashboards read back for tests: panels, their queries, and what a Grafana would substitute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtimes.json_types import Json
from tracking.grafana.write import dashboards

EVERYTHING: Mapping[str, str] = {"run": ".*", "trial": ".*", "engine": ".*"}
"""What Grafana puts in for our variables while all their values are chosen."""


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of one panel; `str` names it in a test's output."""

    dashboard: str
    panel: str
    ref: str
    expr: str
    legend: str

    def __str__(self) -> str:
        return f"{self.dashboard.removesuffix('.json')}: {self.panel} {self.ref}"

    def substituted(self, rate_interval: str, variables: Mapping[str, str] = EVERYTHING) -> str:
        """The expression as Grafana sends it: a duration for the interval, a regex for the rest."""
        expr = self.expr.replace("$__rate_interval", rate_interval)
        for name, value in variables.items():
            expr = expr.replace(f'"${name}"', f'"{value}"')
        return expr


def mapping(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict), value
    return value


def sequence(value: Json) -> list[Json]:
    assert isinstance(value, list), value
    return value


def text(value: Json) -> str:
    assert isinstance(value, str), value
    return value


def number(value: Json) -> int:
    assert isinstance(value, int), value
    return value


def panels(dashboard: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Every panel, headings of sections left out."""
    return [panel for panel in boxes(dashboard) if panel["type"] != "row"]


def boxes(dashboard: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Everything that takes room, headings included."""
    return [mapping(panel) for panel in sequence(dashboard["panels"])]


def variables(dashboard: Mapping[str, Json]) -> list[dict[str, Json]]:
    return [mapping(item) for item in sequence(mapping(dashboard["templating"])["list"])]


def queries_of(name: str, dashboard: Mapping[str, Json]) -> list[PanelQuery]:
    """Every query of every panel of the dashboard in the file `name`."""
    return [
        PanelQuery(
            dashboard=name,
            panel=text(panel["title"]),
            ref=text(target["refId"]),
            expr=text(target["expr"]),
            legend=text(target["legendFormat"]),
        )
        for panel in panels(dashboard)
        for target in map(mapping, sequence(panel["targets"]))
    ]


def queries() -> list[PanelQuery]:
    """Every query of every panel of every dashboard."""
    return [query for name, board in dashboards().items() for query in queries_of(name, board)]
