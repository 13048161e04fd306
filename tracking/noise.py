"""Which trials the best one may only seem to beat."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from search.analysis.differences import Sample, sample, ties
from search.objectives.base import OBJECTIVES
from search.trial import TrialState
from tracking.pareto import meets_slo
from tracking.records import TrialRecord
from tracking.run_data import RunData

_CLOSED_LOOP = "concurrency"


def not_surely_worse(data: RunData, best: TrialRecord) -> tuple[int, ...]:
    """Numbers of the other trials whose deciding objective is not surely worse than that of `best`.

    Of those that `best` is held against: completed, comparable, and meeting the SLO if it does. One
    whose objective has no interval is left out, since of it nothing can be said.
    """
    closed_loops = {
        (stage.number, stage.attempt, stage.stage)
        for stage in data.stages
        if stage.load == _CLOSED_LOOP
    }
    ours = _sample(data, best, closed_loops)
    if ours is None or ours.error is None:
        return ()
    others: list[tuple[int, Sequence[Sample]]] = []
    for trial in data.last_attempts():
        rival = trial.number != best.number and trial.state is TrialState.COMPLETED
        if not rival or trial.doubts or meets_slo(trial) != meets_slo(best):
            continue
        theirs = _sample(data, trial, closed_loops)
        if theirs is not None and theirs.error is not None:
            others.append((trial.number, [theirs]))
    found = ties([ours], [samples for _, samples in others], data.goals[0].direction)
    return tuple(others[position][0] for position in found)


def _sample(
    data: RunData, trial: TrialRecord, closed_loops: Collection[tuple[int, int, int | None]]
) -> Sample | None:
    name = data.goals[0].name
    if trial.measurement is None or name not in OBJECTIVES or name not in trial.objectives:
        return None
    cluster = data.experiment.get("cluster")
    price = cluster.get("gpu_price_per_hour") if isinstance(cluster, dict) else None
    return sample(
        OBJECTIVES.get(name),
        trial.measurement,
        gpus=trial.gpus,
        gpu_price_per_hour=price if isinstance(price, int | float) else None,
        closed_loop=(trial.number, trial.attempt, trial.deciding_stage) in closed_loops,
    )
