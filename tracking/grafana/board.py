"""What the dashboards have in common: their frame, variables, and links to each other."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.json_types import Json
from tracking.grafana.panels import DATASOURCE, Panel, Query, Row, lines, place
from tracking.grafana.promql import metric, quantile

TAG = "servetune"


def board(
    name: str, title: str, description: str, rows: Sequence[Row], *variables: Json
) -> dict[str, Json]:
    """A dashboard as Grafana imports it.

    `name` is the last part of its uid and of its file's name; `variables` are chosen at its top
    after the data source and the runs.
    """
    return {
        "uid": f"{TAG}-{name}",
        "title": f"{TAG}: {title}",
        "description": description,
        "tags": [TAG],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "5s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), choice("run", "Run", _RUNS), *variables]},
        "annotations": {"list": []},
        "links": [_links()],
        "panels": place(rows),
    }


def choice(name: str, label: str, query: str) -> Json:
    """A variable whose values are those of a label; any number of them, all at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": dict(DATASOURCE),
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 4,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
    }


def latencies(
    short: str, long: str, histogram: str, limit: str, width: int, *matchers: str
) -> Panel:
    """Percentiles of a request's latency by engine, and the limits on it where it has some."""
    queries = [
        Query(
            quantile(share, f"request_{histogram}_seconds", "engine", matchers=matchers),
            f"p{share * 100:g} {{{{engine}}}}",
        )
        for share in (0.5, 0.9, 0.99)
    ]
    if limit:
        limits = metric("slo_limit_seconds", f'metric="{limit}"')
        queries.append(Query(limits, "limit on {{statistic}}"))
    return lines(
        f"{short} of measured requests",
        f"{long}, over all trials of an engine, as their stages end; the limits of the "
        "service-level objective are boundaries of the histogram.",
        "s",
        width,
        *queries,
    )


_RUNS = "label_values(servetune_study_info, run)"


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": TAG,
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }
