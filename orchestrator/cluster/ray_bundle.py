"""The bundle actor: owns the GPUs Ray leased to it, hosts trials on them."""

from __future__ import annotations

import os
import platform
import select
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import ray

from orchestrator.cluster.base import ClusterSettings, real_bundle
from orchestrator.cluster.host import BundleHost
from orchestrator.messages import TrialEvent, TrialOrder
from orchestrator.placement import Bundle
from runtimes.telemetry.gpus import find_gpu, list_gpus
from runtimes.telemetry.release import DirtyGpu


class RayBundle:
    """Async actor, one per node. Ray calls its methods concurrently on one event loop."""

    def __init__(self, bundle_id: str, settings: ClusterSettings) -> None:
        self._bundle_id = bundle_id
        self._settings = settings
        self._host = BundleHost()
        _end_with_raylet(os.getppid())

    async def describe(self) -> Bundle:
        """The devices Ray gave to this actor."""
        # Ray names them in no order; neighbours in number are neighbours on the board.
        ids = tuple(sorted((str(gpu) for gpu in ray.get_gpu_ids()), key=_by_number))
        node = platform.node()
        if self._settings.simulated_gpus is not None:
            return Bundle(self._bundle_id, node, ids, self._settings.accelerator, visible=False)
        listed = list_gpus()
        # Ray names devices by number or by UUID.
        found = [gpu for name in ids if (gpu := find_gpu(listed, name)) is not None]
        return real_bundle(self._bundle_id, node, ids, found)

    async def run(self, order: TrialOrder) -> AsyncIterator[TrialEvent]:
        """Run one attempt; a streaming generator of its events."""
        async for event in self._host.run(order):
            yield event

    async def cancel(self, number: int, attempt: int) -> None:
        """Stop an attempt; its generator ends with the outcome."""
        self._host.cancel(number, attempt)

    async def returned(self, gpu: DirtyGpu) -> bool:
        """Wait until a foreign device is free again; False when the actor closes before."""
        return await self._host.returned(gpu)

    async def close(self) -> None:
        """Stop every attempt; when this returns no process of theirs lives."""
        await self._host.close()


def _end_with_raylet(parent: int) -> None:
    """End this process, and with it every engine, as soon as its raylet is dead.

    Ray's own check looks once in a while, and takes a raylet that nobody has reaped for alive.
    """
    try:
        handle = os.pidfd_open(parent)
        name = Path(f"/proc/{parent}/comm").read_text().strip()
    except OSError:
        return
    if name != "raylet":
        os.close(handle)
        return

    def wait() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        os._exit(1)

    threading.Thread(target=wait, name="servetune-raylet", daemon=True).start()


def _by_number(gpu: str) -> tuple[int, str]:
    return (int(gpu) if gpu.isdigit() else 0, gpu)
