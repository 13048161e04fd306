"""One stage of load, sent from the event loop it is called on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns

from runtimes.load.exchange import LoadClient
from runtimes.load.health import ProcessHealth
from runtimes.load.job import LoadJob
from runtimes.load.oversight import overseen
from runtimes.load.result import LoadResult, OnProgress
from runtimes.load.sender import Report, Sender, Share
from runtimes.load.shares import planned


async def run_load(
    client: LoadClient, job: LoadJob, *, on_progress: OnProgress | None = None
) -> LoadResult:
    """Send the first `load.requests` prompts of `job` and return when each has ended.

    Bodies are made and connections opened before the clock starts. Whatever a server does wrong
    is the error of a record. Cancelling ends every request and leaves the client usable. Where
    other things run on this loop, `LoadWorkers` sends the same load from processes of its own.

    Args:
        client: of the server under test.
        job: what to send, and when.
        on_progress: called at most four times a second, and at the end.

    Raises:
        ValueError: fewer prompts than the load has requests, or one that cannot be sent so.
        LoadStalled: the server was silent for `stall_timeout_s`.
        LoadAborted: requests failed `MIN_FAILURES_IN_ROW` times in a row, or more when more
            were in flight.
        EngineError: this machine has not even a timer left for the load.
    """
    sender = Sender(client, Share(job, planned(job)))
    await sender.prepare()
    start_ns = perf_counter_ns()
    sender.start(start_ns)
    return await overseen(_OwnCrew(sender), job, start_ns, on_progress)


class _OwnCrew:
    """A sender on this loop."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.stop = sender.stop
        self.cancel = sender.cancel

    async def wait(self, timeout_s: float) -> bool:
        await asyncio.wait({self._sender.done}, timeout=timeout_s)
        return self._sender.done.done()

    def reports(self) -> Sequence[tuple[int, Report]]:
        return [(0, self._sender.report())]

    def health(self) -> Sequence[ProcessHealth]:
        return [self._sender.health()]
