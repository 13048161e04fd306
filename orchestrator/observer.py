"""Who watches a study: progress displays, the metrics exporter. Called from the driver's loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.messages import Phase, StageDone
from orchestrator.scheduler import Waiting
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.goals import Goal
from tracking.live import LiveFigures
from tracking.records import TrialRecord


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as it begins.

    Attributes:
        planned: trials in all where that is known.
        finished: trials that ended before this driver took the run in hand.
        simulated: True when no real device is used.
        attached: True when only servers of somebody else's are measured, so that no GPU is held.
        selection: as `Workload.selection`.
    """

    run: str
    name: str
    folder: Path
    metrics_url: str
    goals: tuple[Goal, ...]
    planned: int | None
    finished: int
    simulated: bool
    attached: bool = False
    selection: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The study at this instant. GPU-seconds count from where this driver began.

    `capacity_gpus` are those there are to use; foreign and quarantined ones are not among them.
    A study that measures servers of somebody else's alone has none, whatever it counts slots by.
    `pareto` is how many trials no other one beats in every objective.
    """

    elapsed_s: float
    queued: int
    running: int
    busy_gpus: int
    capacity_gpus: int
    foreign_gpus: int
    quarantined_gpus: int
    busy_gpu_seconds: float
    idle_gpu_seconds: float
    counts: Mapping[str, int]
    best: TrialRecord | None
    pareto: int = 0


class Observer:
    """Base with nothing to say; override what you want to hear. Methods must not block."""

    def started(self, info: RunInfo) -> None:
        """The cluster is there and the first trial is about to be asked for."""

    def asked(self, sampler: str, seconds: float) -> None:
        """The sampler took `seconds` for a proposal."""

    def launched(self, trial: Waiting, allocation: Allocation) -> None:
        """An attempt got devices."""

    def phase(self, number: int, attempt: int, phase: Phase, previous_s: float) -> None:
        """An attempt entered `phase`; the one before took `previous_s`."""

    def serving(self, number: int, attempt: int, metrics_urls: tuple[str, ...]) -> None:
        """The servers of an attempt answer, and these of them have metrics for Prometheus."""

    def step(self, number: int, attempt: int, words: str) -> None:
        """What a starting attempt is doing, about one a second as it changes."""

    def gpus_awaited(self, number: int, node: str, gpus: tuple[DirtyGpu, ...]) -> None:
        """An attempt cannot start yet: somebody else uses its devices."""

    def gpu_withheld(self, node: str, gpu: DirtyGpu) -> None:
        """A device is not given on: for good when it is dirty, for the time when foreign."""

    def gpu_returned(self, node: str, gpu: str) -> None:
        """A foreign device is free again."""

    def live(self, figures: LiveFigures) -> None:
        """Figures of a running attempt, about one a second."""

    def stage(self, done: StageDone) -> None:
        """A load stage was measured."""

    def finished(self, record: TrialRecord, retry: bool) -> None:
        """An attempt's row is on disk."""

    def status(self, status: Status) -> None:
        """About twice a second, and after every change."""

    def stopping(self, reason: str) -> None:
        """Nothing new is started from here on."""

    def ended(self, reason: str) -> None:
        """Nothing runs any more; the record is complete."""
