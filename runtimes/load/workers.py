"""Worker processes that send one load together, so that nothing else runs on their loops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from types import TracebackType
from typing import TypeAlias

from runtimes.errors import EngineError, InternalError, ServetuneError
from runtimes.failure import Failure, FailureKind
from runtimes.load.address import ServerAddress
from runtimes.load.arrivals import Load, ReplayLoad
from runtimes.load.health import ProcessHealth
from runtimes.load.job import LoadJob
from runtimes.load.oversight import overseen
from runtimes.load.result import LoadResult, OnProgress
from runtimes.load.sender import Report
from runtimes.load.shares import PlannedSession, dealt, planned
from runtimes.load.wire import (
    Broken,
    Command,
    Ended,
    Prepare,
    Ready,
    Reported,
    Sessions,
    Setup,
    Start,
    Unable,
    packed,
)
from runtimes.load.worker_process import WorkerProcess
from runtimes.workloads.base import Prompt

Server: TypeAlias = ServerAddress

STREAMS_PER_PROCESS = 256
CHUNKS_PER_S_PER_PROCESS = 60_000
"""What one process sends and reads at about half of a core, which leaves its loop punctual."""
NO_SIGN_S = 30.0
"""A process that reports nothing for so long while a stage runs is taken to hang."""
_START_AFTER_S = 0.02
"""From when all are ready to the stage's start, so that none hears of it too late."""
_SESSIONS_AT_ONCE = 32


def processes_for(load: Load, sample: Sequence[Prompt], *, most: int) -> int:
    """How many processes a load is worth: one until it is too much for one, at most `most`.

    `sample` are the first of its prompts: the mean answers of a session make chunks per second of a
    rate, and their arrivals the rate of a replay.
    """
    if load.held(0.0) is not None:
        demand = load.value / STREAMS_PER_PROCESS
    else:
        firsts = [prompt for prompt in sample if prompt.turn == 0]
        output_tokens = sum(prompt.output_tokens for prompt in sample) / max(1, len(firsts))
        demand = _rate(load, firsts) * output_tokens / CHUNKS_PER_S_PER_PROCESS
    return max(1, math.ceil(min(demand, most)))


def _rate(load: Load, firsts: Sequence[Prompt]) -> float:
    """Sessions per second; of a replay, over one second at least, which is as exact as some are."""
    if not isinstance(load, ReplayLoad):
        return load.value
    *_, last_ns = load.schedule_ns(0, firsts)
    return len(firsts) / max(1.0, last_ns / 1e9)


class LoadWorkers:
    """Sends loads to `servers` from `processes` processes; use it as an async context manager.

    They share a schedule and a clock, so that what they record together is what one would have
    recorded. They end with this process, however it ends. Belongs to the loop it is entered on.

    Args:
        servers: at least one; each request goes to the least busy one.
        processes: at least one.
        api_key: sent to the servers as a bearer token; it reaches the processes through their
            sockets only.
    """

    def __init__(
        self, servers: Sequence[Server], *, processes: int, api_key: str | None = None
    ) -> None:
        self._servers = tuple(servers)
        self._api_key = api_key
        self._count = processes
        self._processes: list[WorkerProcess] = []
        self._runs = 0
        self._interrupted = asyncio.Event()

    async def __aenter__(self) -> LoadWorkers:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.close)
            for number in range(self._count):
                # Each prefers another server among equally busy ones.
                first = number % len(self._servers)
                setup = Setup(self._servers, self._api_key, first)
                self._processes.append(await WorkerProcess.started(setup))
            stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes."""
        return tuple(process.pid for process in self._processes)

    async def run(self, job: LoadJob, *, on_progress: OnProgress | None = None) -> LoadResult:
        """Send the first `load.requests` prompts of `job` and return when each has ended.

        One stage at a time. See `run_load`; cancelling leaves the processes usable.

        Raises:
            ValueError: fewer prompts than the load has requests, or one that cannot be sent so.
            LoadStopped: the stage could not be finished: because of the server, as `run_load`
                tells it, or because a process was killed under it.
            EngineError: a process was killed before.
            InternalError: a process met a bug; the message has its traceback.
        """
        self._runs += 1
        shares = dealt(await asyncio.to_thread(planned, job), job.load, self._count)
        crew = _WorkerCrew(self._runs, self._processes[: len(shares)])
        try:
            await crew.prepared(job, shares)
            del shares  # the processes have the bodies
            start_ns = perf_counter_ns() + int(_START_AFTER_S * 1e9)
            crew.tell(Start(start_ns))
            return await overseen(crew, job, start_ns, on_progress, self._interrupted)
        finally:
            crew.dismiss()

    def interrupt(self) -> None:
        """End the stage that runs, and any after it, with what has ended by then."""
        self._interrupted.set()

    def give_up(self) -> None:
        """Fail every request, under way and to come, with `connection lost`."""
        for process in self._processes:
            process.send(packed(Command.GIVE_UP))

    async def close(self) -> None:
        """End the processes and return when they are gone. Idempotent."""
        processes, self._processes = self._processes, []
        await asyncio.gather(*(process.close() for process in processes))


class _WorkerCrew:
    """The processes that send one stage.

    Args:
        run: number of the stage; messages of an earlier one are not for this.
    """

    def __init__(self, run: int, processes: Sequence[WorkerProcess]) -> None:
        self._run = run
        self._processes = processes
        self._ready: set[int] = set()
        self._health: dict[int, ProcessHealth] = {}
        self._reports: list[tuple[int, Report]] = []
        self._heard_ns = [perf_counter_ns()] * len(processes)
        self._error: ServetuneError | None = None
        self._all_ready = asyncio.Event()
        self._over = asyncio.Event()
        for number, process in enumerate(processes):
            process.on_message = partial(self._on_message, number)
            process.on_gone = self._on_error
            if process.gone is not None:
                self._on_error(process.gone)

    async def prepared(self, job: LoadJob, shares: Sequence[list[PlannedSession]]) -> None:
        """Hand each process its sessions, and return when all could start.

        Raises:
            EngineError: a process was killed, or hangs.
            InternalError: one met a bug.
        """
        # A process opens its connections within a request's timeout, and is silent until then.
        limit_s = job.request_timeout_s + NO_SIGN_S
        try:
            async with asyncio.timeout(limit_s):
                await self._hand_out(job, shares)
                await self._all_ready.wait()
        except TimeoutError:
            late = set(range(len(self._processes))) - self._ready
            raise self._hangs(self._processes[min(late)], limit_s) from None
        self._raise_if_lost()
        self._heard_ns = [perf_counter_ns()] * len(self._processes)

    async def _hand_out(self, job: LoadJob, shares: Sequence[list[PlannedSession]]) -> None:
        bare = replace(job, prompts=(), request_fields={})  # bodies are made of both
        workers = len(self._processes)
        for number, (process, share) in enumerate(zip(self._processes, shares, strict=True)):
            process.send(packed(Prepare(self._run, bare, number, workers)))
            for first in range(0, len(share), _SESSIONS_AT_ONCE):
                process.send(packed(Sessions(share[first : first + _SESSIONS_AT_ONCE])))
                await process.drained()
            process.send(packed(Command.OPEN))

    async def wait(self, timeout_s: float) -> bool:
        """See `Crew.wait`.

        Raises:
            EngineError: a process was killed, or hangs.
            InternalError: one met a bug.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        self._raise_if_lost()
        return self._over.is_set()

    def reports(self) -> Sequence[tuple[int, Report]]:
        """See `Crew.reports`."""
        reports, self._reports = self._reports, []
        return reports

    def stop(self) -> None:
        """See `Crew.stop`."""
        self.tell(Command.STOP)

    def cancel(self) -> None:
        """See `Crew.cancel`."""
        self.tell(Command.CANCEL)

    def health(self) -> Sequence[ProcessHealth]:
        """See `Crew.health`."""
        return list(self._health.values())

    def tell(self, message: object) -> None:
        """Send all processes the same."""
        data = packed(message)
        for process in self._processes:
            process.send(data)

    def dismiss(self) -> None:
        """End what still runs, and hear of it no more."""
        self.cancel()
        for process in self._processes:
            process.on_message = process.on_gone = None

    def _on_message(self, number: int, message: object) -> None:
        self._heard_ns[number] = perf_counter_ns()
        match message:
            case Ready(self._run):
                self._ready.add(number)
                if len(self._ready) == len(self._processes):
                    self._all_ready.set()
            case Reported(self._run, report):
                self._reports.append((number, report))
            case Ended(self._run, health):
                self._health[number] = health
                if len(self._health) == len(self._processes):
                    self._over.set()
            case Unable(failure):
                self._on_error(EngineError(failure))
            case Broken(words):
                self._on_error(InternalError(f"a load worker met a bug:\n{words}"))

    def _on_error(self, error: ServetuneError) -> None:
        self._error = self._error or error
        self._all_ready.set()
        self._over.set()

    def _raise_if_lost(self) -> None:
        if self._error is not None:
            raise self._error
        for process, heard_ns in zip(self._processes, self._heard_ns, strict=True):
            if perf_counter_ns() - heard_ns > NO_SIGN_S * 1e9 and not self._over.is_set():
                raise self._hangs(process, NO_SIGN_S)

    @staticmethod
    def _hangs(process: WorkerProcess, silent_s: float) -> EngineError:
        words = f"load worker {process.pid} has given no sign for {silent_s:g} s"
        remedy = "See what stopped it, or whether the machine is out of CPU time."
        return EngineError(Failure(FailureKind.INTERNAL, words, remedy))
