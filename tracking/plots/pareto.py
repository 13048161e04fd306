"""Speed for one user against output of one GPU, each completed trial a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.trial import TrialState
from tracking.pareto import meets_slo
from tracking.plots._style import (
    GREY,
    STRONG,
    Trace,
    axis,
    figure,
    key,
    marker,
    name_keys,
    symbols_of,
    text,
)
from tracking.plots._trials import (
    Settings,
    eligible,
    engine_colours,
    hover,
    ineligible_words,
    settings,
    settings_words,
    subjects,
    varying_names,
)
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.summary import all_flags
from tracking.words import count
from tracking.words import figure as number

_COLUMNS = (
    "trial", "attempt", "engine", "gpus", "user_tokens_per_s", "gpu_tokens_per_s", "slo_met",
    "front", "best", "baseline", "doubtful", "flags", "parameters",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One completed trial.

    Attributes:
        user_tokens_per_s: 1000 / mean time per output token in ms: the speed one user sees.
        gpu_tokens_per_s: output tokens per second and GPU.
    """

    trial: TrialRecord
    user_tokens_per_s: float
    gpu_tokens_per_s: float


def points(data: RunData) -> list[Point]:
    """Completed trials with a time per output token, in order of number."""
    found = []
    for trial in subjects(data):
        measured = trial.measurement
        if trial.state is not TrialState.COMPLETED or measured is None:
            continue
        if measured.tpot_ms is None or measured.tpot_ms.mean <= 0:
            continue
        if measured.output_throughput is None:
            continue
        user = 1000.0 / measured.tpot_ms.mean
        found.append(Point(trial, user, measured.output_throughput / trial.gpus))
    return found


def frontier(found: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in both directions, from the slowest user to the fastest.

    Of those that meet the SLO and are comparable, or of all where none is.
    """
    front: list[Point] = []
    for point in sorted(
        _rivals(found), key=lambda one: (-one.user_tokens_per_s, -one.gpu_tokens_per_s)
    ):
        if not front or point.gpu_tokens_per_s > front[-1].gpu_tokens_per_s:
            front.append(point)
    return front[::-1]


def _rivals(found: Sequence[Point]) -> list[Point]:
    return [point for point in found if eligible(point.trial)] or list(found)


@PLOTS.register("pareto")
class ParetoPlot(Plot):
    """Output tokens/s/GPU over output tokens/s/user."""

    name = "pareto"
    title = "Speed for a user against output of a GPU"
    position = 10

    def draw(self, data: RunData) -> Drawn | None:
        found = points(data)
        if not found:
            return None
        front = frontier(found)
        own = settings(data)
        traces = [_front_trace(front), *_point_traces(data, found, own), *_notes(data, found)]
        drawn = figure(
            traces,
            height=500,
            xaxis=axis("output tokens/s for one user (1000 / mean TPOT in ms)", rangemode="tozero"),
            yaxis=axis("output tokens/s of one GPU", rangemode="tozero"),
        )
        return Drawn(_caption(data, found, front), _table(data, found, front, own), drawn)


def _front_trace(front: Sequence[Point]) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [point.user_tokens_per_s for point in front],
        "y": [point.gpu_tokens_per_s for point in front],
        "line": {"color": GREY, "width": 2, "dash": "dot"},
        "hoverinfo": "skip",
    }


def _point_traces(data: RunData, found: Sequence[Point], own: Settings) -> list[Trace]:
    """Points engine by engine, those that break the SLO below the others; then the legend."""
    colours = engine_colours(data, (point.trial for point in found))
    symbols = symbols_of(point.trial.gpus for point in found)
    names = varying_names(own)
    traces = []
    for met in (False, True):
        for engine, colour in colours.items():
            mine = [p for p in found if p.trial.engine == engine and meets_slo(p.trial) is met]
            if mine:
                shapes = [symbols[p.trial.gpus] + ("" if met else "-open") for p in mine]
                traces.append({
                    "type": "scatter",
                    "mode": "markers",
                    "name": text(engine),
                    "legendgroup": text(engine),
                    "showlegend": False,
                    "x": [point.user_tokens_per_s for point in mine],
                    "y": [point.gpu_tokens_per_s for point in mine],
                    "marker": marker(colour, shapes, len(found)),
                    "hovertext": [_hover(data, point, own, names) for point in mine],
                    "hoverinfo": "text",
                })  # fmt: skip
    keys = name_keys(colours)
    keys += [key(count(gpus, "GPU"), symbol) for gpus, symbol in symbols.items()]
    if not all(meets_slo(point.trial) for point in found):
        keys.append(key("hollow: breaks the SLO", "circle-open"))
    return [*traces, *keys]


def _hover(data: RunData, point: Point, own: Settings, names: Sequence[str]) -> str:
    user, gpu = number(point.user_tokens_per_s), number(point.gpu_tokens_per_s)
    speeds = f"{user} tokens/s/user, {gpu} tokens/s/GPU"
    return hover(data, point.trial, own[point.trial.number], names, speeds)


def _notes(data: RunData, found: Sequence[Point]) -> list[Trace]:
    """A ring around the best trial and around the baseline, named beside it."""
    best, baseline = data.best(), data.baseline()
    marked: dict[int, list[str]] = {}
    for words, trial in (("best", best), ("baseline", baseline)):
        if trial is not None:
            marked.setdefault(trial.number, []).append(words)
    fastest = max(point.user_tokens_per_s for point in found)
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [point.user_tokens_per_s],
            "y": [point.gpu_tokens_per_s],
            "text": [f"<b>{' and '.join(marked[point.trial.number])}</b>"],
            "textposition": "middle left"
            if point.user_tokens_per_s > 0.85 * fastest
            else "middle right",
            "textfont": {"color": STRONG if "best" in marked[point.trial.number] else GREY},
            "marker": {
                "color": STRONG if "best" in marked[point.trial.number] else GREY,
                "symbol": "circle-open",
                "size": 20,
                "line": {"width": 2},
            },
            "showlegend": False,
            "hoverinfo": "skip",
            "cliponaxis": False,
        }
        for point in found
        if point.trial.number in marked
    ]


def _caption(data: RunData, found: Sequence[Point], front: Sequence[Point]) -> str:
    meeting = sum(meets_slo(point.trial) for point in found)
    limited = any(point.trial.measurement and point.trial.measurement.slo for point in found)
    met = f" {meeting:,} of {len(found):,} meet the service-level objective." if limited else ""
    return (
        f"Each point is a completed trial; further right is faster, higher is cheaper.{met}"
        f"{_front_words(found, front)}"
    )


def _front_words(found: Sequence[Point], front: Sequence[Point]) -> str:
    """What is ahead, and of which trials; empty where there is nothing to be ahead of."""
    rivals = _rivals(found)
    if len(rivals) == 1:
        return ""
    fast, cheap = front[-1], front[0]
    left_out = ineligible_words(point.trial for point in found)
    of = f", without trials that {left_out}," if left_out and len(rivals) < len(found) else ""
    return (
        f" The front{of} holds {count(len(front), 'trial')}, from trial {cheap.trial.number} with "
        f"{number(cheap.gpu_tokens_per_s)} tokens/s/GPU to trial {fast.trial.number} with "
        f"{number(fast.user_tokens_per_s)} tokens/s for one user."
        if len(front) > 1
        else f" Trial {fast.trial.number} is ahead in both{of.rstrip(',')}."
    )


def _table(data: RunData, found: Sequence[Point], front: Sequence[Point], own: Settings) -> Table:
    best, baseline = data.best(), data.baseline()
    ahead = {point.trial.number for point in front}
    names = varying_names(own)
    goals = [goal.name for goal in data.goals]
    rows = [
        (
            trial.number,
            trial.attempt,
            trial.engine,
            trial.gpus,
            point.user_tokens_per_s,
            point.gpu_tokens_per_s,
            meets_slo(trial),
            trial.number in ahead,
            best is not None and trial.number == best.number,
            baseline is not None and trial.number == baseline.number,
            bool(trial.doubts),
            " ".join(all_flags(trial)),
            settings_words(own[trial.number], names),
            *(trial.objectives.get(goal) for goal in goals),
        )
        for point in found
        for trial in (point.trial,)
    ]
    return Table((*_COLUMNS, *goals), tuple(rows))
