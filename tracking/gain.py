"""What the best trial gains over an engine's defaults, with its interval, or why it is not said."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.slo import SloVerdict
from search.analysis.differences import LEVEL, Sample, Verdict, compare
from search.objectives.base import OBJECTIVES
from search.trial import TrialState
from tracking.records import TrialRecord
from tracking.run_data import RunData, rank
from tracking.samples import sample_of
from tracking.words import figure, flag_words, objective_words

CONFIDENCE = f"{1 - LEVEL:.0%}".replace("%", " %")
"""Of every interval of a difference."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The best trial beside the defaults of one engine.

    Attributes:
        engine, trial: whose defaults, and the trial that measured them.
        own: True when they are those of the best trial's own engine.
        objective: what is compared: the deciding one, or the throughput behind it where the
            defaults break the SLO, since a goodput of next to nothing makes every gain look large.
        ratio: how many times better the best trial is; None where it cannot be told.
        low, high: its interval, at `CONFIDENCE`; None where the measurements have none.
        verdict: whether the best trial is surely better.
        unmet: limits that the defaults break, each with what the best trial has there, in ms.
        doubts: flags for which the two cannot be compared.
    """

    engine: str
    trial: int
    own: bool
    objective: str
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    unmet: tuple[tuple[SloVerdict, float | None], ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether the deciding objective of the two says how much was gained."""
        return not self.unmet and not self.doubts and self.ratio is not None

    @property
    def whose(self) -> str:
        """`the engine's defaults`, or those of which other engine."""
        return "the engine's defaults" if self.own else f"the defaults of {self.engine}"

    @property
    def words(self) -> str:
        """`1.34× the engine's defaults (trial 0; 1.29–1.39, 99 %)`, or what can be said instead."""
        defaults = f"{self.whose} (trial {self.trial})"
        if self.doubts:
            why = "; ".join(flag_words(flag) for flag in self.doubts)
            return f"{defaults} could not be compared: {why}"
        if self.unmet:
            broken = ", ".join(_broken_words(verdict, ours) for verdict, ours in self.unmet)
            more = f"; {objective_words(self.objective)} {_times(self)}" if self.ratio else ""
            return f"{defaults} break the service-level objective: {broken}{more}"
        if self.ratio is None:
            return f"nothing can be said against {defaults}"
        if self.low is None or self.high is None:
            return f"{_factor(self.ratio)}× {self.whose} (trial {self.trial}; no interval)"
        bounds = f"{_factor(self.low)}–{_factor(self.high)}"
        if self.verdict is Verdict.BETTER:
            return (
                f"{_factor(self.ratio)}× {self.whose} (trial {self.trial}; {bounds}, {CONFIDENCE})"
            )
        return f"no gain over {defaults} is shown ({bounds}×, {CONFIDENCE})"


def gains(data: RunData, best: TrialRecord) -> tuple[Gain, ...]:
    """Over the defaults of the best trial's own engine, then over those that are better than they.

    Where its own engine's defaults did not complete, over all others'. Empty when the best trial is
    an engine's defaults itself.
    """
    if best.baseline:
        return ()
    goal = data.goals[0]
    measured = [
        trial for trial in baselines(data)
        if trial.state is TrialState.COMPLETED and goal.name in trial.objectives
    ]  # fmt: skip
    own = next((trial for trial in measured if trial.engine == best.engine), None)
    shown = [
        trial
        for trial in measured
        if trial is not own and (own is None or rank(goal, trial) < rank(goal, own))
    ]
    return tuple(_gain(data, best, trial) for trial in [own, *shown] if trial is not None)


def baselines(data: RunData) -> list[TrialRecord]:
    """The latest attempts of the engines' defaults, completed or not."""
    return [trial for trial in data.last_attempts() if trial.baseline]


def _gain(data: RunData, best: TrialRecord, defaults: TrialRecord) -> Gain:
    unmet = _unmet(defaults, best)
    name = _comparable_objective(data.goals[0].name) if unmet else data.goals[0].name
    ratio, low, high, verdict = ratio_of(data, best, defaults, name)
    return Gain(
        engine=defaults.engine,
        trial=defaults.number,
        own=defaults.engine == best.engine,
        objective=name,
        ratio=ratio,
        low=low,
        high=high,
        verdict=verdict,
        unmet=unmet,
        doubts=tuple(sorted(defaults.doubts | best.doubts)),
    )


def ratio_of(
    data: RunData, best: TrialRecord, other: TrialRecord, objective: str
) -> tuple[float | None, float | None, float | None, Verdict]:
    """How many times better `best` is in `objective`, its bounds, and whether that is sure."""
    goal = data.goals[0]
    direction = goal.direction
    if objective != goal.name and objective in OBJECTIVES:
        direction = OBJECTIVES.get(objective).direction
    theirs, ours = _sample(data, other, objective), _sample(data, best, objective)
    if theirs is None or ours is None or min(theirs.value, ours.value) <= 0:
        return None, None, None, Verdict.UNDECIDED
    found = compare([theirs], [ours], direction)
    bounds = [None if bound is None else 1 + bound for bound in (found.low, found.high)]
    if direction == "maximize":
        return 1 + found.relative, bounds[0], bounds[1], found.verdict
    low, high = (None if bound is None else 1 / bound for bound in reversed(bounds))
    return 1 / (1 + found.relative), low, high, found.verdict


def _sample(data: RunData, trial: TrialRecord, objective: str) -> Sample | None:
    """The value as it was recorded, with the error that its measurement shows."""
    measured = sample_of(data, trial, objective)
    value = trial.objectives.get(objective, measured.value if measured is not None else None)
    if value is None:
        return None
    return Sample(value, measured.error if measured is not None else None)


def _unmet(defaults: TrialRecord, best: TrialRecord) -> tuple[tuple[SloVerdict, float | None], ...]:
    theirs = defaults.measurement.slo if defaults.measurement is not None else ()
    ours = best.measurement.slo if best.measurement is not None else ()
    values = {verdict.limit: verdict.value_ms for verdict in ours}
    return tuple((verdict, values.get(verdict.limit)) for verdict in theirs if not verdict.met)


def _comparable_objective(name: str) -> str:
    """What of an objective can be compared with a trial that breaks the SLO."""
    return name.replace("goodput", "request_throughput", 1)


def _broken_words(verdict: SloVerdict, ours_ms: float | None) -> str:
    value = "nothing measured" if verdict.value_ms is None else f"{figure(verdict.value_ms)} ms"
    here = "" if ours_ms is None else f", here {figure(ours_ms)} ms"
    return f"{verdict.limit} ({value}{here})"


def _times(gain: Gain) -> str:
    assert gain.ratio is not None
    bounds = ""
    if gain.low is not None and gain.high is not None:
        bounds = f" ({_factor(gain.low)}–{_factor(gain.high)}, {CONFIDENCE})"
    return f"{_factor(gain.ratio)}× theirs{bounds}"


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else figure(ratio)
