"""Whether GPUs are free: before an engine starts on them, and after its last process has gone.

By memory, not by pid: the driver may hide the pids of other containers, and it gives memory back
some time after a process has gone.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from runtimes.guard import descendants
from runtimes.telemetry.gpus import find_gpu, list_gpus
from runtimes.telemetry.nvml import BUSY_BYTES, GpuState

_POLL_S = 0.25
_WATCH_POLL_S = 5.0
_SLACK_BYTES = 256 << 20
"""What the driver itself may use more than before; a forgotten CUDA context holds more."""
_UNSEEN = "no process of it can be seen from here"

Read: TypeAlias = Callable[[], Sequence[GpuState]]


@dataclass(frozen=True, slots=True)
class DirtyGpu:
    """A device whose memory somebody still holds.

    Attributes:
        gpu: its id, as in the allocation.
        kind: `foreign` when a process that is not ours is seen to hold it, which may end;
            `dirty` when nobody is seen to.
        owner: whose the memory is, in words.
        used_bytes: memory in use.
        limit_bytes: the device is free again at or below this.
    """

    gpu: str
    kind: Literal["dirty", "foreign"]
    owner: str
    used_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        """`GPU 2 has 40.0 GiB in use: pid 4711 (python train.py, user ada)`."""
        return f"GPU {self.gpu} has {self.used_bytes / (1 << 30):.1f} GiB in use: {self.owner}"


def judge(
    gpu: str, state: GpuState | None, limit_bytes: int, ours: Collection[int]
) -> DirtyGpu | None:
    """What is wrong with the device `gpu`; None when no more than `limit_bytes` are in use.

    `state` is None when the driver does not list the device any more; `ours` are pids of
    processes that are not foreign.
    """
    if state is None:
        return DirtyGpu(gpu, "dirty", "the driver does not list it any more", 0, limit_bytes)
    if state.memory_used_bytes <= limit_bytes:
        return None
    foreign = [one for one in state.processes if one.command and one.pid not in ours]
    owner = ", ".join(map(str, foreign)) or _UNSEEN
    kind: Literal["dirty", "foreign"] = "foreign" if foreign else "dirty"
    return DirtyGpu(gpu, kind, owner, state.memory_used_bytes, limit_bytes)


class DeviceCheck:
    """The devices of one attempt, before and after it.

    Args:
        gpu_ids: by number or UUID. One that cannot be asked, as a slice of a device, is not
            checked.
        deadline_s: how long to wait for them to be free, before and after. A driver gives memory
            back within a few seconds.
        read: tells the devices of this node; may block.
    """

    def __init__(
        self,
        gpu_ids: Sequence[str],
        *,
        deadline_s: float,
        read: Read = list_gpus,
        poll_s: float = _POLL_S,
    ) -> None:
        self._gpu_ids = gpu_ids
        self._read = read
        self._deadline_s = deadline_s
        self._poll_s = poll_s
        self._limits: dict[str, int] = {}

    async def until_free(
        self, waiting: Callable[[tuple[DirtyGpu, ...]], None]
    ) -> tuple[DirtyGpu, ...]:
        """Wait until nobody uses the devices; returns those that somebody still does.

        Remembers what is in use of them: that much may be after the engine. `waiting` is told
        what is waited for, once and whenever it changes.
        """
        found = await asyncio.to_thread(self._read)
        known = [gpu for gpu in self._gpu_ids if find_gpu(found, gpu) is not None]
        limits = dict.fromkeys(known, BUSY_BYTES)
        held = await _poll(self._read, limits, self._deadline_s, self._poll_s, waiting)
        if not held:
            found = await asyncio.to_thread(self._read)
            states = {gpu: find_gpu(found, gpu) for gpu in known}
            self._limits = {
                gpu: state.memory_used_bytes + _SLACK_BYTES
                for gpu, state in states.items()
                if state is not None
            }
        # We gave this memory back, or never had it, whether or not its owner can be seen.
        return tuple(replace(gpu, kind="foreign") for gpu in held)

    async def until_released(self) -> tuple[DirtyGpu, ...]:
        """Wait until the memory is what it was before the engine; returns those that keep more."""
        return await _poll(self._read, self._limits, self._deadline_s, self._poll_s, _untold)


async def until_returned(
    gpu: DirtyGpu, *, read: Read = list_gpus, poll_s: float = _WATCH_POLL_S
) -> None:
    """Wait, however long, until the device is free again."""
    await _poll(read, {gpu.gpu: gpu.limit_bytes}, math.inf, poll_s, _untold)


async def _poll(
    read: Read,
    limits: Mapping[str, int],
    deadline_s: float,
    poll_s: float,
    waiting: Callable[[tuple[DirtyGpu, ...]], None],
) -> tuple[DirtyGpu, ...]:
    """Ask until no device is over its limit in bytes; those that are after `deadline_s`."""
    if not limits:
        return ()
    loop = asyncio.get_running_loop()
    end_s = loop.time() + deadline_s
    told: list[tuple[str, str]] = []
    while held := await asyncio.to_thread(_held, read, limits):
        if loop.time() >= end_s:
            break
        owners = [(gpu.gpu, gpu.owner) for gpu in held]
        if owners != told:
            told = owners
            waiting(held)
        await asyncio.sleep(poll_s)
    return held


def _untold(held: tuple[DirtyGpu, ...]) -> None:
    """Nobody asks what is waited for."""


def _held(read: Read, limits: Mapping[str, int]) -> tuple[DirtyGpu, ...]:
    found = read()
    ours = {process.pid for process in descendants(os.getpid())} | {os.getpid()}
    judged = [judge(gpu, find_gpu(found, gpu), limit, ours) for gpu, limit in limits.items()]
    return tuple(gpu for gpu in judged if gpu is not None)
