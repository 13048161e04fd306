"""Dashboards read back for tests: panels, their queries, and what a Grafana would substitute."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.json_types import Json
from tracking.grafana.write import dashboards


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of one panel; `str` names it in a test's output."""

    dashboard: str
    panel: str
    ref: str
    expr: str
    legend: str

    def __str__(self) -> str:
        return f"{self.panel} {self.ref}"

    def substituted(self, rate_interval: str) -> str:
        """The expression as Grafana sends it with every driver chosen."""
        return self.expr.replace("$__rate_interval", rate_interval).replace("$instance", ".*")


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


def panels(dashboard: dict[str, Json]) -> list[dict[str, Json]]:
    return [mapping(panel) for panel in sequence(dashboard["panels"])]


def queries() -> list[PanelQuery]:
    """Every query of every panel of every dashboard."""
    return [
        PanelQuery(
            dashboard=name,
            panel=text(panel["title"]),
            ref=text(target["refId"]),
            expr=text(target["expr"]),
            legend=text(target["legendFormat"]),
        )
        for name, dashboard in dashboards().items()
        for panel in panels(dashboard)
        for target in map(mapping, sequence(panel["targets"]))
    ]
