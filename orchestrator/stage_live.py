"""What a running stage shows: sampled gauges of the engine, the progress of the load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from orchestrator.engine_session import EngineSession
from orchestrator.messages import TrialOrder
from runtimes.load.result import LoadProgress, OnProgress
from tracking.live import LiveFigures


@asynccontextmanager
async def sampled(
    session: EngineSession, order: TrialOrder, stage: int, live: Callable[[LiveFigures], None]
) -> AsyncIterator[OnProgress]:
    """Scrape the engine while the block runs; gives what is to be told of the load's progress."""
    reporter = _LiveReporter(order, stage, live)
    sampling = asyncio.ensure_future(_keep_sampling(session, order, stage, reporter))
    try:
        yield reporter.progress
    finally:
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling


async def _keep_sampling(
    session: EngineSession, order: TrialOrder, stage: int, reporter: _LiveReporter
) -> None:
    """Scrape at `sample_hz` on absolute deadlines, until cancelled."""
    began = time.monotonic()
    count = 0
    while True:
        found = await session.sample(stage)
        reporter.sampled(found, failed=not found and session.has_metrics)
        count = max(count + 1, int((time.monotonic() - began) * order.sample_hz))
        await asyncio.sleep(max(0.0, began + count / order.sample_hz - time.monotonic()))


class _LiveReporter:
    """Joins the load's progress and the engine's gauges into at most one figure a second."""

    def __init__(self, order: TrialOrder, stage: int, emit: Callable[[LiveFigures], None]) -> None:
        self._order = order
        self._stage = stage
        self._emit = emit
        self._last_s = time.monotonic()
        self._last = LoadProgress(0, 0, 0, 0)
        self._lag_ms = 0.0
        self._first: Mapping[str, tuple[str, float]] = {}
        self._latest: Mapping[str, tuple[str, float]] = {}
        self._scrape_errors = 0

    def sampled(self, found: Mapping[str, tuple[str, float]], *, failed: bool) -> None:
        """Take in a scrape; nothing `found` is a failure where the engine has metrics."""
        self._scrape_errors += failed
        self._first = self._first or found
        self._latest = found or self._latest

    def progress(self, progress: LoadProgress) -> None:
        now = time.monotonic()
        elapsed_s = now - self._last_s
        self._lag_ms = max(self._lag_ms, progress.lag_ms)
        if elapsed_s < 1.0:
            return
        last, lag_ms = self._last, self._lag_ms
        self._last_s, self._last, self._lag_ms = now, progress, 0.0
        self._emit(
            LiveFigures(
                number=self._order.number,
                attempt=self._order.attempt,
                gpus=self._order.plan.gpus,
                stage=self._stage,
                completed=progress.completed,
                failed=progress.failed,
                planned=progress.planned,
                output_tokens_per_s=(progress.output_tokens - last.output_tokens) / elapsed_s,
                requests_running=self._read("requests_running"),
                requests_waiting=self._read("requests_waiting"),
                kv_cache_usage_ratio=self._read("kv_cache_usage_ratio"),
                in_flight=progress.in_flight,
                lag_ms=lag_ms,
                ttft_mean_ms=progress.ttft_ms.mean_since(last.ttft_ms),
                tpot_mean_ms=progress.tpot_ms.mean_since(last.tpot_ms),
                prefix_cache_hit_ratio=self._hit_ratio(),
                prompt_tokens=self._read("prompt_tokens_total"),
                generation_tokens=self._read("generation_tokens_total"),
                preemptions=self._read("preemptions_total"),
                scrape_errors=self._scrape_errors,
            )
        )

    def _read(self, metric: str) -> float | None:
        found = self._latest.get(metric)
        return None if found is None else found[1]

    def _hit_ratio(self) -> float | None:
        queries = self._grown("prefix_cache_queries_total")
        hits = self._grown("prefix_cache_hits_total")
        return hits / queries if queries and hits is not None else None

    def _grown(self, counter: str) -> float | None:
        if counter not in self._first or counter not in self._latest:
            return None
        return self._latest[counter][1] - self._first[counter][1]
