"""Oversees a running stage, whichever processes send it: progress, stop rules, a dead server."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from time import perf_counter_ns
from typing import Protocol

from runtimes.client_limits import shortage_remedy
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.health import ProcessHealth, client_health
from runtimes.load.job import LoadJob
from runtimes.load.result import (
    LoadAborted,
    LoadProgress,
    LoadResult,
    LoadStalled,
    LoadStopped,
    OnProgress,
    Sum,
)
from runtimes.load.sender import Report
from runtimes.load.stop import StopJudge
from runtimes.measurement import ClientHealth, RequestRecord

LOOK_EVERY_S = 0.1
"""How often reports are taken and rules looked at."""
PROGRESS_EVERY_S = 0.25
_CANCELLED = "cancelled"
_CUT_OFF = ("hopeless", "interrupted")
"""Ends that do not await what is in flight; it counts neither as completed nor as failed."""


class Crew(Protocol):
    """The processes that send a stage which has been started."""

    async def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most so long; True once every request has ended.

        Raises:
            EngineError: a process is gone, and with it what it was to send.
        """

    def reports(self) -> Sequence[tuple[int, Report]]:
        """What has come in since the last call, each with the number of its process."""

    def stop(self) -> None:
        """Send nothing more; what is in flight goes on."""

    def cancel(self) -> None:
        """Send nothing more and end what is in flight."""

    def health(self) -> Sequence[ProcessHealth]:
        """How each process kept up; once all has ended."""


async def overseen(
    crew: Crew,
    job: LoadJob,
    start_ns: int,
    on_progress: OnProgress | None,
    interrupted: asyncio.Event | None = None,
) -> LoadResult:
    """What the stage that `crew` has started leaves.

    Cancelling ends every request. `on_progress` is called at most four times a second, and at
    the end. Once `interrupted` is set the stage ends at once, with what has ended by then.

    Raises:
        LoadStopped: the stage was ended because of its server (`LoadStalled`, `LoadAborted`) or of
            what this machine lacks, or because a process of the crew is gone.
    """
    oversight = _Oversight(job, start_ns)
    reported_ns = start_ns
    over = False
    try:
        while not over:
            over = await crew.wait(oversight.look_after_s(perf_counter_ns()))
            for worker, report in crew.reports():
                oversight.hear(worker, report)
            now_ns = perf_counter_ns()
            if over:
                break
            asked = interrupted is not None and interrupted.is_set()
            match oversight.decide(now_ns, asked_to_end=asked):
                case _Action.STOP:
                    crew.stop()
                case _Action.CANCEL:
                    crew.cancel()
                case _Action.GO_ON:
                    pass
            if on_progress and now_ns - reported_ns > PROGRESS_EVERY_S * 1e9:
                reported_ns = now_ns
                on_progress(oversight.progress())
    except EngineError as lost:
        raise LoadStopped(lost.failure, oversight.result(())) from None
    finally:
        if not over:
            crew.cancel()
    if on_progress:
        on_progress(oversight.progress())
    return oversight.outcome(crew.health())


class _Action(Enum):
    GO_ON = "go on"
    STOP = "stop"
    CANCEL = "cancel"


class _Oversight:
    """What is known of a stage, and what follows from it."""

    def __init__(self, job: LoadJob, start_ns: int) -> None:
        self._job = job
        self._start_ns = start_ns
        self._start_unix_s = time.time() - (perf_counter_ns() - start_ns) / 1e9
        self._judge = StopJudge(job, start_ns)
        self._latest: dict[int, Report] = {}
        self._records: list[RequestRecord] = []
        self._abandoned: list[RequestRecord] = []
        self._failed = 0
        self._output_tokens = 0
        self._ttft_ms = self._tpot_ms = Sum()
        self._lag_ms = 0.0
        self._stopped_by = ""
        self._failure: tuple[type[LoadStopped], Failure] | None = None

    def look_after_s(self, now_ns: int) -> float:
        """When to look again."""
        left_s = math.inf
        if self._something_left and not self._stopped_by:
            left_s = max(0.0, self._judge.seconds_left(now_ns))
        return min(LOOK_EVERY_S, self._job.stall_timeout_s / 4, left_s)

    def hear(self, worker: int, report: Report) -> None:
        """Take in what a process reports."""
        self._latest[worker] = report._replace(records=[])
        self._lag_ms = max(self._lag_ms, report.lag_ms)
        for record in report.records:
            if self._stopped_by in _CUT_OFF and record.error == _CANCELLED:
                self._abandoned.append(record)
                continue
            self._records.append(record)
            self._failed += record.error is not None
            if record.error is None:
                self._ttft_ms = self._ttft_ms.plus(record.ttft_ms)
                self._tpot_ms = self._tpot_ms.plus(record.tpot_ms)
            tokens = record.output_tokens
            self._output_tokens += len(record.chunk_ns) if tokens is None else tokens
            self._judge.ended(record)

    def decide(self, now_ns: int, *, asked_to_end: bool) -> _Action:
        """What to do now; each end is decided once, the first reason counts."""
        if self._failure is not None:
            return _Action.GO_ON
        self._judge.sampled(now_ns, self._in_flight)
        self._failure = self._aborted() or self._stalled(now_ns)
        if self._failure is not None:
            return _Action.CANCEL
        if self._stopped_by:
            return _Action.GO_ON
        self._stopped_by = "interrupted" if asked_to_end else self._verdict(now_ns)
        if not self._stopped_by:
            return _Action.GO_ON
        return _Action.CANCEL if self._stopped_by in _CUT_OFF else _Action.STOP

    def progress(self) -> LoadProgress:
        """Counts as last heard, and the lag since the call before."""
        lag_ms, self._lag_ms = self._lag_ms, 0.0
        arriving = sum(report.arriving_chunks for report in self._latest.values())
        return LoadProgress(
            completed=len(self._records) - self._failed,
            failed=self._failed,
            planned=self._job.load.requests,
            output_tokens=self._output_tokens + arriving,
            in_flight=self._in_flight,
            ttft_ms=self._ttft_ms,
            tpot_ms=self._tpot_ms,
            lag_ms=lag_ms,
        )

    def outcome(self, health: Sequence[ProcessHealth]) -> LoadResult:
        """What the stage leaves; raises why it was ended, if its server is to blame."""
        self._failure = self._failure or self._aborted()
        result = self.result(health)
        if self._failure is not None:
            error, failure = self._failure
            raise error(failure, result)
        last_ns = result.last_arrival_ns or result.ended_ns
        early = not result.stopped_by and self._judge.seconds_left(last_ns) > 0
        if early and self._job.load.stop.reserve:
            return replace(result, stopped_by="prompts")
        return result

    def result(self, health: Sequence[ProcessHealth]) -> LoadResult:
        """What was recorded so far."""
        records = sorted(self._records, key=lambda record: record.index)
        # A closed loop falls short as soon as one process has nothing left to send.
        closed_loop = self._job.load.held(0.0) is not None
        arrivals_ns = [one.last_arrival_ns for one in health]
        last_ns = (min if closed_loop else max)(arrivals_ns, default=None)
        # A process may have sent its last request before it heard of a rule.
        stopped = self._stopped_by in _CUT_OFF or self._something_left
        return LoadResult(
            records=tuple(records),
            started_ns=self._start_ns,
            ended_ns=max((record.end_ns for record in records), default=self._start_ns),
            start_unix_s=self._start_unix_s,
            client=None if last_ns is None else self._client(health, last_ns),
            stopped_by=self._stopped_by if stopped else "",
            last_arrival_ns=last_ns,
        )

    def _client(self, health: Sequence[ProcessHealth], last_ns: int) -> ClientHealth:
        everything = [*self._records, *self._abandoned]
        found = client_health(health, everything, self._job, self._start_ns, last_ns)
        cut_off = self._stopped_by in _CUT_OFF or self._failure is not None
        if cut_off and last_ns < self._start_ns + self._job.stagger_s * 1e9:
            return replace(found, held_ratio=None)  # all that was to be held was not due yet
        return found

    def _verdict(self, now_ns: int) -> str:
        return self._judge.verdict(now_ns, something_left=self._something_left)

    @property
    def _something_left(self) -> bool:
        """Whether anything is to be sent, as last heard; was, once the stage is stopped."""
        return not self._latest or any(report.unsent for report in self._latest.values())

    @property
    def _in_flight(self) -> int:
        return sum(report.in_flight for report in self._latest.values())

    def _aborted(self) -> tuple[type[LoadStopped], Failure] | None:
        """Requests failed one after the other, as a process has found."""
        for report in self._latest.values():
            if report.failed_in_row:
                gone = report.reason in ("connection refused", "connection lost", "cut stream")
                kind = FailureKind.CRASHED if gone else FailureKind.REQUESTS_FAILED
                words = f"{report.failed_in_row} requests failed in a row, the last with: "
                remedy = "See the engine's log for the first error."
                if own_remedy := shortage_remedy(report.reason):
                    kind, remedy = FailureKind.CLIENT_LIMITED, own_remedy
                return LoadAborted, Failure(kind, words + report.reason, remedy)
        return None

    def _stalled(self, now_ns: int) -> tuple[type[LoadStopped], Failure] | None:
        """Requests are in flight, and no byte has come for any of them for too long."""
        heard_ns = max((report.heard_ns for report in self._latest.values()), default=now_ns)
        limit_s = self._job.stall_timeout_s
        if not self._in_flight or now_ns - heard_ns <= limit_s * 1e9:
            return None
        words = f"no byte from the engine for {limit_s:g} s with {self._in_flight} requests"
        remedy = "See the engine's log; raise the stall timeout if a prefill may take that long."
        return LoadStalled, Failure(FailureKind.HUNG, f"{words} in flight", remedy)
