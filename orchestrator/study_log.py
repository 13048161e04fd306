"""What happens to a study as log records: a line an event, with the ids of what it is about."""

from __future__ import annotations

import logging

from orchestrator.logs import about, fields
from orchestrator.messages import Phase, StageDone
from orchestrator.observer import Observer, RunInfo, Status
from orchestrator.scheduler import Waiting
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.trial import TrialState
from tracking.live import LiveFigures
from tracking.records import TrialRecord

_logger = logging.getLogger("orchestrator.study")


class StudyLog(Observer):
    """Events are INFO, what somebody should look at is WARNING, live figures are DEBUG."""

    def __init__(self) -> None:
        self._run = ""
        self._attempts: dict[int, int] = {}
        self._phases: dict[int, Phase] = {}
        self._best: int | None = None

    def started(self, info: RunInfo) -> None:
        self._run = info.run
        facts = fields(
            event="study_started",
            folder=str(info.folder),
            metrics=info.metrics_url,
            trials_planned=info.planned,
            trials_finished=info.finished,
            simulated=info.simulated,
        )
        _logger.info("study started: record %s", info.folder, extra=facts)

    def launched(self, trial: Waiting, allocation: Allocation) -> None:
        self._attempts[trial.number] = trial.attempt
        facts = fields(
            event="trial_started",
            engine=trial.params.engine,
            parameters=dict(trial.params.values),
            node=allocation.node,
            gpu_ids=list(allocation.gpu_ids),
        )
        with about(self._run, trial.number, trial.attempt):
            _logger.info("trial %d started on %s", trial.number, allocation.node, extra=facts)

    def phase(self, number: int, attempt: int, phase: Phase, previous_s: float) -> None:
        if self._phases.get(number) is phase:
            return  # told again, with the processes that belong to it
        self._phases[number] = phase
        facts = fields(event="phase", phase=phase.value, previous_phase_s=previous_s)
        with about(self._run, number, attempt):
            _logger.info("trial %d is %s", number, phase.value, extra=facts)

    def step(self, number: int, attempt: int, words: str) -> None:
        with about(self._run, number, attempt):
            _logger.debug("trial %d: %s", number, words, extra=fields(event="step"))

    def gpus_awaited(self, number: int, node: str, gpus: tuple[DirtyGpu, ...]) -> None:
        words = "; ".join(map(str, gpus))
        with about(self._run, number, self._attempts.get(number, 0)):
            _logger.warning(
                "trial %d waits: %s %s", number, node, words, extra=fields(event="gpus_awaited")
            )

    def gpu_withheld(self, node: str, gpu: DirtyGpu) -> None:
        facts = fields(event="gpu_withheld", node=node, gpu=gpu.gpu, why=gpu.kind)
        _logger.warning("GPU withheld: %s %s", node, gpu, extra=facts)

    def gpu_returned(self, node: str, gpu: str) -> None:
        _logger.info(
            "GPU free again: %s %s", node, gpu,
            extra=fields(event="gpu_returned", node=node, gpu=gpu),
        )  # fmt: skip

    def live(self, figures: LiveFigures) -> None:
        facts = fields(
            event="live",
            stage=figures.stage,
            completed=figures.completed,
            planned=figures.planned,
            output_tokens_per_s=figures.output_tokens_per_s,
        )
        with about(self._run, figures.number, figures.attempt):
            _logger.debug("trial %d: %s", figures.number, figures.progress, extra=facts)

    def stage(self, done: StageDone) -> None:
        record = done.record
        facts = fields(
            event="stage_measured",
            stage=record.stage,
            load=record.load,
            load_value=record.load_value,
            request_throughput=record.measurement.request_throughput,
            flags=list(record.measurement.flags),
        )
        with about(self._run, record.number, record.attempt):
            _logger.info("trial %d: stage %d measured", record.number, record.stage, extra=facts)

    def finished(self, record: TrialRecord, retry: bool) -> None:
        self._attempts.pop(record.number, None)
        self._phases.pop(record.number, None)
        failure = record.failure
        reason = failure.message if failure is not None else record.reason
        facts = fields(
            event="trial_ended",
            state=record.state.value,
            objectives=dict(record.objectives),
            flags=list(record.flags),
            failure=failure.kind.value if failure is not None else None,
            remedy=failure.remedy if failure is not None else None,
            reason=reason or None,
            retried=retry,
            gpu_seconds=record.gpu_seconds,
        )
        level = logging.WARNING if record.state is TrialState.FAILED else logging.INFO
        said = f": {reason}" if reason else ""
        with about(self._run, record.number, record.attempt):
            _logger.log(
                level, "trial %d %s%s", record.number, record.state.value, said, extra=facts
            )

    def status(self, status: Status) -> None:
        best = status.best
        if best is None or best.number == self._best:
            return
        self._best = best.number
        facts = fields(event="best_changed", objectives=dict(best.objectives))
        with about(self._run, best.number, best.attempt):
            _logger.info("trial %d is the best so far", best.number, extra=facts)

    def stopping(self, reason: str) -> None:
        _logger.info("stopping: %s", reason, extra=fields(event="stopping", reason=reason))

    def ended(self, reason: str) -> None:
        _logger.info("study ended: %s", reason, extra=fields(event="study_ended", reason=reason))
