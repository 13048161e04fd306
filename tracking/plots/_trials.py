"""The trials of a run as plots need them: settings that vary, words for a pointer, and roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtimes.json_types import Json, canonical_json
from search.trial import LAYOUT_PRESET, PRECISION_PRESET
from tracking.pareto import meets_slo, pareto_front
from tracking.plots._style import COLOURS, GREY, STRONG, colours_of, lines, text
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.summary import all_flags
from tracking.words import (
    count,
    figure,
    flag_words,
    objective_value,
    objective_words,
    parameter,
    printable,
)

ENGINE = "engine"
UNSET = "(default)"
"""Stands for the value of a parameter that a trial left to the engine."""
_SHOWN_SETTINGS = 12
_PRESETS = (LAYOUT_PRESET, PRECISION_PRESET)

Settings = Mapping[int, Mapping[str, Json]]
"""By trial number what was set, by name."""


def subjects(data: RunData) -> list[TrialRecord]:
    """The latest attempt of each trial, those apart that only compare nodes."""
    return [trial for trial in data.last_attempts() if not trial.reference]


def engine_colours(data: RunData, shown: Iterable[TrialRecord]) -> dict[str, str]:
    """A colour for each engine of `shown`: the one that it has in every plot of the run."""
    engines = {trial.engine for trial in shown}
    every = colours_of(trial.engine for trial in data.trials)
    return {engine: colour for engine, colour in every.items() if engine in engines}


def eligible(trial: TrialRecord) -> bool:
    """Whether a completed trial can be the best one: it meets the SLO, and nothing is doubtful."""
    return meets_slo(trial) and not trial.doubts


def ineligible_words(trials: Iterable[TrialRecord]) -> str:
    """`break the SLO`, `are in doubt`, or both: why some of `trials` cannot be the best one."""
    left_out = [trial for trial in trials if not eligible(trial)]
    reasons = (
        ("break the SLO", any(not meets_slo(trial) for trial in left_out)),
        ("are in doubt", any(trial.doubts for trial in left_out)),
    )
    return " or ".join(words for words, holds in reasons if holds)


def settings(data: RunData) -> Settings:
    """The engine, the parameters that were searched, and the degrees of a layout that vary.

    So a layout that a preset names, or that the defaults have, stands beside those searched degree
    by degree. Presets that are not taken say nothing and are left out.
    """
    trials = subjects(data)
    used = {trial.number: trial.layout.used for trial in trials}
    degrees = {name for own in used.values() for name in own}
    varying = [
        name for name in sorted(degrees) if len({own.get(name, 1) for own in used.values()}) > 1
    ]
    return {
        trial.number: {
            ENGINE: trial.engine,
            **{name: used[trial.number].get(name, 1) for name in varying},
            **{
                name: value
                for name, value in trial.params.items()
                if not (name in _PRESETS and value is None)
            },
        }
        for trial in trials
    }


def varying_names(found: Settings) -> list[str]:
    """Names that do not have one and the same value in every trial, in the order first met."""
    names = dict.fromkeys(name for own in found.values() for name in own)
    return [name for name in names if len({value_key(own, name) for own in found.values()}) > 1]


def value_key(own: Mapping[str, Json], name: str) -> str:
    """Equal for equal values; empty where the trial left it to the engine."""
    return canonical_json(own[name]) if name in own else ""


def value_words(own: Mapping[str, Json], name: str) -> str:
    """The value as text; where the trial left it to the engine, that."""
    return printable(parameter(own[name])) if name in own else UNSET


def settings_words(own: Mapping[str, Json], names: Iterable[str]) -> str:
    """`tp=4 max-num-seqs=64`: those of `names` that are set, the engine apart."""
    shown = (name for name in names if name in own and name != ENGINE)
    return " ".join(f"{printable(name)}={value_words(own, name)}" for name in shown)


def title_words(trial: TrialRecord) -> str:
    """`trial 3: vllm on 4 GPUs`, escaped."""
    return f"<b>trial {trial.number}</b>: {text(trial.engine)} on {count(trial.gpus, 'GPU')}"


def hover(
    data: RunData, trial: TrialRecord, own: Mapping[str, Json], names: Sequence[str], *more: str
) -> str:
    """What a pointer on a completed trial shows, escaped; `more` are lines that are already."""
    chosen = [name for name in names if name in own and name != ENGINE][:_SHOWN_SETTINGS]
    goals = [
        f"{text(objective_words(goal.name))}: "
        f"{text(objective_value(goal.name, trial.objectives[goal.name]))}"
        for goal in data.goals
        if goal.name in trial.objectives
    ]
    return lines(
        title_words(trial),
        *(f"{text(name)} = {text(value_words(own, name), 60)}" for name in chosen),
        *more,
        *goals,
        broken_words(trial),
        *(f"flag: {text(flag_words(flag), 60)}" for flag in all_flags(trial)[:4]),
    )


def broken_words(trial: TrialRecord) -> str:
    """Which limits it breaks; empty for none."""
    verdicts = trial.measurement.slo if trial.measurement is not None else ()
    broken = "; ".join(
        f"{verdict.limit}, measured {figure(verdict.value_ms)}"
        for verdict in verdicts
        if not verdict.met
    )
    return f"breaks {text(broken)}" if broken else ""


@dataclass(frozen=True, slots=True)
class Role:
    """A trial that a reader wants to see beside the others.

    Attributes:
        name: `best`, `runner-up`, `baseline` or `front`.
    """

    name: str
    trial: TrialRecord

    @property
    def words(self) -> str:
        return f"{self.name} (trial {self.trial.number})"


def roles(data: RunData, front: int = 4) -> list[Role]:
    """The best trial, the baseline, the runner-up and up to `front` others of the Pareto front.

    A trial has one role, the first of them. The runner-up meets the SLO as the best one does.
    """
    ranked = data.ranked()
    found: list[Role] = []

    def add(name: str, trial: TrialRecord | None) -> None:
        if trial is not None and trial.number not in {role.trial.number for role in found}:
            found.append(Role(name, trial))

    add("best", data.best())
    add("baseline", data.baseline())
    add("runner-up", next((trial for trial in ranked[1:] if comparable(ranked[0], trial)), None))
    ahead = {trial.number for trial in pareto_front(data)} if len(data.goals) > 1 else set()
    room = len(found) + front
    for trial in ranked:
        if trial.number in ahead and len(found) < room:
            add("front", trial)
    return found


def role_colours(chosen: Sequence[Role]) -> dict[int, str]:
    """By trial number: the best one strong, the baseline grey, all others each its own."""
    fixed = {"best": STRONG, "baseline": GREY}
    others = [role for role in chosen if role.name not in fixed]
    given = {role.trial.number: fixed[role.name] for role in chosen if role.name in fixed}
    return given | {
        role.trial.number: COLOURS[index % len(COLOURS)] for index, role in enumerate(others)
    }


def comparable(best: TrialRecord, other: TrialRecord) -> bool:
    """Whether `other` can be held against `best`: no doubts, and the SLO met if that meets it."""
    return not other.doubts and (meets_slo(other) or not meets_slo(best))
