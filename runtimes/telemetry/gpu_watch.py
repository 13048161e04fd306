"""Devices watched for a while: what they tell about once a second, and their errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.telemetry.gpus import find_gpu
from runtimes.telemetry.nvml import GpuState, read_nvml
from runtimes.telemetry.xids import XidWatch


@dataclass(frozen=True, slots=True)
class GpuReading:
    """Some devices at one instant.

    Attributes:
        at_ns: monotonic clock (`time.perf_counter_ns`).
        unix_s: wall clock of the same instant.
        states: by the names that they were asked for with; of those that answered.
    """

    at_ns: int
    unix_s: float
    states: dict[str, GpuState]


class GpuWatch:
    """Devices of this node, read whenever it is told to. Methods block for some milliseconds.

    May be used by several threads.

    Args:
        gpu_ids: by number or UUID. One that cannot be asked, as a slice of a device, is left out.

    Attributes:
        readings: the oldest first. xids: device, by its name in `gpu_ids`, and code.
    """

    def __init__(self, gpu_ids: Sequence[str]) -> None:
        self.gpu_ids = tuple(gpu_ids)
        self._lock = threading.Lock()
        self._errors: XidWatch | None = None
        self._names: dict[str, str] = {}
        self._closed = False
        self.readings: list[GpuReading] = []
        self.xids: list[tuple[str, int]] = []

    def read(self) -> None:
        """Read the devices once; from the first time on their errors are heard."""
        with self._lock:
            if not self._closed:
                self._read()

    def close(self) -> None:
        """Read them a last time, and stop hearing their errors."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._read()
            if self._errors is not None:
                self._errors.close()

    def _read(self) -> None:
        found = read_nvml(self.gpu_ids)
        if found is None:
            return
        states = {gpu: find_gpu(found, gpu) for gpu in self.gpu_ids}
        known = {gpu: state for gpu, state in states.items() if state is not None}
        self.readings.append(GpuReading(time.perf_counter_ns(), time.time(), known))
        if self._errors is None:
            self._names = {state.uuid: gpu for gpu, state in known.items()}
            self._errors = XidWatch(self._names)
        self.xids += [(self._names[uuid], code) for uuid, code in self._errors.taken()]
