"""Parallel coordinates: every measured trial a line through its parameters and its objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from runtimes.json_types import Json
from tracking.pareto import meets_slo
from tracking.plots._style import Trace, figure, plain_text, text
from tracking.plots._trials import ENGINE, settings, value_key, value_words, varying_names
from tracking.plots.base import PLOTS, Cell, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.words import count, objective_unit, objective_words
from tracking.words import figure as number

_NAMED = 12
"""Up to so many values of a parameter each have a place of their own, at equal distances."""
_DIMENSIONS = 12
_TICK_LENGTH = 16
_SCALE = [[0, "#9aa5b1"], [0.5, "#56b4e9"], [0.8, "#0072b2"], [1, "#d55e00"]]
"""From the worst to the best trial; every step shows on light and dark pages."""


@PLOTS.register("parallel")
class ParallelPlot(Plot):
    """Axes for what varies and for the objectives; drag along an axis to choose trials."""

    name = "parallel"
    title = "All trials through their parameters"
    position = 50

    def draw(self, data: RunData) -> Drawn | None:
        own = settings(data)
        trials = sorted(data.ranked(), key=lambda trial: trial.number)
        names = varying_names({trial.number: own[trial.number] for trial in trials})
        if len(trials) < 2 or not names:
            return None
        goals = [goal for goal in data.goals if all(goal.name in t.objectives for t in trials)]
        shown = names[: _DIMENSIONS - len(goals)]
        dimensions = [_dimension(name, [own[t.number] for t in trials]) for name in shown]
        dimensions += [
            _objective(goal.name, [trial.objectives[goal.name] for trial in trials])
            for goal in goals
        ]
        values = [trial.objectives[data.goals[0].name] for trial in trials]
        title = objective_words(data.goals[0].name)
        trace = {
            "type": "parcoords",
            "dimensions": dimensions,
            "line": _line(values, data.goals[0].direction, title),
            "labelangle": -12 if len(dimensions) > 6 else 0,
            "labelside": "top",
            "tickfont": {"size": 11},
            "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
        }
        margin = {"l": 96, "r": 40, "t": 84 if len(dimensions) > 6 else 56, "b": 32}
        drawn = figure([trace], height=460, margin=margin)
        return Drawn(_caption(data, trials, names, shown), _table(data, trials, names, own), drawn)


def _dimension(name: str, own: Sequence[Mapping[str, Json]]) -> Trace:
    """One parameter: its values at equal distances, or many numbers to scale.

    Where a trial leaves it to the engine its line passes below, at a dash.
    """
    label = text(name, 28)
    numbers = [_number(one.get(name)) if name in one else None for one in own]
    given = {one for one in numbers if one is not None}
    keys = {value_key(one, name) for one in own}
    if len(keys) > _NAMED and len(given) == len(keys - {""}):
        return _scaled(label, numbers, given)
    order = sorted(keys, key=lambda key: _place(key, name, own))
    words = {value_key(one, name): value_words(one, name) for one in own}
    places = {key: place for place, key in enumerate(order)}
    every = math.ceil(len(order) / 24)
    ticked = order[::every]
    return {
        "label": label,
        "values": [places[value_key(one, name)] for one in own],
        "tickvals": [places[key] for key in ticked],
        "ticktext": [plain_text(words[key], _TICK_LENGTH) for key in ticked],
        "range": [-0.3, len(order) - 0.7] if len(order) > 1 else [-0.5, 0.5],
    }


def _number(value: Json) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and isinstance(value, int | float) else None


def _place(key: str, name: str, own: Sequence[Mapping[str, Json]]) -> tuple[bool, bool, float, str]:
    """What is left to the engine first, then numbers by size, then words."""
    value = next((one[name] for one in own if name in one and value_key(one, name) == key), None)
    size = _number(value)
    return (key != "", size is None, size or 0.0, key)


def _scaled(label: str, numbers: Sequence[float | None], given: set[float]) -> Trace:
    low, high = min(given), max(given)
    logarithmic = low > 0 and high / low >= 20
    scaled = [None if one is None else math.log10(one) if logarithmic else one for one in numbers]
    known = [one for one in scaled if one is not None]
    bottom, top = min(known), max(known)
    below = bottom - 0.12 * (top - bottom)
    absent = any(one is None for one in scaled)
    ticks = [bottom + (top - bottom) * step / 5 for step in range(6)]
    words = [number(10**tick if logarithmic else tick) for tick in ticks]
    return {
        "label": label,
        "values": [below if one is None else one for one in scaled],
        "tickvals": [below, *ticks] if absent else ticks,
        "ticktext": ["–", *words] if absent else words,
        "range": [below if absent else bottom, top],
    }


def _objective(name: str, values: Sequence[float]) -> Trace:
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.02
    unit = objective_unit(name)
    label = f"{objective_words(name)} ({unit})" if unit else objective_words(name)
    return {"label": text(label, 44), "values": list(values), "range": [low - room, high + room]}


def _line(values: Sequence[float], direction: str, title: str) -> Trace:
    return {
        "color": list(values),
        "colorscale": _SCALE,
        "reversescale": direction == "minimize",
        "showscale": True,
        "colorbar": {"title": {"text": text(title), "side": "right"}, "thickness": 12},
    }


def _caption(
    data: RunData, trials: Sequence[TrialRecord], names: Sequence[str], shown: Sequence[str]
) -> str:
    left = len(names) - len(shown)
    more = f" {count(left, 'parameter')} more vary; the table has them." if left else ""
    return (
        f"{count(len(trials), 'measured trial')} through {count(len(shown), 'setting')} that vary, "
        f"coloured by {objective_words(data.goals[0].name)}; the best are orange. Drag along an "
        f"axis to single out trials, drag a name to move it. A dash is what was left to the "
        f"engine.{more}"
    )


def _table(
    data: RunData,
    trials: Sequence[TrialRecord],
    names: Sequence[str],
    own: Mapping[int, Mapping[str, Json]],
) -> Table:
    goals = [goal.name for goal in data.goals]
    parameters = [name for name in names if name != ENGINE]

    def cell(trial: TrialRecord, name: str) -> Cell:
        value = own[trial.number].get(name)
        if value is None or isinstance(value, str | int | float | bool):
            return value
        return value_words(own[trial.number], name)

    rows = tuple(
        (
            trial.number,
            trial.engine,
            *(cell(trial, name) for name in parameters),
            *(trial.objectives.get(goal) for goal in goals),
            meets_slo(trial),
        )
        for trial in trials
    )
    return Table(("trial", "engine", *parameters, *goals, "slo_met"), rows)
