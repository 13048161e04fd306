"""Which trials the best one may only seem to beat."""

from __future__ import annotations

from collections.abc import Sequence

from search.analysis.differences import Difference, Sample, compare, ties
from search.trial import TrialState
from tracking.pareto import meets_slo
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.samples import Samples


def not_surely_worse(data: RunData, best: TrialRecord) -> tuple[int, ...]:
    """Numbers of the other trials whose deciding objective is not surely worse than that of `best`.

    Of those that `best` is held against: completed, comparable, and meeting the SLO if it does. One
    whose objective has no interval is left out, since of it nothing can be said.
    """
    samples = Samples(data)
    ours = samples.of(best)
    if ours is None or ours.error is None:
        return ()
    others: list[tuple[int, Sequence[Sample]]] = []
    for trial in data.last_attempts():
        rival = trial.number != best.number and trial.state is TrialState.COMPLETED
        if not rival or trial.reference or trial.doubts or meets_slo(trial) != meets_slo(best):
            continue
        theirs = samples.of(trial)
        if theirs is not None and theirs.error is not None:
            others.append((trial.number, [theirs]))
    found = ties([ours], [each for _, each in others], data.goals[0].direction)
    return tuple(others[position][0] for position in found)


def difference(data: RunData, trial: TrialRecord, reference: TrialRecord) -> Difference | None:
    """How the deciding objective of `trial` compares with that of `reference`.

    None where either has none. Doubts and the SLO are not looked at.
    """
    samples = Samples(data)
    one, other = samples.of(reference), samples.of(trial)
    if one is None or other is None:
        return None
    return compare([one], [other], data.goals[0].direction)
