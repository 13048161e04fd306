"""The bundle actor: owns the GPUs Ray leased to it, hosts trials on them."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator

import ray

from orchestrator.cluster.base import ClusterSettings
from orchestrator.cluster.host import BundleHost
from orchestrator.messages import TrialEvent, TrialOrder
from orchestrator.placement import Bundle
from runtimes.telemetry.gpus import list_gpus


class RayBundle:
    """Async actor, one per node. Ray calls its methods concurrently on one event loop."""

    def __init__(self, bundle_id: str, settings: ClusterSettings) -> None:
        self._bundle_id = bundle_id
        self._settings = settings
        self._host = BundleHost()

    async def describe(self) -> Bundle:
        """The devices Ray gave to this actor."""
        # Ray names them in no order; neighbours in number are neighbours on the board.
        ids = tuple(sorted((str(gpu) for gpu in ray.get_gpu_ids()), key=_by_number))
        simulated = self._settings.simulated_gpus is not None
        model = self._settings.accelerator if simulated else _model_of(ids)
        return Bundle(self._bundle_id, platform.node(), ids, model, visible=not simulated)

    async def run(self, order: TrialOrder) -> AsyncIterator[TrialEvent]:
        """Run one attempt; a streaming generator of its events."""
        async for event in self._host.run(order):
            yield event

    async def cancel(self, number: int, attempt: int) -> None:
        """Stop an attempt; its generator ends with the outcome."""
        self._host.cancel(number, attempt)

    async def close(self) -> None:
        """Stop every attempt; when this returns no process of theirs lives."""
        await self._host.close()


def _by_number(gpu: str) -> tuple[int, str]:
    return (int(gpu) if gpu.isdigit() else 0, gpu)


def _model_of(ids: tuple[str, ...]) -> str:
    """Product name of the first device; Ray names devices by number or by UUID."""
    found = list_gpus() if ids else []
    return next((gpu.name for gpu in found if ids[0] in (gpu.index, gpu.uuid)), "")
