"""A run in memory: what reports, summaries and comparisons are made of."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtimes.engines.base import ENGINES
from runtimes.json_types import Json
from search.goals import Goal
from search.trial import TrialState
from tracking.events import Ending
from tracking.records import StageRecord, TrialRecord

__all__ = ["Goal", "RunData"]


@dataclass(frozen=True, slots=True)
class RunData:
    """Everything a report needs.

    Attributes:
        run: run id.
        folder: where it was read from; empty for one that was not.
        name: the experiment's name.
        experiment: the experiment file as resolved, for display.
        goals: objectives, the deciding one first.
        trials: every attempt, in order of (number, attempt).
        capacity_gpus: GPUs the study held.
        capacity_gpu_seconds: GPU-seconds it held them, over all drivers of the run.
        rowless_gpu_seconds: those of attempts that left no row, as their driver was killed, or that
            run at this moment.
        unread_trials: trials that finished by the journal, and whose rows cannot be read.
        excluded: reason → combinations excluded before launch.
        ended: why the run ended; empty while it runs or when it was killed.
        ending: how.
        communication_ratios: by number of the trial, the share of a decode step that it was
            predicted to spend on communication between GPUs, 0 to 1; only where that was predicted.
    """

    run: str
    name: str
    experiment: Mapping[str, Json]
    goals: tuple[Goal, ...]
    trials: tuple[TrialRecord, ...]
    stages: tuple[StageRecord, ...] = ()
    capacity_gpus: int = 0
    capacity_gpu_seconds: float | None = None
    rowless_gpu_seconds: float = 0.0
    unread_trials: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    ended: str = ""
    ending: Ending = Ending.UNKNOWN
    communication_ratios: Mapping[int, float] = field(default_factory=dict)
    folder: str = ""

    @property
    def argument(self) -> str:
        """What names the run to a command, for a shell: an id alone is found below --results."""
        return shlex.quote(self.folder or self.run)

    @property
    def attached(self) -> bool:
        """True where only servers of somebody else's were measured, so that no GPU was held."""
        engines = self.experiment.get("engines")
        return isinstance(engines, Mapping) and bool(engines) and all(map(attaches, engines))

    @property
    def gpu_price_per_hour(self) -> float | None:
        """What a GPU costs, as the experiment says; None where it does not."""
        cluster = self.experiment.get("cluster")
        price = cluster.get("gpu_price_per_hour") if isinstance(cluster, Mapping) else None
        return float(price) if isinstance(price, int | float) else None

    def last_attempts(self) -> list[TrialRecord]:
        """The latest attempt of each trial."""
        latest: dict[int, TrialRecord] = {}
        for trial in self.trials:
            known = latest.get(trial.number)
            if known is None or trial.attempt > known.attempt:
                latest[trial.number] = trial
        return [latest[number] for number in sorted(latest)]

    def best(self) -> TrialRecord | None:
        """The completed trial with the best deciding objective among those that meet the SLO.

        When none meets it, the one that breaks it least, so that the answer is never empty
        while something was measured; ties go to fewer GPUs, then to the earlier trial.
        """
        return next(iter(self.ranked()), None)

    def best_lossless(self) -> TrialRecord | None:
        """The same among trials whose precision costs no accuracy."""
        return next((trial for trial in self.ranked() if trial.lossless), None)

    def ranked(self) -> list[TrialRecord]:
        """Those of `completed` that may be the best one: not what only checks a node."""
        return [trial for trial in self.completed() if not trial.reference]

    def completed(self) -> list[TrialRecord]:
        """Completed trials with the deciding objective, from best to worst."""
        goal = self.goals[0]
        found = [
            trial
            for trial in self.last_attempts()
            if trial.state is TrialState.COMPLETED and goal.name in trial.objectives
        ]
        return sorted(found, key=lambda trial: rank(goal, trial))

    def baseline(self) -> TrialRecord | None:
        """The first completed trial of an engine's defaults."""
        for trial in self.last_attempts():
            if trial.baseline and trial.state is TrialState.COMPLETED:
                return trial
        return None


def attaches(engine: str) -> bool:
    """Whether a trial of `engine` measures a server of somebody else's, and holds no GPU."""
    return engine in ENGINES and ENGINES.get(engine).attaches


def rank(goal: Goal, trial: TrialRecord) -> tuple[bool, float, float, int, int]:
    """Sorts completed trials from best to worst by `goal`.

    Doubtful measurements come last, then those that break an SLO, by how much; ties go to
    fewer GPUs, then to the earlier trial.
    """
    value = trial.objectives[goal.name]
    verdicts = trial.measurement.slo if trial.measurement else ()
    excess = max((verdict.violation for verdict in verdicts), default=0.0)
    signed = -value if goal.direction == "maximize" else value
    return (bool(trial.doubts), max(excess, 0.0), signed, trial.gpus, trial.number)
