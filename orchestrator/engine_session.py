"""A running engine as one attempt sees it: its process, its HTTP, its metrics."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from orchestrator.engine_log import read_ends
from orchestrator.messages import TrialOrder
from runtimes.classify import classify
from runtimes.engines.base import Engine, EngineReport, create_engine
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.http import HttpClient, HttpError
from runtimes.plan import PYTHON
from runtimes.ports import HeldPort
from runtimes.supervisor import EngineProcess, engine_environment
from runtimes.telemetry.prometheus_text import read_metrics
from tracking.records import Sample

_HOST = "127.0.0.1"
_POLL_S = 0.1
_SETTLE_POLLS = 30
_QUICK_S = 5.0
"""Deadline of a request that asks an idle engine something trivial."""


class EngineSession:
    """An engine process and the questions one asks it. Made by `started`, lives in its block."""

    def __init__(self, order: TrialOrder, process: EngineProcess, port: int, log: Path) -> None:
        self._order = order
        self._process = process
        self._log = log
        self.engine: Engine = create_engine(order.plan.engine)
        self.port = port
        self.samples: list[Sample] = []
        self.report = EngineReport()
        self.client = HttpClient(_HOST, port, api_key=_api_key(self.engine, order))
        self._metrics_client = HttpClient(_HOST, port, api_key=_api_key(self.engine, order))

    @classmethod
    @asynccontextmanager
    async def started(cls, order: TrialOrder, log: Path) -> AsyncIterator[EngineSession]:
        """Spawn the engine of `order`; leaving the block ends its whole process tree."""
        allocation = order.allocation
        env = engine_environment(
            os.environ,
            extra=_extra_environment(order),
            secrets=order.secrets,
            visible_devices=allocation.gpu_ids if allocation.visible else None,
        )
        with HeldPort(random.Random(), _HOST) as held:  # spread, not secrecy
            argv = [
                sys.executable if part == PYTHON else part
                for part in order.plan.processes[0].command(host=_HOST, port=held.port)
            ]
            held.release()
            async with cls._running(order, argv, env, held.port, log) as session:
                yield session

    @classmethod
    @asynccontextmanager
    async def _running(
        cls, order: TrialOrder, argv: list[str], env: dict[str, str], port: int, log: Path
    ) -> AsyncIterator[EngineSession]:
        async with EngineProcess.running(
            argv, env=env, log_path=log, cwd=log.parent, grace_s=order.timeouts.stop_s
        ) as process:
            session = cls(order, process, port, log)
            try:
                yield session
            finally:
                await session.client.close()
                await session._metrics_client.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        return self._process.pids

    @property
    def process(self) -> EngineProcess:
        return self._process

    async def ready(self) -> None:
        """Wait until health answers and a completion came back.

        Health alone is no proof: an engine can answer it and fail on its first request.

        Raises:
            EngineError: the process ended, or the deadline passed.
        """
        limit_s = self._order.timeouts.start_s
        try:
            async with asyncio.timeout(limit_s):
                while not await self._healthy():
                    self._check_alive()
                    await asyncio.sleep(_POLL_S)
                await self._first_completion()
        except TimeoutError:
            raise EngineError(
                Failure(
                    FailureKind.START_TIMEOUT,
                    f"not ready within {limit_s:g} s",
                    "look at the log for what it waits for, or raise `timeouts.start`",
                    None,
                    self._process.log_tail(),
                )
            ) from None
        await self._read_report()

    def failure(self, phase: Literal["start", "serve"]) -> Failure:
        """Why the engine's process ended, from its log."""
        code = self._process.exit_code
        return classify(read_ends(self._log), exit_code=code, phase=phase)

    async def scrape(self) -> dict[str, tuple[str, float]]:
        """Canonical metric → (engine's name, value), now; empty when the engine does not answer."""
        try:
            answer = await self._metrics_client.get("/metrics", timeout_s=_QUICK_S)
        except (HttpError, TimeoutError):
            return {}
        if answer.status != 200:
            return {}
        return read_metrics(answer.body.decode(errors="replace"), self.engine.metrics)

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
        """Counters of the engine once nothing runs in it and they stand still."""
        deadline = time.monotonic() + _QUICK_S
        before: dict[str, float] = {}
        while True:
            found = await self.sample(stage)
            counters = {
                name: value for name, (_, value) in found.items() if name.endswith("_total")
            }
            busy = found.get("requests_running", ("", 0.0))[1]
            settled = bool(counters) and not busy and counters == before
            if settled or time.monotonic() > deadline:
                return counters
            before = counters
            await asyncio.sleep(_POLL_S)

    def _check_alive(self) -> None:
        if self._process.exit_code is not None:
            raise EngineError(self.failure("start"))

    async def _healthy(self) -> bool:
        try:
            answer = await self.client.get("/health", timeout_s=_QUICK_S)
        except (HttpError, TimeoutError):
            return False
        return answer.status == 200

    async def _first_completion(self) -> None:
        fields = {**self.engine.request_fields, "max_tokens": 1, "min_tokens": 1}
        body = json.dumps({"model": self._order.model, "prompt": [1, 2, 3], **fields}).encode()
        asked = asyncio.ensure_future(
            self.client.post("/v1/completions", body, timeout_s=self._order.timeouts.start_s)
        )
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise EngineError(self.failure("start"))
            answer = asked.result()
        except HttpError:
            await self.settle()
            raise EngineError(self.failure("start")) from None
        finally:
            for task in (asked, ended):
                task.cancel()
            await asyncio.gather(asked, ended, return_exceptions=True)
        if answer.status != 200:
            await self.settle()
            raise EngineError(self._refused(answer.status, answer.body))

    def _refused(self, status: int, body: bytes) -> Failure:
        if self._process.exit_code is not None:
            return self.failure("start")
        words = body.decode(errors="replace").strip()[:300]
        return Failure(
            FailureKind.REQUESTS_FAILED,
            f"the first completion was answered with HTTP {status}: {words}",
            "send the same request by hand to the command shown, and read its log",
            None,
            self._process.log_tail(),
        )

    async def settle(self) -> None:
        """Give a process that just cut its connections the time to end and write its log."""
        for _ in range(_SETTLE_POLLS):
            if self._process.exit_code is not None:
                return
            await asyncio.sleep(_POLL_S)

    async def _read_report(self) -> None:
        try:
            version = await self.client.get("/version", timeout_s=_QUICK_S)
            metrics = await self._metrics_client.get("/metrics", timeout_s=_QUICK_S)
        except (HttpError, TimeoutError):
            return
        self.report = self.engine.describe(
            log=read_ends(self._log),
            metrics_text=metrics.body.decode(errors="replace"),
            version_json=version.body.decode(errors="replace") if version.status == 200 else "",
        )


def _api_key(engine: Engine, order: TrialOrder) -> str | None:
    name = engine.api_key_env
    if name is None:
        return None
    return order.secrets.get(name) or order.plan.env.get(name)


def _extra_environment(order: TrialOrder) -> dict[str, str]:
    """The plan's variables, and what makes paths and device numbers mean the same everywhere."""
    extra = dict(order.plan.env)
    if order.plan.argv[0] == PYTHON:
        # Ray workers and checkouts have our packages on sys.path, not always installed.
        extra.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    if order.allocation.visible:
        # CUDA numbers devices by speed unless told to number them as nvidia-smi and Ray do.
        extra.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return extra
