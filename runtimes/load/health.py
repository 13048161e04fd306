"""How well a load generator kept up with its load, watched while it ran."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from runtimes.load.job import LoadJob
from runtimes.load.shares import slots_at
from runtimes.measurement import ClientHealth, RequestRecord

LAG_EVERY_S = 0.01
"""How often a timer of the loop is due whose lateness is the loop's lag."""
_HELD_SAMPLES = 200
_SENT = (None, "cancelled")
"""Errors of requests whose sending counts: those that a stage abandoned were under way."""


@dataclass(frozen=True, slots=True)
class ProcessHealth:
    """What one process knows of itself after a stage.

    Attributes:
        cpu_s, duration_s: CPU time it took, and how long its share of the stage was.
        last_arrival_ns: until when it had sessions to begin (`Sender`).
    """

    cpu_s: float
    duration_s: float
    lag_p99_ms: float
    lag_max_ms: float
    connections_opened: int
    last_arrival_ns: int


class LoopProbe:
    """Measures, from `start` to `stop`, how late the running loop's timers are.

    A timer is due every `LAG_EVERY_S` by the clock; where the loop stood still, all that were due
    in the meantime were late.
    """

    def __init__(self) -> None:
        self._lags_ms = array("d")
        self._told = 0
        self._due_ns = 0
        self._start_ns = 0
        self._cpu_s = 0.0
        self._duration_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, start_ns: int) -> None:
        """Measure from `start_ns` of `time.perf_counter_ns` on."""
        self._start_ns = self._due_ns = start_ns
        self._cpu_s = time.process_time()
        self._set_timer()

    def stop(self) -> None:
        """Measure no more. Idempotent."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        now_ns = perf_counter_ns()
        self._count_lags(now_ns)
        self._cpu_s = time.process_time() - self._cpu_s
        self._duration_s = max(0, now_ns - self._start_ns) / 1e9

    def latest_max_ms(self) -> float:
        """The longest lag since this was asked before; 0 where no timer was due."""
        latest = max(self._lags_ms[self._told :], default=0.0)
        self._told = len(self._lags_ms)
        return latest

    def health(self, *, connections_opened: int, last_arrival_ns: int) -> ProcessHealth:
        """What was measured, once stopped."""
        return ProcessHealth(
            cpu_s=self._cpu_s,
            duration_s=self._duration_s,
            lag_p99_ms=_percentile(self._lags_ms, 0.99),
            lag_max_ms=max(self._lags_ms, default=0.0),
            connections_opened=connections_opened,
            last_arrival_ns=last_arrival_ns,
        )

    def _on_timer(self) -> None:
        self._count_lags(perf_counter_ns())
        self._set_timer()

    def _count_lags(self, now_ns: int) -> None:
        while self._due_ns <= now_ns:
            self._lags_ms.append((now_ns - self._due_ns) / 1e6)
            self._due_ns += int(LAG_EVERY_S * 1e9)

    def _set_timer(self) -> None:
        delay_s = max(0.0, (self._due_ns - perf_counter_ns()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)


def client_health(
    processes: Sequence[ProcessHealth],
    records: Sequence[RequestRecord],
    job: LoadJob,
    start_ns: int,
    last_arrival_ns: int,
) -> ClientHealth:
    """The health of all processes of a stage together.

    Args:
        processes: what each said of itself, at least one.
        records: every request that was begun, those that were abandoned included.
        job: the stage.
        start_ns: the stage's start.
        last_arrival_ns: until when the load had something left to send.
    """
    completed = [record for record in records if record.error is None]
    lateness_ms = [(record.sent_ns - record.scheduled_ns) / 1e6 for record in completed]
    chunks = sum(len(record.chunk_ns) for record in completed)
    # All bytes of one read carry one time.
    reads = sum(len(set(record.chunk_ns)) for record in completed)
    return ClientHealth(
        processes=len(processes),
        cpu_s=sum(one.cpu_s for one in processes),
        cpu_share=max(one.cpu_s / one.duration_s if one.duration_s else 0.0 for one in processes),
        lag_p99_ms=max(one.lag_p99_ms for one in processes),
        lag_max_ms=max(one.lag_max_ms for one in processes),
        send_lateness_p99_ms=_percentile(lateness_ms, 0.99),
        held_ratio=held_ratio(records, job, start_ns, last_arrival_ns),
        connections_opened=sum(one.connections_opened for one in processes),
        chunks_per_read=chunks / reads if reads else 0.0,
    )


def held_ratio(
    records: Sequence[RequestRecord], job: LoadJob, start_ns: int, last_arrival_ns: int
) -> float | None:
    """Mean sessions in flight over those that a closed loop was to hold.

    From the end of its stagger until it had nothing left to send; None where that is no time at
    all, for an open loop, and where nothing completed. A request is due when the record says that
    the one before it in its slot had ended, its user's pause later where there is one, so what a
    slot lacks is the time from when a request was due until it was sent. Of requests that failed it
    does not count: a server that refuses at once has slots turn over faster than anybody sends.

    A loop that never began as many sessions as it was to hold, because it had too few or was
    stopped within its stagger, held as many as it began.
    """
    begun_ns = [record.scheduled_ns for record in records if record.turn == 0]
    elapsed_s = (max(begun_ns, default=start_ns) - start_ns) / 1e9
    asked = job.load.held(elapsed_s)
    if not asked or all(record.error is not None for record in records):
        return None
    reached = min(len(begun_ns), slots_at(job, elapsed_s) or 0)
    if reached < asked:
        return reached / asked
    return _filled(records, job, start_ns, last_arrival_ns)


def _filled(
    records: Sequence[RequestRecord], job: LoadJob, start_ns: int, last_arrival_ns: int
) -> float | None:
    """What slots that were all begun had of the time from the stagger to the last arrival."""
    from_ns = start_ns + int(job.stagger_s * 1e9)
    span_ns = last_arrival_ns - from_ns
    if span_ns <= 0:
        return None
    missing_ns = sum(
        max(0, min(record.sent_ns, last_arrival_ns) - max(record.scheduled_ns, from_ns))
        for record in records
        if record.error in _SENT
    )
    steps = ((sample + 0.5) / _HELD_SAMPLES for sample in range(_HELD_SAMPLES))
    asked = sum(job.load.held(job.stagger_s + step * span_ns / 1e9) or 0 for step in steps)
    return 1.0 - missing_ns / span_ns / (asked / _HELD_SAMPLES)


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[math.ceil(share * len(values)) - 1]
