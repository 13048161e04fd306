"""The deciding objective over the trials of a run, and the best one so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.trial import TrialState
from tracking.pareto import meets_slo
from tracking.plots._style import (
    FAINT,
    GREY,
    STATE_COLOURS,
    STRONG,
    Trace,
    axis,
    figure,
    key,
    lines,
    marker,
    name_axis,
    text,
)
from tracking.plots._trials import broken_words, eligible, engine_colours, subjects, title_words
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import Goal, RunData
from tracking.words import count, duration, objective_unit, objective_value, objective_words

_UNMEASURED = (
    TrialState.PRUNED, TrialState.INFEASIBLE, TrialState.FAILED, TrialState.CANCELLED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Step:
    """A finished trial, and the best value there was with it.

    Attributes:
        at_s: when it ended, after the first start; None where the record does not say.
    """

    trial: TrialRecord
    at_s: float | None
    value: float | None
    best_so_far: float | None


@PLOTS.register("history")
class HistoryPlot(Plot):
    """Objective over trial number, or over time by a button."""

    name = "history"
    title = "How the search went"
    position = 20

    def draw(self, data: RunData) -> Drawn | None:
        steps = _steps(data)
        if not any(step.value is not None for step in steps):
            return None
        goal = data.goals[0].name
        traces = _traces(data, steps)
        states = [state for state in _UNMEASURED if any(s.trial.state is state for s in steps)]
        strip = 0.055 * len(states)
        drawn = figure(
            [item.trace for item in traces],
            height=430 + 24 * len(states),
            xaxis=axis("trial", anchor="y2" if states else "y"),
            yaxis=axis(
                _axis_title(goal),
                domain=[strip + 0.03 if states else 0, 1],
                rangemode="normal" if _differ(steps) else "tozero",
            ),
            **(_strip(states, strip) if states else {}),
            updatemenus=[_buttons(traces)] if _timed(steps) else [],
        )
        columns = ("trial", "attempt", "state", "engine", "ended_s", goal, "best_so_far", "slo_met")
        rows = tuple(
            (
                step.trial.number,
                step.trial.attempt,
                step.trial.state.value,
                step.trial.engine,
                step.at_s,
                step.value,
                step.best_so_far,
                meets_slo(step.trial) if step.value is not None else None,
            )
            for step in steps
        )
        return Drawn(_caption(data, steps), Table(columns, rows), drawn)


def _steps(data: RunData) -> list[_Step]:
    """Finished trials in order of number; the best so far is taken in that order."""
    goal = data.goals[0]
    finished = [trial for trial in subjects(data) if trial.state.is_finished]
    started = min(
        (trial.started_unix_s for trial in data.trials if trial.started_unix_s is not None),
        default=0.0,
    )
    steps = []
    for trial in finished:
        completed = trial.state is TrialState.COMPLETED
        value = trial.objectives.get(goal.name) if completed else None
        ended = trial.ended_unix_s
        steps.append(_Step(trial, None if ended is None else ended - started, value, None))
    return _with_best(goal, steps)


def _with_best(goal: Goal, steps: Sequence[_Step]) -> list[_Step]:
    """The steps with the best value up to each; of those that meet the SLO, if any does."""
    held_to = any(_counts(step) for step in steps)
    found = []
    best: float | None = None
    for step in steps:
        value = step.value
        if value is not None and (_counts(step) or not held_to):
            best = value if best is None or goal.better(value, best) else best
        found.append(replace(step, best_so_far=best))
    return found


def _counts(step: _Step) -> bool:
    return step.trial.state is TrialState.COMPLETED and eligible(step.trial)


def _differ(steps: Sequence[_Step]) -> bool:
    """Whether there are values to tell apart; an axis around one alone would show digits of it."""
    return len({step.value for step in steps if step.value is not None}) > 1


def _timed(steps: Sequence[_Step]) -> bool:
    return all(step.at_s is not None for step in steps)


def _axis_title(goal: str) -> str:
    unit = objective_unit(goal)
    return text(f"{objective_words(goal)} ({unit})" if unit else objective_words(goal))


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A trace over the number of the trial, and the steps it would show over time."""

    trace: Trace
    by_time: Sequence[_Step]
    best: bool = False

    def over_time(self) -> tuple[list[float], list[Any]]:
        """Minutes since the start, and what stands at them."""
        minutes = [(step.at_s or 0.0) / 60 for step in self.by_time]
        return minutes, [s.best_so_far for s in self.by_time] if self.best else self.trace["y"]


def _traces(data: RunData, steps: Sequence[_Step]) -> list[_Drawing]:
    ordered = _with_best(data.goals[0], sorted(steps, key=lambda step: step.at_s or 0.0))
    found = [_Drawing(_best_line(steps), ordered, best=True)]
    baseline = data.baseline()
    if baseline is not None and data.goals[0].name in baseline.objectives and len(steps) > 1:
        line = _baseline_line(data, baseline, [steps[0], steps[-1]])
        found.append(_Drawing(line, [ordered[0], ordered[-1]]))
    measured = [step for step in steps if step.value is not None]
    for engine, colour in engine_colours(data, (step.trial for step in measured)).items():
        mine = [step for step in measured if step.trial.engine == engine]
        found.append(_Drawing(_markers(data, engine, colour, mine, len(measured)), mine))
        found.append(_Drawing(key(text(engine), "circle", colour, legendgroup=text(engine)), []))
    states = [state for state in _UNMEASURED if any(s.trial.state is state for s in steps)]
    for row, state in enumerate(states):
        mine = [step for step in steps if step.trial.state is state]
        found.append(_Drawing(_rug(state, row, mine), mine))
    return found


def _best_line(steps: Sequence[_Step]) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "x": [step.trial.number for step in steps],
        "y": [step.best_so_far for step in steps],
        "line": {"color": STRONG, "width": 2, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _baseline_line(data: RunData, baseline: TrialRecord, ends: Sequence[_Step]) -> Trace:
    value = baseline.objectives[data.goals[0].name]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"baseline (trial {baseline.number})",
        "x": [step.trial.number for step in ends],
        "y": [value, value],
        "line": {"color": GREY, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _markers(data: RunData, engine: str, colour: str, steps: Sequence[_Step], points: int) -> Trace:
    goal = data.goals[0].name
    return {
        "type": "scatter",
        "mode": "markers",
        "name": text(engine),
        "x": [step.trial.number for step in steps],
        "y": [step.value for step in steps],
        "legendgroup": text(engine),
        "showlegend": False,
        "marker": marker(
            colour,
            ["circle" if meets_slo(step.trial) else "circle-open" for step in steps],
            points,
        ),
        "hovertext": [
            lines(
                title_words(step.trial),
                text(objective_value(goal, step.value or 0.0)),
                broken_words(step.trial),
                _when(step),
            )
            for step in steps
        ],
        "hoverinfo": "text",
    }


def _rug(state: TrialState, row: int, steps: Sequence[_Step]) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": state.value,
        "yaxis": "y2",
        "x": [step.trial.number for step in steps],
        "y": [row] * len(steps),
        "marker": {"color": STATE_COLOURS[state], "symbol": "x", "size": 8},
        "hovertext": [
            lines(title_words(step.trial), f"{state.value}: {text(_reason(step.trial))}")
            for step in steps
        ],
        "hoverinfo": "text",
        "showlegend": False,
    }


def _reason(trial: TrialRecord) -> str:
    return trial.failure.message if trial.failure is not None else trial.reason or "no reason given"


def _when(step: _Step) -> str:
    return "" if step.at_s is None else f"ended after {duration(step.at_s)}"


def _strip(states: Sequence[TrialState], height: float) -> Mapping[str, Any]:
    """A row for each state without a value, below the drawing."""
    rows = name_axis([state.value for state in states], domain=[0, height], ticks="")
    return {"yaxis2": {**rows, "gridcolor": "rgba(0,0,0,0)"}}


def _buttons(drawings: Sequence[_Drawing]) -> Trace:
    """Draw over the number of the trial, or over the time at which trials ended."""
    timed = [item.over_time() for item in drawings]
    by_number = {"x": [item.trace["x"] for item in drawings]}
    by_number["y"] = [item.trace["y"] for item in drawings]
    by_time = {"x": [x for x, _ in timed], "y": [y for _, y in timed]}
    return {
        "type": "buttons",
        "direction": "right",
        "x": 1,
        "xanchor": "right",
        "y": 1.01,
        "yanchor": "bottom",
        "pad": {"t": 0, "b": 0},
        "font": {"size": 12},
        "bgcolor": "rgba(0,0,0,0)",
        "bordercolor": FAINT,
        "showactive": False,
        "buttons": [
            {
                "label": label,
                "method": "update",
                "args": [values, {"xaxis.title.text": title}],
            }
            for label, values, title in (
                ("by trial", by_number, "trial"),
                ("by time", by_time, "minutes since the first trial started"),
            )
        ],
    }


def _caption(data: RunData, steps: Sequence[_Step]) -> str:
    goal = data.goals[0]
    values = [(step.trial.number, step.best_so_far) for step in steps]
    changed = [
        number
        for (number, value), before in zip(values, [None, *(b for _, b in values)], strict=False)
        if value is not None and value != before
    ]
    since = sum(number > changed[-1] for number, _ in values) if changed else 0
    words = objective_words(goal.name)
    last = (
        f"The best {words} was found at trial {changed[-1]}"
        + (f", and the {count(since, 'trial')} after it did not better it." if since else ".")
        if changed
        else ""
    )
    hollow = sum(step.value is not None and not meets_slo(step.trial) for step in steps)
    broken = f" Hollow: {count(hollow, 'trial')} that {'breaks' if hollow == 1 else 'break'} the "
    return (
        f"{words[:1].upper()}{words[1:]} is {goal.direction}d. {last}"
        f"{broken + 'SLO.' if hollow else ''}"
    )
