"""What each process of a deployment gets of its bundle: devices, ports, configuration files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from orchestrator.messages import TrialOrder
from runtimes.errors import InternalError
from runtimes.plan import DeploymentPlan, ProcessPlan
from runtimes.ports import HeldPort

ANY_ADDRESS = "0.0.0.0"
"""Ports are held on all addresses: what engines derive from them they bind as they like."""
PORT_NAME = "port"
"""The placeholder of the port a process answers HTTP on."""


def hold_ports(stack: AsyncExitStack, plan: DeploymentPlan) -> list[dict[str, HeldPort]]:
    """By process, its ports. `port` is its own, or its server's where it has none; at all others
    the ranks of its server meet, whichever of them declares it.

    Raises:
        EngineError: there are none left.
    """
    rng = random.Random()  # spread, not secrecy
    shared: dict[int, dict[str, HeldPort]] = {}
    held: list[dict[str, HeldPort]] = []
    for process in plan.processes:
        if process.server not in shared:
            shared[process.server] = {
                name: stack.enter_context(HeldPort(rng, ANY_ADDRESS, offsets=offsets))
                for name, offsets in _meeting_ports(plan, process.server).items()
            }
        own = shared[process.server]
        if PORT_NAME in process.ports:
            offsets = process.ports[PORT_NAME]
            port = stack.enter_context(HeldPort(rng, ANY_ADDRESS, offsets=offsets))
            own.setdefault(PORT_NAME, port)
            own = {**own, PORT_NAME: port}
        held.append(dict(own))
    return held


def _meeting_ports(plan: DeploymentPlan, server: int) -> dict[str, tuple[int, ...]]:
    """Placeholder → what the ranks of `server` derive from it; their own `port` left out."""
    asked: dict[str, set[int]] = {}
    for process in plan.processes:
        if process.server == server:
            for name, offsets in process.ports.items():
                asked.setdefault(name, set()).update(offsets)
    asked.pop(PORT_NAME, None)
    return {name: tuple(sorted(offsets)) for name, offsets in asked.items()}


def device_slices(order: TrialOrder) -> list[Sequence[str] | None]:
    """Each process's devices: the allocation's in order, as many as each uses; None: simulated."""
    plan, allocation = order.plan, order.allocation
    if not allocation.visible:
        return [None] * len(plan.processes)
    wanted = sum(process.gpus for process in plan.processes)
    if wanted != len(allocation.gpu_ids):
        raise InternalError(f"{wanted} GPUs planned, {len(allocation.gpu_ids)} allocated")
    slices: list[Sequence[str] | None] = []
    begin = 0
    for process in plan.processes:
        slices.append(allocation.gpu_ids[begin : begin + process.gpus])
        begin += process.gpus
    return slices


def write_files(plan: ProcessPlan, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
