"""One load stage on a ready engine: warm up, idle scrape, measure, drain, idle scrape."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.engine_session import EngineSession
from orchestrator.messages import Phase, StageDone, TrialOrder, secrets_of
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.arrivals import ConcurrencyLoad, Load
from runtimes.load.generator import run_load
from runtimes.load.job import LoadJob
from runtimes.load.result import LoadProgress, LoadResult, LoadStalled, LoadStopped
from runtimes.measurement import Measurement, RequestRecord
from runtimes.secrets import mask
from runtimes.statistics import summarise
from tracking.live import LiveFigures
from tracking.parquet.write import encode_requests
from tracking.records import StageRecord

_FAILED_SHARE = 0.1
"""A stage in which more requests fail than this share is a failed trial, not a slow one."""
_LATE_SHARE = 0.1
"""A simulated engine that lagged its own clock by more than this share of the stage is flagged."""


class StageFailedError(Exception):
    """The engine failed during a stage; what was measured until then is kept."""

    def __init__(self, failure: Failure, stage_done: StageDone) -> None:
        self.failure = failure
        self.stage_done = stage_done
        super().__init__(failure.message)


async def run_stage(
    session: EngineSession,
    order: TrialOrder,
    index: int,
    *,
    enter: Callable[[Phase], None],
    live: Callable[[LiveFigures], None],
    flags: set[str],
) -> StageDone:
    """Run stage `index` of `order`.

    Raises:
        EngineError: the engine failed while warming up.
        StageFailedError: it failed while being measured.
    """
    load = order.stages[index]
    enter(Phase.WARMING)
    await _warm_up(session, order, index, load)
    before = await session.idle_counters(index)
    enter(Phase.MEASURING)
    try:
        result = await _measured_load(session, order, index, load, live)
    except LoadStopped as cut:
        failure = await _cut_short(session, cut)
        raise StageFailedError(
            failure, _stage_done(order, index, load, cut.result, {}, {})
        ) from None
    after = await session.idle_counters(index)
    # Off the loop: other trials of this bundle are being measured on it.
    done = await asyncio.to_thread(_stage_done, order, index, load, result, before, after)
    measurement = done.record.measurement
    flags.update(measurement.flags)
    flags.update(_lateness_flag(measurement, before, after))
    flags.update(_stand_in_flag(order, after))
    too_many = _too_many_failed(measurement, result)
    if too_many is not None:
        await session.settle()
    if session.died:
        raise StageFailedError(session.failure("serve"), done)
    if too_many is not None:
        raise StageFailedError(replace(too_many, log_tail=session.log_tail()), done)
    return done


async def _warm_up(session: EngineSession, order: TrialOrder, index: int, load: Load) -> None:
    if not order.warmup_requests:
        return
    in_flight = load.value if isinstance(load, ConcurrencyLoad) else order.warmup_requests
    warmup = ConcurrencyLoad(min(in_flight, order.warmup_requests), order.warmup_requests)
    try:
        await _send(session, order, f"warmup-{index}", warmup, None)
    except LoadStopped as cut:
        raise EngineError(await _cut_short(session, cut)) from None


async def _measured_load(
    session: EngineSession,
    order: TrialOrder,
    index: int,
    load: Load,
    live: Callable[[LiveFigures], None],
) -> LoadResult:
    figures = _LiveReporter(order, live)
    sampling = asyncio.ensure_future(_keep_sampling(session, order, index, figures))
    try:
        return await _send(session, order, str(index), load, figures.progress)
    finally:
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling


async def _send(
    session: EngineSession,
    order: TrialOrder,
    stage: str,
    load: Load,
    on_progress: Callable[[LoadProgress], None] | None,
) -> LoadResult:
    prompts = await asyncio.to_thread(order.workload.prompts, stage, load.requests)
    async with session.watched():
        return await run_load(
            session.client,
            LoadJob(
                prompts,
                load,
                order.model,
                session.engine.request_fields,
                order.seed,
                order.timeouts.request_s,
                order.timeouts.stall_s,
            ),
            on_progress=on_progress,
        )


async def _cut_short(session: EngineSession, cut: LoadStopped) -> Failure:
    """Why a load ended early: the process died, or it lives and does not answer."""
    if not isinstance(cut, LoadStalled):
        await session.settle()
    if session.died:
        return session.failure("serve")
    return replace(cut.failure, log_tail=session.log_tail())


def _too_many_failed(measurement: Measurement, result: LoadResult) -> Failure | None:
    failed, total = measurement.requests_failed, len(result.records)
    if failed <= _FAILED_SHARE * total:
        return None
    reasons = sorted({record.error for record in result.records if record.error})
    words = f"{failed} of {total} requests failed: {'; '.join(reasons[:3])}"
    return Failure(FailureKind.REQUESTS_FAILED, words, "read the engine's log for the cause")


def _lateness_flag(
    measurement: Measurement, before: Mapping[str, float], after: Mapping[str, float]
) -> set[str]:
    """A simulated engine says how much later than its model it was: the machine's fault."""
    late_s = after.get("lateness_seconds_total", 0.0) - before.get("lateness_seconds_total", 0.0)
    return {"simulator_late"} if late_s > _LATE_SHARE * measurement.duration_s else set()


def _stand_in_flag(order: TrialOrder, counters: Mapping[str, float]) -> set[str]:
    """A server that somebody else started may be a simulation too; it alone says how late it is."""
    simulated = "lateness_seconds_total" in counters
    return {"attached_simulator"} if simulated and not order.plan.simulated else set()


def _stage_done(
    order: TrialOrder,
    index: int,
    load: Load,
    result: LoadResult,
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> StageDone:
    record = StageRecord(
        run=order.run,
        number=order.number,
        attempt=order.attempt,
        stage=index,
        load=load.kind,
        load_value=float(load.value),
        started_unix_s=result.start_unix_s,
        ended_unix_s=result.start_unix_s + (result.ended_ns - result.started_ns) / 1e9,
        measurement=summarise(result, order.slo),
        counters_before=before,
        counters_after=after,
    )
    requests = encode_requests(
        run=order.run,
        number=order.number,
        attempt=order.attempt,
        stage=index,
        records=[_masked(record, order) for record in result.records],
    )
    latencies = tuple(
        (record.ttft_ms, record.tpot_ms, record.e2e_ms, record.error is None)
        for record in result.records
    )
    return StageDone(record, requests, latencies)


def _masked(record: RequestRecord, order: TrialOrder) -> RequestRecord:
    """A server may echo what it was told; no secret of it reaches the record."""
    if record.error is None:
        return record
    return replace(record, error=mask(record.error, secrets_of(order)))


async def _keep_sampling(
    session: EngineSession, order: TrialOrder, index: int, figures: _LiveReporter
) -> None:
    """Scrape at `sample_hz` on absolute deadlines, until cancelled."""
    began = time.monotonic()
    count = 0
    while True:
        figures.sampled(await session.sample(index))
        count = max(count + 1, int((time.monotonic() - began) * order.sample_hz))
        await asyncio.sleep(max(0.0, began + count / order.sample_hz - time.monotonic()))


class _LiveReporter:
    """Joins the load's progress and the engine's gauges into at most one figure a second."""

    def __init__(self, order: TrialOrder, emit: Callable[[LiveFigures], None]) -> None:
        self._order = order
        self._emit = emit
        self._last_s = time.monotonic()
        self._last_tokens = 0
        self._gauges: Mapping[str, tuple[str, float]] = {}

    def sampled(self, gauges: Mapping[str, tuple[str, float]]) -> None:
        self._gauges = gauges or self._gauges

    def progress(self, progress: LoadProgress) -> None:
        now = time.monotonic()
        elapsed_s = now - self._last_s
        if elapsed_s < 1.0:
            return
        tokens_per_s = (progress.output_tokens - self._last_tokens) / elapsed_s
        self._last_s, self._last_tokens = now, progress.output_tokens
        self._emit(
            LiveFigures(
                number=self._order.number,
                attempt=self._order.attempt,
                gpus=self._order.plan.gpus,
                completed=progress.completed,
                failed=progress.failed,
                planned=progress.planned,
                output_tokens_per_s=tokens_per_s,
                requests_running=self._gauge("requests_running"),
                requests_waiting=self._gauge("requests_waiting"),
                kv_cache_usage_ratio=self._gauge("kv_cache_usage_ratio"),
            )
        )

    def _gauge(self, name: str) -> float | None:
        found = self._gauges.get(name)
        return None if found is None else found[1]
