"""Throughput and latency against the load, for trials that were measured under several loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
from tracking.records import DISQUALIFYING, StageRecord, TrialRecord
from tracking.report_stages import shown_trial, slo_rate_words, stages_of
from tracking.run_data import RunData
from tracking.words import count, trial_list
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
    """A line a trial through its stages, by load; a load that was repeated has marks beside it."""

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
        return Drawn(_caption(data, kind, found), Table(_COLUMNS, rows), _figure(data, kind, found))


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


def _sound(stage: StageRecord) -> bool:
    return not DISQUALIFYING & frozenset(stage.measurement.flags)


def _steps(stages: Sequence[StageRecord]) -> list[StageRecord]:
    """One stage a load, by load: the last sound one, or the last one where none is."""
    chosen: dict[float, StageRecord] = {}
    for stage in sorted(stages, key=lambda one: (one.load_value, _sound(one), one.stage)):
        chosen[stage.load_value] = stage
    return list(chosen.values())


def _apart(stages: Sequence[StageRecord]) -> list[StageRecord | None]:
    """`_steps` to join by a line, and the other stages, each after a gap."""
    steps = _steps(stages)
    shown: list[StageRecord | None] = list(steps)
    for stage in stages:
        if stage not in steps:
            shown += [None, stage]
    return shown


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
    shown = _apart(stages)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": words,
        "legendgroup": str(trial.number),
        "showlegend": place == 0,
        "x": _each(shown, lambda stage: stage.load_value),
        "y": _each(shown, lambda stage: _figures(trial, stage.measurement)[place]),
        "xaxis": f"x{key}",
        "yaxis": f"y{key}",
        "line": {"color": colour, "width": 2},
        "marker": marker(
            colour,
            ["circle" if one and one.measurement.slo_met else "circle-open" for one in shown],
        ),
        "hovertemplate": f"{text(words)}<br>at %{{x:,.4g}}: %{{y:,.4g}}<extra></extra>",
    }


def _each(
    shown: Sequence[StageRecord | None], read: Callable[[StageRecord], float | None]
) -> list[float | None]:
    return [None if stage is None else read(stage) for stage in shown]


def _others(found: Sequence[Series], place: int, key: str) -> list[Trace]:
    """All other trials as one pale line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    words: list[str | None] = []
    for trial, stages in found:
        shown = [*_apart(stages), None]
        x += _each(shown, lambda stage: stage.load_value)
        y += [None if one is None else _figures(trial, one.measurement)[place] for one in shown]
        words += [None if one is None else f"trial {trial.number}" for one in shown]
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


def _caption(data: RunData, kind: str, found: Sequence[Series]) -> str:
    loads = [stage.load_value for _, stages in found for stage in stages]
    unit = "requests in flight" if kind == ConcurrencyLoad.kind else "requests/s"
    apart = any(None in _apart(stages) for _, stages in found)
    repeats = " Marks off the lines are repeats of a load." if apart else ""
    limited = any(stages[0].measurement.slo for _, stages in found)
    marks = " Hollow marks break the SLO, dotted lines are its limits." if limited else ""
    return (
        f"{count(len(found), 'trial')} measured at several loads, {number(min(loads))} to "
        f"{number(max(loads))} {unit}.{marks}{repeats}"
        f"{_held_words(data, unit, found) if limited else ''}"
    )


def _held_words(data: RunData, unit: str, found: Sequence[Series]) -> str:
    """Up to which load the SLO holds: what a search for it found, else what the stages show."""
    trial = shown_trial(data)
    searched = slo_rate_words(data, trial) if trial is not None else ""
    if trial is not None and searched:
        return f" The highest rate at which trial {trial.number} meets the SLO is {searched}."
    highest = {trial.number: _held_up_to(stages) for trial, stages in found}
    known = {one: value for one, value in highest.items() if value is not None}
    if not known:
        return " No trial met the SLO from its lowest load on."
    most = max(known.values())
    who = trial_list([one for one, value in known.items() if value == most], 3)
    return f" The highest load up to which a trial met the SLO is {number(most)} {unit} ({who})."


def _held_up_to(stages: Sequence[StageRecord]) -> float | None:
    """The highest load up to which every sound stage met the SLO; None where the lowest did not."""
    held: float | None = None
    for stage in filter(_sound, _steps(stages)):
        if not stage.measurement.slo_met:
            break
        held = stage.load_value
    return held
