"""A running deployment as one attempt sees it: its processes, its servers, its metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from orchestrator.endpoint import QUICK_S, Endpoint, RunningProcess, merged_report
from orchestrator.engine_log import headed, read_ends
from orchestrator.messages import TrialOrder
from runtimes.cache_state import PrefixCache
from runtimes.classify import classify
from runtimes.compile_cache import Kernels
from runtimes.engines.base import Engine, EngineReport
from runtimes.errors import InternalError
from runtimes.failure import Failure, FailureKind
from runtimes.load.arrivals import Load
from runtimes.load.balanced import balanced
from runtimes.load.http import LoadClient
from runtimes.load.job import LoadJob
from runtimes.load.result import LoadResult, OnProgress
from runtimes.load.workers import LoadWorkers
from runtimes.telemetry.canonical import merged
from runtimes.workloads.base import Prompt
from tracking.records import Sample

BUSY_S = 60.0
"""How long requests that a stage before has given up may go on until the next one starts."""
_POLL_S = 0.1
_BUSY = ("requests_running", "requests_waiting")
_SETTLE_POLLS = 30
_TAIL_LINES = 60
_UNNAMED = frozenset({FailureKind.START_EXIT, FailureKind.CRASHED})


class IdleCounters(NamedTuple):
    """Counters of an engine, and whether nothing ran in it then; True where it does not say."""

    counters: dict[str, float]
    idle: bool


class EngineSession:
    """A deployment that runs, and the questions one asks it.

    Made by `engine_start.started`, whose block it lives in. The end of any of its processes is
    the end of all: the deployment has failed.

    Args:
        processes: all that were started; empty for a deployment of somebody else's.
        endpoints: the servers that answer HTTP, at least one.
        facts: what is known of it besides what it says of itself, for the record.
        workers: the processes that send the load; None for a session that sends none.
        kernels: what its start compiles; told when it is ready.
        programs: folder of the commands of its environment; None where it has none of its own.

    Attributes:
        client: of all servers, each request going to the least busy one.
        flags: what makes the attempt doubtful.
    """

    def __init__(
        self,
        order: TrialOrder,
        engine: Engine,
        *,
        processes: Sequence[RunningProcess],
        endpoints: Sequence[Endpoint],
        facts: Mapping[str, str],
        workers: LoadWorkers | None = None,
        kernels: Kernels | None = None,
        programs: Path | None = None,
    ) -> None:
        self.order = order
        self.engine = engine
        self.processes = tuple(processes)
        self.endpoints = tuple(endpoints)
        self.client: LoadClient = balanced([endpoint.client for endpoint in endpoints])
        self._workers = workers
        self.programs = programs
        self.samples: list[Sample] = []
        self.flags: set[str] = set()
        self.began_s = time.monotonic()
        self._kernels = kernels
        self._facts = dict(facts)
        self.report = EngineReport(config=self._facts)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of every process: its guards and itself."""
        return tuple(pid for running in self.processes for pid in running.process.pids)

    @property
    def metrics_urls(self) -> tuple[str, ...]:
        """Of the servers whose metrics Prometheus can read, as they were last asked."""
        return tuple(url for one in self.endpoints if (url := one.metrics_url) is not None)

    @property
    def has_metrics(self) -> bool:
        """False when a server is known to have none."""
        return all(endpoint.has_metrics for endpoint in self.endpoints)

    @property
    def attached(self) -> bool:
        """True when the servers are somebody else's."""
        return not self.processes

    @property
    def died(self) -> bool:
        """True once any process of the deployment has ended."""
        return any(running.process.exit_code is not None for running in self.processes)

    def failure(self, phase: Literal["start", "serve"]) -> Failure:
        """Why the deployment ended, from the log of the process that did.

        Of several that ended, the first whose log names a cause: the others fail for want of it.
        """
        ended = [running for running in self.processes if running.process.exit_code is not None]
        failures = [_failure_of(running, phase) for running in ended or self.processes]
        named = [failure for failure in failures if failure.kind not in _UNNAMED]
        return (named or failures)[0]

    def log_tail(self) -> str:
        """The last lines of every process, secrets masked."""
        lines = _TAIL_LINES // max(1, len(self.processes))
        return "\n".join(
            headed(running.label, running.process.log_tail(lines)) for running in self.processes
        )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Fail every request at once when a process ends, whichever server it was sent to."""
        watching = asyncio.ensure_future(self._give_up_with_first())
        try:
            yield
        finally:
            watching.cancel()

    def job(self, prompts: Sequence[Prompt], load: Load) -> LoadJob:
        """`load` of `prompts`, as the order has requests sent to these servers."""
        order = self.order
        return LoadJob(
            prompts,
            load,
            order.model,
            self.engine.request_fields,
            order.seed,
            order.timeouts.request_s,
            order.timeouts.stall_s,
            order.api,
            order.slo,
            dropped_fields=order.plan.dropped_fields,
        )

    async def load(self, job: LoadJob, on_progress: OnProgress | None = None) -> LoadResult:
        """Run one stage of load, ending it at once when a process ends.

        Raises:
            LoadStopped: it could not be finished.
        """
        if self._workers is None:
            raise InternalError("this session has no processes to send a load from")
        async with self.watched():
            return await self._workers.run(job, on_progress=on_progress)

    def interrupt(self) -> None:
        """End the load that runs, with what has been measured by then."""
        if self._workers is not None:
            self._workers.interrupt()

    @property
    def prefix_cache(self) -> PrefixCache:
        """Of all servers together; each has its own."""
        one = self.report.prefix_cache
        return replace(one, replicas=one.replicas * len(self.endpoints))

    async def until_one_dies(self) -> None:
        """Return when a process has ended; never for servers of somebody else's."""
        while True:
            if self.died:
                return
            await asyncio.sleep(_POLL_S)

    async def settle(self) -> None:
        """Give a process that just cut its connections the time to end and write its log."""
        for _ in range(_SETTLE_POLLS if self.processes else 0):
            if self.died:
                return
            await asyncio.sleep(_POLL_S)

    async def scrape(self) -> dict[str, tuple[str, float]]:
        """Canonical metric → (engine's name, value) of all servers together, now.

        Empty when one of them does not answer: a sum over the others would say less than it seems.
        """
        return merged(await asyncio.gather(*(one.scrape() for one in self.endpoints)))

    def taken_samples(self) -> list[Sample]:
        """Those since it was last asked; they are the caller's now."""
        taken, self.samples = self.samples, []
        return taken

    async def sample(self, stage: int) -> Mapping[str, tuple[str, float]]:
        """Scrape once and keep every value as a sample of `stage`."""
        found = await self.scrape()
        at_ns, unix_s = time.perf_counter_ns(), time.time()
        self.samples += [
            Sample(at_ns, unix_s, stage, metric, engine_metric, value)
            for metric, (engine_metric, value) in found.items()
        ]
        return found

    async def idle_counters(self, stage: int, *, busy_s: float = QUICK_S) -> IdleCounters:
        """Counters of the servers once nothing runs in them and they stand still.

        Args:
            stage: whose samples these are.
            busy_s: how long to wait while they say that requests run or wait in them; otherwise
                counters have `QUICK_S` to stand still.
        """
        began_s = quiet_s = time.monotonic()
        before: dict[str, float] = {}
        while True:
            found = await self.sample(stage)
            counters = {
                name: value for name, (_, value) in found.items() if name.endswith("_total")
            }
            busy = any(found.get(name, ("", 0.0))[1] > 0 for name in _BUSY)
            settled = bool(counters) and not busy and counters == before
            nothing_to_wait_for = not any(endpoint.has_metrics for endpoint in self.endpoints)
            now_s = time.monotonic()
            quiet_s = now_s if busy else quiet_s
            over = now_s - began_s > busy_s if busy else now_s - quiet_s > QUICK_S
            if settled or nothing_to_wait_for or over or self.died:
                return IdleCounters(counters, idle=not busy)
            before = counters
            await asyncio.sleep(_POLL_S)

    async def became_ready(self) -> None:
        """Ask the servers what they are, for `report`; starts that wait for its kernels go on."""
        if self._kernels is not None:
            self._kernels.compiled()
        reports = await asyncio.gather(*(endpoint.report() for endpoint in self.endpoints))
        said = merged_report(list(reports))
        self.report = replace(said, config={**said.config, **self._facts})

    async def close(self) -> None:
        """Close every connection to the servers from this process."""
        for endpoint in self.endpoints:
            await endpoint.close()

    async def _give_up_with_first(self) -> None:
        await self.until_one_dies()
        self.client.give_up()
        if self._workers is not None:
            self._workers.give_up()


def _failure_of(running: RunningProcess, phase: Literal["start", "serve"]) -> Failure:
    code = running.process.exit_code
    failure = classify(read_ends(running.log), exit_code=code, phase=phase)
    if not running.label:
        return failure
    return replace(
        failure,
        message=f"{running.label}: {failure.message}",
        log_tail=headed(running.label, failure.log_tail),
    )
