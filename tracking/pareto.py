"""Which trials no other trial beats in every objective."""

from __future__ import annotations

from collections.abc import Sequence

from search.trial import TrialState
from tracking.records import TrialRecord
from tracking.run_data import Goal, RunData


def pareto_front(data: RunData) -> list[TrialRecord]:
    """Completed trials that no other one equals or betters in all goals and betters in one.

    Taken among those that meet the SLO when any does, otherwise among all; in order of number.
    """
    front = ParetoFront(data.goals)
    for trial in data.last_attempts():
        front.add(trial)
    return front.trials


class ParetoFront:
    """`pareto_front` of trials that come one by one; it remembers only those that count."""

    def __init__(self, goals: Sequence[Goal]) -> None:
        self._goals = goals
        self._meeting: list[TrialRecord] = []
        self._failing: list[TrialRecord] = []

    def add(self, trial: TrialRecord) -> None:
        """Take in a trial's last attempt."""
        known = all(goal.name in trial.objectives for goal in self._goals)
        if trial.state is not TrialState.COMPLETED or trial.reference or not known:
            return
        front = self._meeting if meets_slo(trial) else self._failing
        if not any(_dominates(other, trial, self._goals) for other in front):
            front[:] = [other for other in front if not _dominates(trial, other, self._goals)]
            front.append(trial)

    @property
    def trials(self) -> list[TrialRecord]:
        """The front, in the order in which its trials came."""
        return list(self._meeting or self._failing)


def meets_slo(trial: TrialRecord) -> bool:
    """True when a trial was measured and every limit held."""
    return trial.measurement is not None and trial.measurement.slo_met


def _dominates(one: TrialRecord, other: TrialRecord, goals: Sequence[Goal]) -> bool:
    pairs = [(goal, one.objectives[goal.name], other.objectives[goal.name]) for goal in goals]
    no_worse = not any(goal.better(theirs, ours) for goal, ours, theirs in pairs)
    return no_worse and any(goal.better(ours, theirs) for goal, ours, theirs in pairs)
