"""Hosts several attempts at once in one event loop; every kind of bundle wraps one of these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from orchestrator.logs import about
from orchestrator.messages import AttemptDone, TrialEvent, TrialOrder
from orchestrator.trial_body import TrialBody
from runtimes.telemetry.release import DirtyGpu, until_returned


class BundleHost:
    """Runs attempts as tasks. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[int, int], TrialBody] = {}
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._cancelled: set[tuple[int, int]] = set()
        self._watches: set[asyncio.Task[None]] = set()

    async def run(self, order: TrialOrder) -> AsyncIterator[TrialEvent]:
        """Run one attempt; its events as they come, `AttemptDone` last."""
        key = (order.number, order.attempt)
        events: asyncio.Queue[TrialEvent] = asyncio.Queue()
        body = self._bodies[key] = TrialBody(order, events.put_nowait)
        with about(order.run, *key):
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

    async def returned(self, gpu: DirtyGpu) -> bool:
        """Wait until a foreign device is free again; False when the bundle closes before."""
        task = asyncio.ensure_future(until_returned(gpu))
        self._watches.add(task)
        await asyncio.wait({task})
        self._watches.discard(task)
        if task.cancelled():
            return False
        task.result()
        return True

    async def close(self) -> None:
        """Stop everything and wait until no process is left."""
        for watch in self._watches:
            watch.cancel()
        for body in self._bodies.values():
            body.cancel()
        everything = [*self._tasks.values(), *self._watches]
        await asyncio.gather(*everything, return_exceptions=True)


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
