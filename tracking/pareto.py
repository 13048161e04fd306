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
    measured = [
        trial
        for trial in data.last_attempts()
        if trial.state is TrialState.COMPLETED
        and all(goal.name in trial.objectives for goal in data.goals)
    ]
    meeting = [trial for trial in measured if meets_slo(trial)]
    front: list[TrialRecord] = []
    for trial in meeting or measured:
        if any(_dominates(known, trial, data.goals) for known in front):
            continue
        front = [known for known in front if not _dominates(trial, known, data.goals)]
        front.append(trial)
    return front


def meets_slo(trial: TrialRecord) -> bool:
    """True when a trial was measured and every limit held."""
    return trial.measurement is not None and trial.measurement.slo_met


def _dominates(one: TrialRecord, other: TrialRecord, goals: Sequence[Goal]) -> bool:
    pairs = [(goal, one.objectives[goal.name], other.objectives[goal.name]) for goal in goals]
    no_worse = not any(goal.better(theirs, ours) for goal, ours, theirs in pairs)
    return no_worse and any(goal.better(ours, theirs) for goal, ours, theirs in pairs)
