"""A running deployment as one attempt sees it: its processes, its servers, its metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

from orchestrator.endpoint import QUICK_S, Endpoint, RunningProcess, merged_report
from orchestrator.engine_log import headed, read_ends
from orchestrator.messages import TrialOrder
from runtimes.classify import classify
from runtimes.compile_cache import Kernels
from runtimes.engines.base import Engine, EngineReport
from runtimes.failure import Failure, FailureKind
from runtimes.load.balanced import balanced
from runtimes.load.http import LoadClient
from runtimes.telemetry.canonical import merged
from tracking.records import Sample

_POLL_S = 0.1
_SETTLE_POLLS = 30
_TAIL_LINES = 60
_UNNAMED = frozenset({FailureKind.START_EXIT, FailureKind.CRASHED})


class EngineSession:
    """A deployment that runs, and the questions one asks it.

    Made by `engine_start.started`, whose block it lives in. The end of any of its processes is
    the end of all: the deployment has failed.

    Args:
        processes: all that were started; empty for a deployment of somebody else's.
        endpoints: the servers that answer HTTP, at least one.
        facts: what is known of it besides what it says of itself, for the record.
        kernels: what its start compiles; told when it is ready.

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
        kernels: Kernels | None = None,
    ) -> None:
        self.order = order
        self.engine = engine
        self.processes = tuple(processes)
        self.endpoints = tuple(endpoints)
        self.client: LoadClient = balanced([endpoint.client for endpoint in endpoints])
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

    async def sample(self, stage: int) -> Mapping[str, tuple[str, float]]:
        """Scrape once and keep every value as a sample of `stage`."""
        found = await self.scrape()
        at_ns, unix_s = time.perf_counter_ns(), time.time()
        self.samples += [
            Sample(at_ns, unix_s, stage, metric, engine_metric, value)
            for metric, (engine_metric, value) in found.items()
        ]
        return found

    async def idle_counters(self, stage: int) -> dict[str, float]:
        """Counters of the servers once nothing runs in them and they stand still."""
        deadline = time.monotonic() + QUICK_S
        before: dict[str, float] = {}
        while True:
            found = await self.sample(stage)
            counters = {
                name: value for name, (_, value) in found.items() if name.endswith("_total")
            }
            busy = found.get("requests_running", ("", 0.0))[1]
            settled = bool(counters) and not busy and counters == before
            nothing_to_wait_for = not any(endpoint.has_metrics for endpoint in self.endpoints)
            if settled or nothing_to_wait_for or time.monotonic() > deadline:
                return counters
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
        """Close every connection to the servers."""
        for endpoint in self.endpoints:
            await endpoint.close()

    async def _give_up_with_first(self) -> None:
        await self.until_one_dies()
        self.client.give_up()


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
