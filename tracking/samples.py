"""One figure of one measured trial or stage, with the error its interval shows."""

from __future__ import annotations

from runtimes.measurement import Measurement
from search.analysis.differences import Sample, sample
from search.objectives.base import OBJECTIVES
from tracking.records import StageRecord, TrialRecord
from tracking.run_data import RunData

CLOSED_LOOP = "concurrency"
"""Kind of the loads that keep so many requests in flight."""


class Samples:
    """Samples of a run; made once for many of its trials."""

    def __init__(self, data: RunData) -> None:
        self._data = data
        self._closed_loops = {
            (stage.number, stage.attempt, stage.stage)
            for stage in data.stages
            if stage.load == CLOSED_LOOP
        }

    def of(self, trial: TrialRecord, objective: str | None = None) -> Sample | None:
        """`objective`, the deciding one by default, of a trial; None where it was not measured."""
        name = self._data.goals[0].name if objective is None else objective
        if trial.measurement is None:
            return None
        stage = (trial.number, trial.attempt, trial.deciding_stage)
        return self._sample(name, trial.measurement, trial, stage in self._closed_loops)

    def of_stage(self, trial: TrialRecord, stage: StageRecord, objective: str) -> Sample | None:
        """`objective` of one stage of a trial."""
        return self._sample(objective, stage.measurement, trial, stage.load == CLOSED_LOOP)

    def _sample(
        self, name: str, measurement: Measurement, trial: TrialRecord, closed_loop: bool
    ) -> Sample | None:
        if name not in OBJECTIVES:
            return None
        return sample(
            OBJECTIVES.get(name),
            measurement,
            gpus=trial.gpus,
            gpu_price_per_hour=self._data.gpu_price_per_hour,
            closed_loop=closed_loop,
        )


def sample_of(data: RunData, trial: TrialRecord, objective: str | None = None) -> Sample | None:
    """See `Samples.of`; for one trial."""
    return Samples(data).of(trial, objective)


def deciding_stage(data: RunData, trial: TrialRecord) -> StageRecord | None:
    """The stage whose measurement is the trial's own; None where its record is lost."""
    key = (trial.number, trial.attempt, trial.deciding_stage)
    return next(
        (stage for stage in data.stages if (stage.number, stage.attempt, stage.stage) == key), None
    )
