"""The exporter as an observer of the study."""

from __future__ import annotations

from orchestrator.messages import Phase, StageDone
from orchestrator.observer import Observer, RunInfo, Status
from orchestrator.scheduler import Waiting
from runtimes.plan import Allocation
from tracking.exporter import Exporter
from tracking.live import LiveFigures
from tracking.records import TrialRecord


class MetricsObserver(Observer):
    """Carries what happens into Prometheus metrics."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._best: TrialRecord | None = None
        self._engines: dict[int, str] = {}
        self._capacity_gpus = 0
        self._attached = self._stopping = False

    def started(self, info: RunInfo) -> None:
        self._attached = info.attached
        self._exporter.planned(info.planned)

    def asked(self, sampler: str, seconds: float) -> None:
        self._exporter.suggested(sampler, seconds)

    def launched(self, trial: Waiting, allocation: Allocation) -> None:
        self._engines[trial.number] = trial.params.engine
        gpus = 0 if self._attached else len(allocation.gpu_ids)
        self._exporter.trial_started(trial.number, trial.params.engine, gpus)

    def phase(self, number: int, attempt: int, phase: Phase, previous_s: float) -> None:
        self._exporter.phase_entered(number, phase.value)

    def live(self, figures: LiveFigures) -> None:
        self._exporter.live(figures)

    def stage(self, done: StageDone) -> None:
        engine = self._engines.get(done.record.number, "")
        self._exporter.requests(done.record.number, engine, done.counts)
        self._exporter.stage_ended(engine, done.record)

    def finished(self, record: TrialRecord, retry: bool) -> None:
        self._engines.pop(record.number, None)
        self._exporter.trial_finished(record)

    def status(self, status: Status) -> None:
        self._exporter.queued(0 if self._stopping else status.queued)
        if status.capacity_gpus != self._capacity_gpus:
            self._capacity_gpus = status.capacity_gpus
            self._exporter.capacity(status.capacity_gpus)
        self._exporter.withheld(foreign=status.foreign_gpus, quarantined=status.quarantined_gpus)
        self._exporter.gpu_seconds(busy=status.busy_gpu_seconds, idle=status.idle_gpu_seconds)
        self._exporter.pareto(status.pareto)
        if status.best is not self._best and status.best is not None:
            self._best = status.best
            self._exporter.best(status.best.objectives)

    def stopping(self, reason: str) -> None:
        # What is proposed waits for devices no more: only a resumed study may start it.
        self._stopping = True
        self._exporter.queued(0)
