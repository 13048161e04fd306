"""The devices of one attempt: free before its engine starts, released after its last process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from orchestrator.messages import GpusAwaited, TrialOrder
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.telemetry.energy import read_energy
from runtimes.telemetry.gpu_watch import GpuWatch
from runtimes.telemetry.gpus import uuids_of
from runtimes.telemetry.nvml import Driver, read_driver
from runtimes.telemetry.release import DeviceCheck, DirtyGpu

_REMEDY = (
    "end the process that uses the GPU, or leave the GPU out with CUDA_VISIBLE_DEVICES where the "
    "cluster is started; the device is used again as soon as it is free"
)


class TrialDevices:
    """Looks at real devices; simulated ones are always free.

    Attributes:
        gpu_ids: those that are real.
        dirty: those that were found in use, and that must not be given on.
        uuids: their own identities, in the order of `gpu_ids`; empty until they are free, and
            where nobody tells.
        driver: of them; empty likewise.
    """

    def __init__(self, order: TrialOrder, emit: Callable[[GpusAwaited], None]) -> None:
        allocation = order.allocation
        self._check: DeviceCheck | None = None
        self.gpu_ids = allocation.gpu_ids if allocation.visible else ()
        if allocation.visible:
            deadline_s = order.timeouts.release_s
            self._check = DeviceCheck(allocation.gpu_ids, deadline_s=deadline_s)
        self._emit = emit
        self.dirty: tuple[DirtyGpu, ...] = ()
        self.uuids: tuple[str, ...] = ()
        self.driver = Driver()

    async def until_free(self) -> None:
        """Wait until nobody uses the devices; before the engine starts.

        Raises:
            EngineError: somebody still does.
        """
        if self._check is None:
            return
        self.driver = await asyncio.to_thread(read_driver)
        self.uuids = await asyncio.to_thread(uuids_of, self.gpu_ids)
        self.dirty = await self._check.until_free(lambda gpus: self._emit(GpusAwaited(gpus)))
        if self.dirty:
            words = "; ".join(map(str, self.dirty))
            raise EngineError(Failure(FailureKind.GPU_BUSY, words, _REMEDY))

    async def until_released(self) -> None:
        """Wait until the memory is given back; after the last process has gone."""
        if self._check is not None and not self.dirty:
            self.dirty = await self._check.until_released()

    async def energy(self) -> Mapping[str, int] | None:
        """Energy counters of the devices, see `runtimes.telemetry.energy.read_energy`."""
        if not self.gpu_ids:
            return None
        return await asyncio.to_thread(read_energy, self.gpu_ids)

    def watch(self) -> GpuWatch:
        """Reads the devices, and hears their errors, whenever it is told to."""
        return GpuWatch(self.gpu_ids)

    @property
    def flags(self) -> set[str]:
        """`gpu_dirty` and `gpu_foreign`, as they were found."""
        return {f"gpu_{gpu.kind}" for gpu in self.dirty}
