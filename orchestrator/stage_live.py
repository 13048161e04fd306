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
        reporter.sampled(await session.sample(stage))
        count = max(count + 1, int((time.monotonic() - began) * order.sample_hz))
        await asyncio.sleep(max(0.0, began + count / order.sample_hz - time.monotonic()))


class _LiveReporter:
    """Joins the load's progress and the engine's gauges into at most one figure a second."""

    def __init__(self, order: TrialOrder, stage: int, emit: Callable[[LiveFigures], None]) -> None:
        self._order = order
        self._stage = stage
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
                stage=self._stage,
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
