"""What another value of one parameter costs, against the best trial."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.analysis.differences import Difference, Verdict
from tracking.noise import difference
from tracking.pareto import meets_slo
from tracking.plots._style import (
    COLOURS,
    FAINT,
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
from tracking.plots._trials import (
    ENGINE,
    UNSET,
    Settings,
    broken_words,
    comparable,
    settings,
    title_words,
    value_key,
    value_words,
    varying_names,
)
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.words import count, objective_unit, objective_words, printable
from tracking.words import figure as number

_SHOWN = 40
_GROUPS = 6
_FAR = 1.0
"""A relative difference of more than this, and the intervals that go with it, is cut off."""
_LOOK: Mapping[Verdict, tuple[str, str]] = {
    Verdict.BETTER: (COLOURS[2], "better than the best trial, which is ranked by its limits too"),
    Verdict.WORSE: (COLOURS[1], "worse"),
    Verdict.UNDECIDED: (COLOURS[0], "no difference shown"),
}


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another value of one parameter, and the best trial that has it.

    Attributes:
        alone: whether that trial differs from the best one in nothing else; otherwise what else
            differs may be the cause.
        changed: names of everything that differs.
    """

    parameter: str
    value: str
    best_value: str
    trial: TrialRecord
    changed: tuple[str, ...]
    difference: Difference

    @property
    def alone(self) -> bool:
        return len(self.changed) == 1


@PLOTS.register("differences")
class DifferencesPlot(Plot):
    """A row for each other value of each parameter: how far the objective is from the best."""

    name = "differences"
    title = "What differs from the best"
    position = 40

    def draw(self, data: RunData) -> Drawn | None:
        best = data.best()
        found = alternatives(data)
        if best is None or not found:
            return None
        shown = found[:_SHOWN]
        traces = [_interval_trace(shown), *_traces(data, shown)]
        goal = data.goals[0].name
        title = f"{objective_words(goal)} against trial {best.number} (%)"
        drawn = figure(
            traces,
            height=150 + 26 * len(shown),
            xaxis=axis(
                text(title),
                zeroline=True,
                zerolinecolor=STRONG,
                zerolinewidth=2,
                range=_span(shown),
            ),
            yaxis=name_axis([_label(one) for one in shown]),
            shapes=_stripes(shown),
        )
        return Drawn(_caption(data, best, found), _table(data, found), drawn)


def alternatives(data: RunData) -> list[Alternative]:
    """For every value that the best trial does not have, the best trial that has it.

    One that differs in nothing else comes before better ones that do. Numbers of which there are
    many are taken together in ranges, within which they count as equal. What only one of two
    engines has goes with the engine. Parameters stand in the order of what their worst value
    costs, values of one from best to worst.
    """
    ranked = data.ranked()
    if not ranked:
        return []
    all_settings = settings(data)
    own = {trial.number: all_settings[trial.number] for trial in ranked}
    grouped = {n: dict[str, str]() for n in own}
    words: dict[tuple[str, str], str] = {}
    for name in varying_names(own):
        for trial_number, (group, label) in _groups(name, own).items():
            grouped[trial_number][name] = group
            words[name, group] = label
    best, ours = ranked[0], grouped[ranked[0].number]
    found: dict[tuple[str, str], tuple[TrialRecord, tuple[str, ...]]] = {}
    for trial in ranked[1:]:
        theirs = grouped[trial.number]
        changed = _changed(ours, theirs)
        for name in changed:
            known = found.get((name, theirs[name]))
            alone = len(changed) == 1 and comparable(best, trial)
            if known is None or (alone and len(known[1]) > 1):
                found[name, theirs[name]] = (trial, changed)
    made = []
    for (name, group), (trial, changed) in found.items():
        against = difference(data, trial, best)
        if against is not None:
            value, best_value = words[name, group], words[name, ours[name]]
            made.append(Alternative(name, value, best_value, trial, changed, against))
    return _ordered(made, data.goals[0].direction)


def _changed(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    """Names in which two trials differ; those that only one of two engines sets say nothing."""
    other_engine = ours.get(ENGINE) != theirs.get(ENGINE)
    return tuple(
        name
        for name in ours
        if ours[name] != theirs[name] and not (other_engine and "" in (ours[name], theirs[name]))
    )


def _groups(name: str, own: Settings) -> dict[int, tuple[str, str]]:
    """By trial number a key of the group that its value is in, empty where it has none, and words.

    Each value is a group of its own, but more than `_GROUPS` different numbers become as many
    ranges with about as many trials each.
    """
    given = {n: one[name] for n, one in own.items() if name in one}
    numbers = {
        n: float(value)
        for n, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if len(set(numbers.values())) <= _GROUPS or len(numbers) < len(given):
        return {n: (value_key(one, name), value_words(one, name)) for n, one in own.items()}
    ordered = sorted(numbers.values())
    starts = sorted({ordered[len(ordered) * at // _GROUPS] for at in range(_GROUPS)})
    spans = [
        [value for value in ordered if bisect_right(starts, value) == at + 1]
        for at in range(len(starts))
    ]
    labels = [f"{span[0]:,.6g} to {span[-1]:,.6g}" for span in spans]
    found = dict.fromkeys(own, ("", UNSET))
    for n, value in numbers.items():
        at = bisect_right(starts, value) - 1
        found[n] = (str(at), labels[at])
    return found


def _ordered(found: Sequence[Alternative], direction: str) -> list[Alternative]:
    sign = 1 if direction == "maximize" else -1
    worst: dict[str, float] = {}
    for one in found:
        relative = sign * one.difference.relative
        worst[one.parameter] = min(relative, worst.get(one.parameter, relative))
    return sorted(
        found,
        key=lambda one: (
            worst[one.parameter], one.parameter, -sign * one.difference.relative, one.value,
        ),
    )  # fmt: skip


def _label(one: Alternative) -> str:
    return f"{printable(one.parameter)} {one.best_value} → {one.value}"


def _interval_trace(shown: Sequence[Alternative]) -> Trace:
    """The intervals of all rows as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for row, one in enumerate(shown):
        if one.difference.low is not None and one.difference.high is not None:
            x += [100 * _cut(one.difference.low), 100 * _cut(one.difference.high), None]
            y += [row, row, None]
    return {
        "type": "scatter", "mode": "lines", "name": "interval of the difference", "x": x, "y": y,
        "line": {"color": FAINT, "width": 5}, "hoverinfo": "skip", "showlegend": bool(x),
    }  # fmt: skip


def _cut(relative: float) -> float:
    return max(-_FAR, min(_FAR, relative))


def _span(shown: Sequence[Alternative]) -> list[float]:
    """All that is drawn, and the best trial at 0, with some room."""
    ends = [0.0]
    for one in shown:
        against = one.difference
        known = (against.relative, against.low, against.high)
        ends += [100 * _cut(end) for end in known if end is not None]
    room = 0.04 * (max(ends) - min(ends)) or 1.0
    return [min(ends) - room, max(ends) + room]


def _traces(data: RunData, shown: Sequence[Alternative]) -> list[Trace]:
    traces = []
    for verdict, (colour, words) in _LOOK.items():
        rows = [row for row, one in enumerate(shown) if one.difference.verdict is verdict]
        if rows:
            traces.append({
                "type": "scatter",
                "mode": "markers",
                "name": words,
                "legendgroup": verdict.value,
                "showlegend": False,
                "x": [100 * _cut(shown[row].difference.relative) for row in rows],
                "y": rows,
                "marker": marker(colour, [_symbol(shown[row]) for row in rows]),
                "hovertext": [_hover(data, shown[row]) for row in rows],
                "hoverinfo": "text",
            })  # fmt: skip
            traces.append(key(words, "circle", colour, legendgroup=verdict.value))
    if not all(one.alone for one in shown):
        traces.append(key("hollow: other parameters differ as well", "circle-open"))
    if not all(meets_slo(one.trial) for one in shown):
        traces.append(key("cross: breaks the SLO", "x"))
    return traces


def _symbol(one: Alternative) -> str:
    shape = "circle" if meets_slo(one.trial) else "x"
    return shape if one.alone else f"{shape}-open"


def _hover(data: RunData, one: Alternative) -> str:
    goal, against = data.goals[0].name, one.difference
    value = one.trial.objectives[goal]
    interval = (
        f" ({100 * against.low:+.1f} to {100 * against.high:+.1f} %)"
        if against.low is not None and against.high is not None
        else ""
    )
    others = [name for name in one.changed if name != one.parameter]
    return lines(
        title_words(one.trial),
        text(f"{one.parameter} = {one.value}, the best has {one.best_value}"),
        text(f"{number(value)} {objective_unit(goal)}: {100 * against.relative:+.1f} %{interval}"),
        f"differs as well in {text(', '.join(others))}" if others else "nothing else differs",
        broken_words(one.trial),
    )


def _stripes(shown: Sequence[Alternative]) -> list[Trace]:
    """A line between the rows of one parameter and the next."""
    return [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": row - 0.5,
            "y1": row - 0.5, "line": {"color": FAINT, "width": 1}, "layer": "below",
        }
        for row, (one, before) in enumerate(zip(shown[1:], shown, strict=False), start=1)
        if one.parameter != before.parameter
    ]  # fmt: skip


def _caption(data: RunData, best: TrialRecord, found: Sequence[Alternative]) -> str:
    fair = [one for one in found if one.alone]
    first = (
        f"Each row changes one parameter of trial {best.number} to another value that was tried, "
        "and shows the best trial with it."
    )
    free = [one for one in fair if one.difference.verdict is Verdict.UNDECIDED]
    worst = [one for one in fair if one.difference.verdict is Verdict.WORSE]
    words = ""
    if worst:
        sign = 1 if data.goals[0].direction == "maximize" else -1
        most = min(worst, key=lambda one: sign * one.difference.relative)
        share = f"{100 * most.difference.relative:+.0f} %".replace("-", "−")
        words += f" Changed alone, {_label(most)} costs most ({share})."
    if free:
        words += f" {count(len(free), 'change')} alone made no difference that was shown."
    if not fair:
        words += (
            " No trial differs in one parameter alone, so that the causes cannot be told apart."
        )
    more = f" The {_SHOWN} rows with most at stake are drawn." if len(found) > _SHOWN else ""
    return first + words + more


def _table(data: RunData, found: Sequence[Alternative]) -> Table:
    goal = data.goals[0].name
    columns = (
        "parameter", "best_value", "value", "trial", goal, "relative", "relative_low",
        "relative_high", "verdict", "only_difference", "differs_in", "slo_met",
    )  # fmt: skip
    rows = tuple(
        (
            one.parameter,
            one.best_value,
            one.value,
            one.trial.number,
            one.trial.objectives[goal],
            one.difference.relative,
            one.difference.low,
            one.difference.high,
            one.difference.verdict.value,
            one.alone,
            " ".join(one.changed),
            meets_slo(one.trial),
        )
        for one in found
    )
    return Table(columns, rows)
