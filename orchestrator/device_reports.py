"""What is said of devices that are not free: to the journal first, then to whoever watches."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.observer import Observer
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from tracking.events import GpuAwaited, GpuReturned, GpuWithheld
from tracking.journal import Journal


class DeviceReports:
    """Reports of one driver."""

    def __init__(self, journal: Journal, observers: Sequence[Observer]) -> None:
        self._journal = journal
        self._observers = observers

    def awaited(self, number: int, attempt: int, node: str, gpus: tuple[DirtyGpu, ...]) -> None:
        """An attempt waits for its devices."""
        for gpu in gpus:
            self._journal.append(
                GpuAwaited(number, attempt, node, gpu.gpu, gpu.owner, gpu.used_bytes)
            )
        for observer in self._observers:
            observer.gpus_awaited(number, node, gpus)

    def withheld(
        self, number: int, attempt: int, allocation: Allocation, dirty: tuple[DirtyGpu, ...]
    ) -> None:
        """Devices of an attempt that ended are not given on."""
        for gpu in dirty:
            self._journal.append(
                GpuWithheld(
                    number=number,
                    attempt=attempt,
                    bundle=allocation.bundle,
                    node=allocation.node,
                    gpu=gpu.gpu,
                    why=gpu.kind,
                    owner=gpu.owner,
                    used_bytes=gpu.used_bytes,
                )
            )
            for observer in self._observers:
                observer.gpu_withheld(allocation.node, gpu)

    def returned(self, bundle_id: str, node: str, gpu: str) -> None:
        """A foreign device is free again."""
        self._journal.append(GpuReturned(bundle_id, gpu))
        for observer in self._observers:
            observer.gpu_returned(node, gpu)
