"""Throughput and latency against the load, for trials that were measured under several loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.measurement import Measurement
from runtimes.slo import SloLimit
from tracking.plots._style import (
    FAINT,
    STRONG,
    Trace,
    axis,
    figure,
    heading,
    log_axis,
    marker,
    panels,
    text,
)
from tracking.plots._trials import role_colours, roles
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import StageRecord, TrialRecord
from tracking.report_stages import stages_of
from tracking.run_data import RunData
from tracking.words import count
from tracking.words import figure as number

_OTHERS = 60
_COLUMNS = (
    "trial", "attempt", "stage", "load", "load_value", "output_tokens_per_s_per_gpu",
    "ttft_p99_ms", "tpot_p99_ms", "slo_met", "deciding", "stopped_by",
)  # fmt: skip
_PANELS = ("output tokens/s of one GPU", "TTFT p99 (ms)", "TPOT p99 (ms)")
_METRICS = ("", "ttft_ms", "tpot_ms")

Series = tuple[TrialRecord, list[StageRecord]]


@PLOTS.register("load")
class LoadPlot(Plot):
    """A line a trial through its stages, by load."""

    name = "load"
    title = "Throughput and latency against load"
    position = 70

    def draw(self, data: RunData) -> Drawn | None:
        kind, found = _series(data)
        if not found:
            return None
        rows = tuple(
            (
                trial.number,
                trial.attempt,
                stage.stage,
                stage.load,
                stage.load_value,
                *_figures(trial, stage.measurement),
                stage.measurement.slo_met if stage.measurement.slo else None,
                stage.stage == trial.deciding_stage,
                stage.measurement.stopped_by,
            )
            for trial, stages in found
            for stage in stages
        )
        return Drawn(_caption(kind, found), Table(_COLUMNS, rows), _figure(data, kind, found))


def _series(data: RunData) -> tuple[str, list[Series]]:
    """The kind of load that most stages have, and the trials with at least two loads of it.

    A stage that was repeated because a device was throttled is left out.
    """
    found: list[Series] = []
    kinds: Counter[str] = Counter()
    for trial in data.last_attempts():
        stages = stages_of(data, trial)
        repeated = {stage.repeat_of for stage in stages}
        kept = [stage for stage in stages if stage.stage not in repeated]
        found.append((trial, kept))
        kinds.update(stage.load for stage in kept)
    kind = kinds.most_common(1)[0][0] if kinds else ""
    chosen = []
    for trial, stages in found:
        mine = sorted(
            (stage for stage in stages if stage.load == kind), key=lambda one: one.load_value
        )
        if len({stage.load_value for stage in mine}) > 1:
            chosen.append((trial, mine))
    return kind, chosen


def _figures(
    trial: TrialRecord, measured: Measurement
) -> tuple[float | None, float | None, float | None]:
    rate = measured.output_throughput
    ttft, tpot = measured.ttft_ms, measured.tpot_ms
    return (
        None if rate is None else rate / trial.gpus,
        None if ttft is None else ttft.p99,
        None if tpot is None else tpot.p99,
    )


def _figure(data: RunData, kind: str, found: Sequence[Series]) -> dict[str, Any]:
    chosen = roles(data)
    named = {role.trial.number: role for role in chosen}
    colours = role_colours(chosen)
    series = {trial.number: (trial, stages) for trial, stages in found}
    special = [series[number] for number in named if number in series]
    others = [one for one in found if one[0].number not in named][:_OTHERS]
    title = "requests in flight" if kind == ConcurrencyLoad.kind else "requests/s asked for"
    loads = [stage.load_value for _, stages in found for stage in stages]
    limits = _limits(found)
    layout: dict[str, Any] = {"annotations": [], "height": 420}
    traces: list[Trace] = []
    for place, domain in enumerate(panels(3)):
        key = "" if place == 0 else str(place + 1)
        across = log_axis if max(loads) > 8 * min(loads) > 0 else _linear
        layout[f"xaxis{key}"] = across(title, loads, domain=domain, anchor=f"y{key}")
        mine = [limit for limit in limits if limit.metric == _METRICS[place]]
        values = [
            _figures(trial, stage.measurement)[place] for trial, stages in found for stage in stages
        ]
        layout[f"yaxis{key}"] = (
            log_axis("", [*values, *(limit.limit_ms for limit in mine)], anchor=f"x{key}")
            if place
            else axis(anchor="x", rangemode="tozero")
        )
        layout["annotations"].append(heading(_PANELS[place], sum(domain) / 2, 1.01))
        traces += _others(others, place, key)
        for trial, stages in special:
            words = named[trial.number].words
            traces.append(_line(trial, stages, place, key, colours[trial.number], words))
        traces += [_limit(limit, min(loads), max(loads), key) for limit in mine]
    layout["margin"] = {"l": 64, "r": 24, "t": 72, "b": 56}
    return figure(traces, **layout)


def _linear(title: str, _: Sequence[float], **more: Any) -> Trace:
    return axis(title, **more)


def _limits(found: Sequence[Series]) -> list[SloLimit]:
    """Limits of the percentile that is drawn."""
    verdicts = found[0][1][0].measurement.slo
    return [verdict.limit for verdict in verdicts if verdict.limit.statistic == "p99"]


def _line(
    trial: TrialRecord, stages: Sequence[StageRecord], place: int, key: str, colour: str, words: str
) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": words,
        "legendgroup": str(trial.number),
        "showlegend": place == 0,
        "x": [stage.load_value for stage in stages],
        "y": [_figures(trial, stage.measurement)[place] for stage in stages],
        "xaxis": f"x{key}",
        "yaxis": f"y{key}",
        "line": {"color": colour, "width": 2},
        "marker": marker(
            colour,
            ["circle" if stage.measurement.slo_met else "circle-open" for stage in stages],
        ),
        "hovertemplate": f"{text(words)}<br>at %{{x:,.4g}}: %{{y:,.4g}}<extra></extra>",
    }


def _others(found: Sequence[Series], place: int, key: str) -> list[Trace]:
    """All other trials as one pale line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    words: list[str | None] = []
    for trial, stages in found:
        x += [*(stage.load_value for stage in stages), None]
        y += [*(_figures(trial, stage.measurement)[place] for stage in stages), None]
        words += [*([f"trial {trial.number}"] * len(stages)), None]
    if not x:
        return []
    return [{
        "type": "scatter", "mode": "lines+markers", "name": "other trials", "x": x, "y": y,
        "legendgroup": "others", "showlegend": place == 0, "xaxis": f"x{key}", "yaxis": f"y{key}",
        "line": {"color": FAINT, "width": 1}, "marker": {"size": 4}, "text": words,
        "hovertemplate": "%{text}<br>at %{x:,.4g}: %{y:,.4g}<extra></extra>",
    }]  # fmt: skip


def _limit(limit: SloLimit, low: float, high: float, key: str) -> Trace:
    return {
        "type": "scatter", "mode": "lines", "name": text(str(limit)), "showlegend": False,
        "x": [low, high], "y": [limit.limit_ms] * 2, "xaxis": f"x{key}", "yaxis": f"y{key}",
        "line": {"color": STRONG, "width": 1.5, "dash": "dot"},
        "hovertemplate": f"limit: {text(str(limit))}<extra></extra>",
    }  # fmt: skip


def _caption(kind: str, found: Sequence[Series]) -> str:
    loads = [stage.load_value for _, stages in found for stage in stages]
    unit = "requests in flight" if kind == ConcurrencyLoad.kind else "requests/s"
    highest = [
        max((s.load_value for s in stages if s.measurement.slo_met), default=None)
        for _, stages in found
        if stages[0].measurement.slo
    ]
    known = [value for value in highest if value is not None]
    held = (
        f" The highest load at which a trial met the service-level objective is "
        f"{number(max(known))} {unit}."
        if known
        else " No trial met the service-level objective at any load."
        if highest
        else ""
    )
    return (
        f"{count(len(found), 'trial')} measured at several loads, {number(min(loads))} to "
        f"{number(max(loads))} {unit}. Hollow marks break the SLO, dotted lines are its limits."
        f"{held}"
    )
