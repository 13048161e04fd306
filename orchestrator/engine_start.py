"""From an order to a running deployment: environment, compile cache, ports, files, processes."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.allotment import (
    ANY_ADDRESS,
    PORT_NAME,
    device_slices,
    hold_ports,
    write_files,
)
from orchestrator.endpoint import Endpoint, RunningProcess
from orchestrator.engine_log import ENGINE_LOG, ENVIRONMENT_LOG, process_folder, process_label
from orchestrator.engine_session import EngineSession
from orchestrator.messages import TrialOrder
from orchestrator.start_steps import StartSteps
from runtimes.compile_cache import Kernels, Warmth, cache_folder, cache_variables, kernels_for
from runtimes.engines.base import Engine, create_engine
from runtimes.environment.base import Prepared, prepare
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.address import ServerAddress
from runtimes.load.workers import LoadWorkers
from runtimes.node_cache import node_cache
from runtimes.plan import PYTHON, ProcessPlan
from runtimes.ports import HeldPort, listened_on
from runtimes.supervisor import EngineProcess, engine_environment

_logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_FREE_TRIES = 20
_FREE_POLL_S = 0.1
PORT_TAKEN = "port_taken"
"""Flag of an attempt after whose end something still listened on a port of it."""


@asynccontextmanager
async def started(
    order: TrialOrder, scratch: Path, steps: StartSteps, *, hold: Callable[[bool], None]
) -> AsyncIterator[EngineSession]:
    """Start the deployment of `order`; leaving the block ends every process of it.

    When the block has been left, no process lives and its ports were looked at: one that is
    still taken is a flag of the session. Servers of somebody else's are left alone.

    Args:
        order: what to start, and on which devices.
        scratch: the attempt's own folder; logs and configuration files go there.
        steps: told what is being done before there is a process.
        hold: told True when the attempt waits for another one and its time should not count, and
            False when it goes on.

    Raises:
        EngineError: the environment, a port or the URL to attach to is not there.
    """
    engine = create_engine(order.plan.engine)
    if order.plan.attach is not None:
        endpoint = _attached(order, engine, order.plan.attach)
        async with _load_workers(order, engine, [endpoint]) as workers:
            facts = {"servetune.attached": order.plan.attach}
            session = EngineSession(
                order, engine, processes=(), endpoints=[endpoint], facts=facts, workers=workers
            )
            try:
                yield session
            finally:
                await session.close()
        return
    async with AsyncExitStack() as stack:
        start = await _prepared(stack, order, engine, scratch, steps, hold)
        session = await start.spawned(stack)
        try:
            yield session
        finally:
            await session.close()
            await _stopped(session)
            await start.look_at_ports(session)


async def _prepared(
    stack: AsyncExitStack,
    order: TrialOrder,
    engine: Engine,
    scratch: Path,
    steps: StartSteps,
    hold: Callable[[bool], None],
) -> _Start:
    """Everything that has to be there before a process is started; `stack` gives it back."""
    cache = node_cache(os.environ)
    steps.say("preparing the environment")
    prepared = await prepare(
        order.plan.environment,
        cache=cache,
        log=scratch / ENVIRONMENT_LOG,
        env=os.environ,
        on_progress=lambda words: steps.say("preparing the environment", words),
    )
    folder = cache_folder(cache, engine.name, prepared.fingerprint)
    variables = cache_variables(folder, engine.cache_env, order.plan.env)

    def wait() -> None:
        hold(True)
        steps.say("waiting for the compile cache")

    kernels = await stack.enter_async_context(
        kernels_for(folder, order.plan.compiles, variables, on_wait=wait)
    )
    hold(False)
    ports = hold_ports(stack, order.plan)
    return _Start(order, engine, scratch, prepared, kernels, variables, ports)


@dataclass(frozen=True, slots=True)
class _Start:
    """A deployment about to be spawned."""

    order: TrialOrder
    engine: Engine
    scratch: Path
    prepared: Prepared
    kernels: Kernels
    variables: Mapping[str, str]
    ports: Sequence[Mapping[str, HeldPort]]
    """By process, the ports of its placeholders; those of one server may be shared."""

    async def spawned(self, stack: AsyncExitStack) -> EngineSession:
        """Start every process; `stack` ends them."""
        processes, endpoints = [], []
        devices = device_slices(self.order)
        for plan, ports, given in zip(self.order.plan.processes, self.ports, devices, strict=True):
            running = await self._spawn(stack, plan, ports, given)
            processes.append(running)
            if plan.node == 0:
                key = _api_key(self.engine, self.order)
                address = ServerAddress(_HOST, ports[PORT_NAME].port)
                endpoints.append(Endpoint(self.engine, address, api_key=key, running=running))
        # They start beside the engine, which takes longer.
        workers = await stack.enter_async_context(_load_workers(self.order, self.engine, endpoints))
        return EngineSession(
            self.order,
            self.engine,
            processes=processes,
            endpoints=endpoints,
            facts=self._facts(),
            workers=workers,
            kernels=self.kernels,
            programs=self._programs(),
        )

    async def _spawn(
        self,
        stack: AsyncExitStack,
        plan: ProcessPlan,
        ports: Mapping[str, HeldPort],
        devices: Sequence[str] | None,
    ) -> RunningProcess:
        folder = process_folder(self.scratch, plan.server, plan.node)
        files = folder / "files"
        values: dict[str, object] = {name: held.port for name, held in ports.items()}
        values |= {"host": _HOST, "master_host": _HOST, "files": files}
        values |= {"bin": self.prepared.bin} if self.prepared.bin is not None else {}
        write_files(plan, files)
        given = self._given(plan)
        env = engine_environment(
            os.environ, extra=given, secrets=self.order.secrets, visible_devices=devices
        )
        argv = [sys.executable if part == PYTHON else part for part in plan.command(**values)]
        launch = self.prepared.launch(
            argv,
            env,
            devices=devices,
            files=files,
            model=self.order.model,
            names={*given, *self.order.secrets},
        )
        log = folder / ENGINE_LOG
        for held in ports.values():
            held.release()
        process = await stack.enter_async_context(
            EngineProcess.running(
                launch.argv,
                env=launch.env,
                log_path=log,
                cwd=folder,
                grace_s=self.order.timeouts.stop_s,
                container=launch.container,
                held_fds=self.kernels.held_fds,
            )
        )
        single = len(self.order.plan.processes) == 1
        return RunningProcess("" if single else process_label(plan.server, plan.node), process, log)

    def _given(self, plan: ProcessPlan) -> dict[str, str]:
        """Variables set for the engine: the plan's, and what makes paths and device numbers mean
        the same everywhere.
        """
        given = {**self.variables, **plan.env}
        if plan.argv[0] == PYTHON:
            # Ray workers and checkouts have our packages on sys.path, not always installed.
            given.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
        if self.order.allocation.visible:
            # CUDA numbers devices by speed unless told to number them as nvidia-smi and Ray do.
            given.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        return given

    def _programs(self) -> Path | None:
        """Where the engine's own command is, and beside it those that come with the engine."""
        if self.prepared.bin is not None:
            return Path(self.prepared.bin)
        command = Path(self.order.plan.processes[0].argv[0])
        return command.parent if command.is_absolute() else None

    def _facts(self) -> dict[str, str]:
        facts = {"servetune.environment": self.prepared.fingerprint}
        if self.kernels.warmth is not Warmth.OFF:
            facts["servetune.compile_cache"] = self.kernels.warmth.value
        if len(self.order.plan.servers) > 1:
            facts["servetune.servers"] = str(len(self.order.plan.servers))
        return facts

    async def look_at_ports(self, session: EngineSession) -> None:
        """Flag what still listens on a port of the attempt, now that its processes are gone."""
        ports = {port for held in self.ports for one in held.values() for port in one.group}
        for _ in range(_FREE_TRIES):
            taken = listened_on(ports, ANY_ADDRESS)
            if not taken:
                return
            await asyncio.sleep(_FREE_POLL_S)
        session.flags.add(PORT_TAKEN)
        words = ", ".join(map(str, taken))
        _logger.warning("something still listens on %s after the engine's end", words)


def _load_workers(order: TrialOrder, engine: Engine, endpoints: Sequence[Endpoint]) -> LoadWorkers:
    servers = [endpoint.address for endpoint in endpoints]
    key = _api_key(engine, order)
    processes = order.load_processes
    if order.fit_processes:
        processes = min(processes, len(os.sched_getaffinity(0)))
    return LoadWorkers(servers, processes=processes, api_key=key)


def _attached(order: TrialOrder, engine: Engine, url: str) -> Endpoint:
    try:
        address = ServerAddress.of(url)
    except ValueError as error:
        raise EngineError(
            Failure(
                FailureKind.INVALID_CONFIG,
                f"the server to attach to: {error}",
                "write http://HOST:PORT, or https:// where it speaks TLS",
            )
        ) from None
    return Endpoint(engine, address, api_key=_api_key(engine, order))


async def _stopped(session: EngineSession) -> None:
    """End all processes at the same time; one after the other would add their graces up."""
    ends = (running.process.stop() for running in session.processes)
    await asyncio.gather(*ends, return_exceptions=True)


def _api_key(engine: Engine, order: TrialOrder) -> str | None:
    name = engine.api_key_env
    if name is None:
        return None
    return order.secrets.get(name) or order.plan.env.get(name)
