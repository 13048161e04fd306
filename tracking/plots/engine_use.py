"""What bounded the engines: the objective against the pressure inside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracking.pareto import meets_slo
from tracking.plots._style import (
    STRONG,
    Trace,
    axis,
    figure,
    marker,
    name_keys,
    panels,
    text,
)
from tracking.plots._trials import engine_colours
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import EngineUse, TrialRecord
from tracking.report_stages import shown_stage
from tracking.run_data import RunData
from tracking.words import count, objective_unit, objective_words
from tracking.words import figure as number

_MOST_PANELS = 4


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _prefill_share(use: EngineUse) -> float | None:
    if use.prefill_mean_s is None or use.decode_mean_s is None:
        return None
    whole = (use.queue_mean_s or 0.0) + use.prefill_mean_s + use.decode_mean_s
    return 100 * use.prefill_mean_s / whole if whole > 0 else None


_FIGURES: Mapping[str, tuple[str, Callable[[EngineUse], float | None]]] = {
    "kv_cache_usage_max_percent": (
        "KV cache in use, highest (%)", lambda use: _percent(use.kv_cache_usage_max),
    ),
    "queue_mean_s": ("wait in the engine, mean (s)", lambda use: use.queue_mean_s),
    "preemptions": ("preemptions", lambda use: use.preemptions),
    "requests_waiting_mean": ("requests waiting, mean", lambda use: use.requests_waiting_mean),
    "prefill_share_percent": ("prefill's share of a request (%)", _prefill_share),
    "requests_running_mean": ("requests running, mean", lambda use: use.requests_running_mean),
}  # fmt: skip
"""Column, and what stands on its axis; the first that vary are drawn."""


@dataclass(frozen=True, slots=True)
class _Used:
    """A trial and what its engine said while its deciding stage was measured."""

    trial: TrialRecord
    use: EngineUse
    objective: float


@PLOTS.register("engine_use")
class EngineUsePlot(Plot):
    """The deciding objective over KV-cache use, queueing, preemptions and prefill."""

    name = "engine_use"
    title = "What bounded the engines"
    position = 95

    def draw(self, data: RunData) -> Drawn | None:
        found = _used(data)
        shown = [name for name in _FIGURES if _varies(name, found)][:_MOST_PANELS]
        if len(found) < 2 or not shown:
            return None
        goal = data.goals[0].name
        rows = tuple(
            (
                one.trial.number,
                one.trial.engine,
                one.trial.gpus,
                *(read(one.use) for _, read in _FIGURES.values()),
                one.objective,
                meets_slo(one.trial),
            )
            for one in found
        )
        columns = ("trial", "engine", "gpus", *_FIGURES, goal, "slo_met")
        return Drawn(_caption(data, found), Table(columns, rows), _figure(data, found, shown))


def _used(data: RunData) -> list[_Used]:
    goal = data.goals[0].name
    found = []
    for trial in data.ranked():
        stage = shown_stage(data, trial)
        if stage is not None and stage.engine_use is not None:
            found.append(_Used(trial, stage.engine_use, trial.objectives[goal]))
    return found


def _varies(name: str, found: Sequence[_Used]) -> bool:
    values = {_FIGURES[name][1](one.use) for one in found}
    return len(values - {None}) > 1


def _figure(data: RunData, found: Sequence[_Used], shown: Sequence[str]) -> dict[str, Any]:
    goal = data.goals[0].name
    unit = objective_unit(goal)
    colours = engine_colours(data, (one.trial for one in found))
    layout: dict[str, Any] = {"height": 400}
    title = f"{objective_words(goal)} ({unit})" if unit else objective_words(goal)
    layout["yaxis"] = axis(text(title), rangemode="tozero")
    traces: list[Trace] = []
    for place, (domain, name) in enumerate(zip(panels(len(shown), 0.04), shown, strict=True)):
        at = "" if place == 0 else str(place + 1)
        words, read = _FIGURES[name]
        layout[f"xaxis{at}"] = axis(words, domain=domain, rangemode="tozero", nticks=6)
        for engine, colour in colours.items():
            mine = [one for one in found if one.trial.engine == engine]
            traces.append(_points(engine, colour, mine, at, read))
        traces.append(_ring(found[0], at, read))
    return figure([*traces, *name_keys(colours)], **layout)


def _points(
    engine: str,
    colour: str,
    found: Sequence[_Used],
    at: str,
    read: Callable[[EngineUse], float | None],
) -> Trace:
    """Those that break the SLO first, so that the others lie above them."""
    ordered = sorted(found, key=lambda one: meets_slo(one.trial))
    met = [meets_slo(one.trial) for one in ordered]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": text(engine),
        "legendgroup": text(engine),
        "showlegend": False,
        "x": [read(one.use) for one in ordered],
        "y": [one.objective for one in ordered],
        "xaxis": f"x{at}",
        "marker": marker(
            colour,
            ["circle" if one else "circle-open" for one in met],
            len(found),
        ),
        "cliponaxis": False,
        "text": [f"trial {one.trial.number}, {count(one.trial.gpus, 'GPU')}" for one in ordered],
        "hovertemplate": "%{fullData.name} %{text}<br>%{x:,.4g} → %{y:,.4g}<extra></extra>",
    }


def _ring(best: _Used, at: str, read: Callable[[EngineUse], float | None]) -> Trace:
    return {
        "type": "scatter", "mode": "markers", "name": f"best (trial {best.trial.number})",
        "legendgroup": "best", "showlegend": not at, "x": [read(best.use)],
        "y": [best.objective], "xaxis": f"x{at}", "hoverinfo": "skip", "cliponaxis": False,
        "marker": {
            "symbol": "circle-open", "size": 18, "color": STRONG, "line": {"width": 2},
        },
    }  # fmt: skip


def _caption(data: RunData, found: Sequence[_Used]) -> str:
    best = found[0]
    said = []
    if best.use.kv_cache_usage_max is not None:
        said.append(f"filled its KV cache to {100 * best.use.kv_cache_usage_max:.0f} % at most")
    if best.use.queue_mean_s is not None:
        said.append(f"let requests wait {number(1000 * best.use.queue_mean_s)} ms on average")
    if best.use.preemptions is not None:
        said.append(f"preempted {number(best.use.preemptions)} requests")
    words = f" Trial {best.trial.number} (best) {', '.join(said)}." if said else ""
    goal = objective_words(data.goals[0].name)
    return (
        f"{goal[:1].upper()}{goal[1:]} of each trial against what its engine "
        f"said of itself while it was measured: a full KV cache, preemptions or long waits name "
        f"what to give it more of.{words}"
    )
