"""Hosts several attempts at once in one event loop; every kind of bundle wraps one of these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from orchestrator.messages import AttemptDone, TrialEvent, TrialOrder
from orchestrator.trial_body import TrialBody


class BundleHost:
    """Runs attempts as tasks. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[int, int], TrialBody] = {}
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._cancelled: set[tuple[int, int]] = set()

    async def run(self, order: TrialOrder) -> AsyncIterator[TrialEvent]:
        """Run one attempt; its events as they come, `AttemptDone` last."""
        key = (order.number, order.attempt)
        events: asyncio.Queue[TrialEvent] = asyncio.Queue()
        body = self._bodies[key] = TrialBody(order, events.put_nowait)
        task = self._tasks[key] = asyncio.ensure_future(body.run())
        if key in self._cancelled:
            body.cancel()
        try:
            while True:
                event = await _next_event(events, task)
                yield event
                if isinstance(event, AttemptDone):
                    return
        finally:
            body.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._bodies.pop(key, None)
            self._tasks.pop(key, None)

    def cancel(self, number: int, attempt: int) -> None:
        """Stop an attempt; one that has not arrived yet is stopped as it begins."""
        key = (number, attempt)
        self._cancelled.add(key)
        if key in self._bodies:
            self._bodies[key].cancel()

    async def close(self) -> None:
        """Stop everything and wait until no process is left."""
        for body in self._bodies.values():
            body.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


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
