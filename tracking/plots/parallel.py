"""Parallel coordinates: every measured trial a line through its parameters and its objectives."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence

from runtimes.json_types import Json
from tracking.pareto import meets_slo
from tracking.plots._style import GREY, STRONG, Trace, figure, lines, plain_text, text
from tracking.plots._trials import (
    ENGINE,
    UNSET,
    Settings,
    eligible,
    ineligible_words,
    settings,
    value_key,
    value_words,
    varying_names,
)
from tracking.plots.base import PLOTS, Cell, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import Goal, RunData
from tracking.words import count, objective_unit, objective_words
from tracking.words import figure as number

_NAMED = 12
"""Up to so many values of a parameter each have a place of their own, at equal distances."""
_DIMENSIONS = 12
_TICK_LENGTH = 16
_SCALE = ((0.0, "#8fcdf2"), (0.5, "#3d9fd9"), (0.8, "#0072b2"), (1.0, STRONG))
"""From the worst to the best trial; every step shows on light and dark pages."""
_GREY_SHARE = 0.1
"""Of the scale, for trials that cannot be the best one."""
_LABEL_SIZE = 11
_LABEL_ROOM = 80
"""Characters of `_LABEL_SIZE` that stand beside each other in a drawing 700 px wide."""
_LABEL_LINES = 4


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
        width = max(7, _LABEL_ROOM // (len(shown) + len(goals)))
        dimensions = [_dimension(name, [own[t.number] for t in trials], width) for name in shown]
        dimensions += [
            _objective(goal.name, [trial.objectives[goal.name] for trial in trials], width)
            for goal in goals
        ]
        trace = {
            "type": "parcoords",
            "dimensions": dimensions,
            "line": _line(data.goals[0], trials),
            "labelside": "bottom",
            "labelfont": {"size": _LABEL_SIZE},
            "tickfont": {"size": 11},
            "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
        }
        margin = {"l": 96, "r": 40, "t": 24, "b": 92}
        drawn = figure([trace], height=460, margin=margin)
        return Drawn(
            _caption(data, trials, names, shown, own), _table(data, trials, names, own), drawn
        )


def _dimension(name: str, own: Sequence[Mapping[str, Json]], width: int) -> Trace:
    """One parameter: its values at equal distances, or many numbers to scale.

    Where a trial leaves it to the engine its line passes below, at `UNSET`.
    """
    label = _label(name, width)
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


def _label(words: str, width: int) -> str:
    """Lines of about `width` characters, so that neighbours stand clear of each other."""
    parts = re.sub(r"(?<=[_.])(?=\w)", "\0", plain_text(words)).split("\0")
    pieces = [piece for part in parts for piece in textwrap.wrap(part, width)]
    found: list[str] = []
    for piece in pieces:
        joined = f"{found[-1]}{'' if found[-1][-1] in '-_.' else ' '}{piece}" if found else piece
        if found and len(joined) <= width:
            found[-1] = joined
        else:
            found.append(piece)
    if len(found) > _LABEL_LINES:
        found[_LABEL_LINES - 1 :] = [f"{found[_LABEL_LINES - 1][: width - 1]}…"]
    return lines(*(text(line) for line in found))


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
        "ticktext": [UNSET, *words] if absent else words,
        "range": [below if absent else bottom, top],
    }


def _objective(name: str, values: Sequence[float], width: int) -> Trace:
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.02
    label = _label(objective_words(name), width)
    return {"label": label, "values": list(values), "range": [low - room, high + room]}


def _line(goal: Goal, trials: Sequence[TrialRecord]) -> Trace:
    """Colours from the worst to the best of those that can be the best, which lie on top.

    The others are grey; where there are only such, they are coloured like the rest.
    """
    judged = [trial for trial in trials if eligible(trial)] or list(trials)
    values = [trial.objectives[goal.name] for trial in judged]
    low, high = min(values), max(values)
    worst, best = (low, high) if goal.direction == "maximize" else (high, low)
    span = best - worst
    numbers = {trial.number for trial in judged}
    grey = len(judged) < len(trials)
    start = _GREY_SHARE if grey else 0.0
    scale = [[start + share * (1 - start), colour] for share, colour in _SCALE]
    if grey:
        scale = [[0, GREY], [start * 0.99, GREY], *scale]
    shares = (0.0, 0.25, 0.5, 0.75, 1.0) if span else (1.0,)
    ticks = [start + share * (1 - start) for share in shares]
    words = [number(worst + share * span) for share in shares]

    def place(trial: TrialRecord) -> float:
        if trial.number not in numbers:
            return 0.0
        share = (trial.objectives[goal.name] - worst) / span if span else 1.0
        return start + share * (1 - start)

    return {
        "color": [place(trial) for trial in trials],
        "colorscale": scale,
        "cmin": 0,
        "cmax": 1,
        "showscale": True,
        "colorbar": {
            "title": {"text": text(objective_words(goal.name)), "side": "right"},
            "thickness": 12,
            "tickvals": [0, *ticks] if grey else ticks,
            "ticktext": ["–", *words] if grey else words,
        },
    }


def _caption(
    data: RunData,
    trials: Sequence[TrialRecord],
    names: Sequence[str],
    shown: Sequence[str],
    own: Settings,
) -> str:
    left = len(names) - len(shown)
    more = f" {count(left, 'parameter')} more vary; the table has them." if left else ""
    goal = data.goals[0]
    unit = objective_unit(goal.name)
    words = f"{objective_words(goal.name)} in {unit}" if unit else objective_words(goal.name)
    absent = any(name not in own[trial.number] for name in shown for trial in trials)
    unset = f" {UNSET} is what was left to the engine." if absent else ""
    return (
        f"{count(len(trials), 'measured trial')} through {count(len(shown), 'setting')} that vary, "
        f"coloured by {words}: {_colour_words(goal, trials)}. Drag along an axis to single out "
        f"trials, drag a name to move it.{unset}{more}"
    )


def _colour_words(goal: Goal, trials: Sequence[TrialRecord]) -> str:
    why = ineligible_words(trials)
    if not why:
        return "the best are orange"
    if any(eligible(trial) for trial in trials):
        return f"the best are orange, those that {why} grey"
    extreme = "highest" if goal.direction == "maximize" else "lowest"
    return f"the {extreme} are orange, though all {why}"


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
