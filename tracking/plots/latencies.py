"""How latencies are distributed over requests, for the trials that matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runtimes.measurement import PERCENTILES, Distribution, percentile_name
from runtimes.slo import LATENCY_METRICS, SloLimit
from tracking.plots._style import (
    STRONG,
    Trace,
    axis,
    figure,
    heading,
    log_axis,
    text,
)
from tracking.plots._trials import Role, role_colours, roles
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.run_data import RunData
from tracking.words import figure as number

_WORDS = {
    "ttft_ms": "time to first token (TTFT)",
    "tpot_ms": "time per output token (TPOT)",
    "itl_ms": "gap between chunks (ITL)",
    "e2e_ms": "whole request (E2E)",
}
Curve = tuple[Role, str, Sequence[tuple[float, float]]]
"""Whose, which latency, and (ms, percentile) from the lowest on."""


@PLOTS.register("latencies")
class LatenciesPlot(Plot):
    """Cumulative distributions, one drawing a latency, with the limits of the SLO."""

    name = "latencies"
    title = "How latencies are distributed"
    position = 60

    def draw(self, data: RunData) -> Drawn | None:
        curves = list(_curves(roles(data)))
        if not curves:
            return None
        metrics = [m for m in LATENCY_METRICS if any(name == m for _, name, _ in curves)]
        limits = _limits(curves)
        columns = ("trial", "role", "latency", "percentile", "value_ms", "limit_ms")
        rows = tuple(
            (
                role.trial.number,
                role.name,
                metric.removesuffix("_ms"),
                percentile,
                value,
                next((x.limit_ms for x in limits if _limited_here(x, metric, percentile)), None),
            )
            for role, metric, points in curves
            for value, percentile in points
        )
        return Drawn(
            _caption(curves, limits), Table(columns, rows), _figure(curves, metrics, limits)
        )


def points_of(latency: Distribution) -> list[tuple[float, float]]:
    """(ms, percentile) of every percentile that is recorded, extremes included."""
    found = [(getattr(latency, percentile_name(share)), share) for share in PERCENTILES]
    every = [(latency.min, 0.0), *found, (latency.max, 100.0)]
    return [(value, share) for value, share in every if value is not None]


def _curves(chosen: Sequence[Role]) -> Iterator[Curve]:
    for metric in LATENCY_METRICS:
        for role in chosen:
            measured = role.trial.measurement
            latency = getattr(measured, metric) if measured is not None else None
            if latency is not None:
                yield role, metric, points_of(latency)


def _limits(curves: Sequence[Curve]) -> tuple[SloLimit, ...]:
    measured = curves[0][0].trial.measurement
    return tuple(verdict.limit for verdict in measured.slo) if measured is not None else ()


def _limited_here(limit: SloLimit, metric: str, percentile: float) -> bool:
    return limit.metric == metric and limit.percentile == percentile


def _figure(
    curves: Sequence[Curve], metrics: Sequence[str], limits: Sequence[SloLimit]
) -> dict[str, Any]:
    columns = 2 if len(metrics) > 1 else 1
    across = [[0.0, 0.455], [0.545, 1.0]] if columns == 2 else [[0.0, 1.0]]
    lines = -(-len(metrics) // columns)
    up = [[0.58, 1.0], [0.0, 0.4]] if lines == 2 else [[0.0, 1.0]]
    traces: list[Trace] = []
    layout: dict[str, Any] = {"annotations": [], "height": 130 + 290 * lines}
    named: set[int] = set()
    colours = role_colours(list({id(role): role for role, _, _ in curves}.values()))
    for place, metric in enumerate(metrics):
        key = "" if place == 0 else str(place + 1)
        mine = [curve for curve in curves if curve[1] == metric]
        own_limits = [limit for limit in limits if limit.metric == metric]
        values = [value for _, _, points in mine for value, share in points if share >= 1]
        values += [limit.limit_ms for limit in own_limits]
        domain, row = across[place % columns], up[place // columns]
        layout[f"xaxis{key}"] = log_axis("ms", values, domain=domain, anchor=f"y{key}")
        layout[f"yaxis{key}"] = axis(
            "% of gaps" if metric == "itl_ms" else "% of requests",
            domain=row,
            anchor=f"x{key}",
            range=[-2, 102],
            tickvals=[0, 25, 50, 75, 90, 99] if lines == 1 else [0, 25, 50, 75, 100],
        )
        layout["annotations"].append(heading(_WORDS[metric], sum(domain) / 2, row[1]))
        traces += [_curve(curve, key, colours[curve[0].trial.number], named) for curve in mine]
        traces += [_limit(limit, key) for limit in own_limits]
    layout["margin"] = {"l": 64, "r": 24, "t": 72, "b": 56}
    return figure(traces, **layout)


def _curve(curve: Curve, key: str, colour: str, named: set[int]) -> Trace:
    role, _, points = curve
    first = role.trial.number not in named
    named.add(role.trial.number)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": role.words,
        "legendgroup": str(role.trial.number),
        "showlegend": first,
        "x": [value for value, _ in points],
        "y": [share for _, share in points],
        "xaxis": f"x{key}",
        "yaxis": f"y{key}",
        "line": {
            "color": colour,
            "width": 2.5 if role.name == "best" else 1.5,
            "dash": "dash" if role.name == "baseline" else "solid",
        },
        "marker": {"size": 4},
        "hovertemplate": f"{text(role.words)}<br>%{{y}} % within %{{x:,.4g}} ms<extra></extra>",
    }


def _limit(limit: SloLimit, key: str) -> Trace:
    """A vertical line, with a mark where the percentile that it limits has to be left of it."""
    at = limit.percentile
    return {
        "type": "scatter",
        "mode": "lines+markers" if at is not None else "lines",
        "name": text(str(limit)),
        "legendgroup": "limits",
        "showlegend": False,
        "x": [limit.limit_ms] * 3,
        "y": [0, 100 if at is None else at, 100],
        "xaxis": f"x{key}",
        "yaxis": f"y{key}",
        "line": {"color": STRONG, "width": 1.5, "dash": "dot"},
        "marker": {"symbol": "triangle-left", "color": STRONG, "size": [0, 10, 0]},
        "hovertemplate": f"limit: {text(str(limit))}<extra></extra>",
    }


def _caption(curves: Sequence[Curve], limits: Sequence[SloLimit]) -> str:
    best = curves[0][0]
    verdicts = best.trial.measurement.slo if best.trial.measurement is not None else ()
    said = [
        f"a {verdict.limit.metric.removesuffix('_ms').upper()} {verdict.limit.statistic} of "
        f"{number(verdict.value_ms)} ms where {verdict.limit.limit_ms:g} ms are allowed"
        for verdict in verdicts
        if verdict.value_ms is not None
    ]
    words = f" Trial {best.trial.number} ({best.name}) has {' and '.join(said)}." if said else ""
    lines = " Dotted lines are limits, with a mark at the percentile they hold for."
    return (
        "A curve shows which share of the requests, or of the gaps between chunks, took no longer; "
        f"further left is faster.{lines if limits else ''}{words}"
    )
