"""Hosts several attempts at once in one event loop; every kind of bundle wraps one of these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from orchestrator.messages import AttemptDone, TrialEvent, TrialOrder
from orchestrator.trial_body import TrialBody


class BundleHost:
    """Runs attempts as tasks. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._running: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._cancelled: set[tuple[int, int]] = set()

    async def run(self, order: TrialOrder) -> AsyncIterator[TrialEvent]:
        """Run one attempt; its events as they come, `AttemptDone` last."""
        key = (order.number, order.attempt)
        events: asyncio.Queue[TrialEvent] = asyncio.Queue()
        task = asyncio.ensure_future(TrialBody(order, events.put_nowait).run())
        self._running[key] = task
        if key in self._cancelled:
            task.cancel()
        try:
            while True:
                event = await _next_event(events, task)
                yield event
                if isinstance(event, AttemptDone):
                    return
        finally:
            await self._end(key, task)

    def cancel(self, number: int, attempt: int) -> None:
        """Stop an attempt; one that has not begun yet is stopped as it begins."""
        key = (number, attempt)
        if key in self._cancelled:
            return
        self._cancelled.add(key)
        if key in self._running:
            self._running[key].cancel()

    async def close(self) -> None:
        """Stop everything and wait until no process is left."""
        for number, attempt in list(self._running):
            self.cancel(number, attempt)
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _end(self, key: tuple[int, int], task: asyncio.Task[None]) -> None:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._running.pop(key, None)


async def _next_event(events: asyncio.Queue[TrialEvent], task: asyncio.Task[None]) -> TrialEvent:
    """The next event; an attempt that broke without its last word raises what broke it."""
    getting = asyncio.ensure_future(events.get())
    await asyncio.wait({getting, task}, return_when=asyncio.FIRST_COMPLETED)
    if getting.done():
        return getting.result()
    if not events.empty():
        return await getting
    getting.cancel()
    task.result()
    raise RuntimeError("an attempt ended without saying how")
