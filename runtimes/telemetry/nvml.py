"""GPUs of this node as the driver's own library, NVML, tells them."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from runtimes.telemetry.throttling import THROTTLED

if TYPE_CHECKING:
    from types import ModuleType

BUSY_BYTES = 1 << 30
"""A device with more than this in use belongs to somebody: a bare CUDA context is about half."""

GPU_METRICS = {
    "gpu_sm_clock_mhz": "MHz",
    "gpu_memory_clock_mhz": "MHz",
    "gpu_power_w": "W",
    "gpu_power_limit_w": "W",
    "gpu_temperature_c": "°C",
    "gpu_utilization_ratio": "ratio",
    "gpu_memory_used_bytes": "bytes",
    "gpu_clock_reasons": "bits",
    "gpu_throttled_ratio": "ratio",
    "gpu_ecc_errors_total": "errors",
}
"""Names under which readings of a device are recorded, and their units. `gpu_throttled_ratio` is 1
while it is throttled, else 0; the bits are `throttling.THROTTLE_REASONS`."""

_COMMAND_WORDS = 3
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU.

    Attributes:
        pid: its number, as the driver knows it.
        used_bytes: memory it holds there; None where the driver does not say.
        command: its program and what stands before the first option; empty when no process of
            this machine's view has that pid, as for those of other containers.
        user: whose it is; empty when unknown.
    """

    pid: int
    used_bytes: int | None = None
    command: str = ""
    user: str = ""

    def __str__(self) -> str:
        """`pid 4711 (python train.py, user ada)`."""
        known = ", ".join(filter(None, (self.command, f"user {self.user}" if self.user else "")))
        return f"pid {self.pid} ({known})" if known else f"pid {self.pid}"


@dataclass(frozen=True, slots=True)
class GpuState:
    """One device at this instant; None stands for what it does not tell.

    Attributes:
        index: its number on the node, in the order of the PCI bus.
        memory_total_bytes, memory_used_bytes: 0 where the device does not tell. What the driver
            keeps for itself is not among what is used, as in `nvidia-smi`.
        energy_mj: energy used since the driver was loaded, millijoules.
        utilization_ratio: share of the last sample period in which a kernel ran, 0 to 1.
        power_limit_w: what it may draw: the lowest of the limits that are set.
        clock_reasons: why its clocks are not at their highest: `throttling.THROTTLE_REASONS`.
        ecc_errors: uncorrected errors of its memories since the driver was loaded.
        processes: those that compute on it, as far as they can be seen from here.
    """

    index: str
    uuid: str
    name: str
    memory_total_bytes: int
    memory_used_bytes: int
    utilization_ratio: float | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    energy_mj: int | None = None
    power_limit_w: float | None = None
    clock_reasons: int | None = None
    ecc_errors: int | None = None
    processes: tuple[GpuProcess, ...] = ()

    @property
    def is_free(self) -> bool:
        return self.memory_used_bytes < BUSY_BYTES

    @property
    def throttled(self) -> bool | None:
        """Whether heat, its power brake or a hardware slowdown holds its clocks down."""
        return None if self.clock_reasons is None else bool(self.clock_reasons & THROTTLED)

    @property
    def metrics(self) -> dict[str, float]:
        """What it tells, under the names of `GPU_METRICS`."""
        values = {
            "gpu_sm_clock_mhz": self.sm_clock_mhz,
            "gpu_memory_clock_mhz": self.memory_clock_mhz,
            "gpu_power_w": self.power_w,
            "gpu_power_limit_w": self.power_limit_w,
            "gpu_temperature_c": self.temperature_c,
            "gpu_utilization_ratio": self.utilization_ratio,
            "gpu_memory_used_bytes": self.memory_used_bytes if self.memory_total_bytes else None,
            "gpu_clock_reasons": self.clock_reasons,
            "gpu_throttled_ratio": self.throttled,
            "gpu_ecc_errors_total": self.ecc_errors,
        }
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Driver:
    """The devices' driver; empty where it does not tell.

    Attributes:
        version: its own (`580.95.05`).
        cuda: the newest CUDA that it serves (`13.0`).
    """

    version: str = ""
    cuda: str = ""


def read_nvml(only: Collection[str] | None = None) -> list[GpuState] | None:
    """Every device of this node; None where NVML cannot be asked. Blocks for some milliseconds.

    A device that the driver has lost is left out.

    Args:
        only: numbers and UUIDs of the devices to read; without, all of them.
    """
    nvml = library()
    if nvml is None:
        return None
    count = told(nvml, nvml.nvmlDeviceGetCount)
    states = [_state(nvml, index, only) for index in range(count or 0)]
    return [state for state in states if state is not None]


def read_driver() -> Driver:
    """What the driver says of itself; empty where NVML cannot be asked."""
    nvml = library()
    if nvml is None:
        return Driver()
    cuda = told(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return Driver(
        version=told(nvml, nvml.nvmlSystemGetDriverVersion) or "",
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
    )


@cache
def library() -> ModuleType | None:
    """NVML, ready to be asked; None where the driver's library is absent or does not start.

    It stays open while this process lives: where the driver keeps no state of its own, each
    opening costs about a second a device.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml  # type: ignore[no-any-return]  # the library has no types


def _state(nvml: ModuleType, index: int, only: Collection[str] | None) -> GpuState | None:
    handle = told(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    uuid = None if handle is None else told(nvml, nvml.nvmlDeviceGetUUID, handle)
    if uuid is None or (only is not None and not {str(index), uuid} & set(only)):
        return None
    total, used = _memory(nvml, handle)
    utilization = told(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    power_mw = told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    limit_mw = told(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return GpuState(
        index=str(index),
        uuid=uuid,
        name=told(nvml, nvml.nvmlDeviceGetName, handle) or "",
        memory_total_bytes=total,
        memory_used_bytes=used,
        utilization_ratio=utilization.gpu / 100 if utilization is not None else None,
        power_w=power_mw / 1e3 if power_mw is not None else None,
        temperature_c=told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        sm_clock_mhz=told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
        energy_mj=told(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        power_limit_w=limit_mw / 1e3 if limit_mw is not None else None,
        clock_reasons=_clock_reasons(nvml, handle),
        ecc_errors=told(
            nvml,
            nvml.nvmlDeviceGetTotalEccErrors,
            handle,
            nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nvml.NVML_VOLATILE_ECC,
        ),
        processes=tuple(
            process_of(process.pid, process.usedGpuMemory)
            for process in told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
        ),
    )


def _memory(nvml: ModuleType, handle: object) -> tuple[int, int]:
    """Total and used bytes; drivers before 510 count what they reserve as used."""
    version = nvml.nvmlMemory_v2
    memory = told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, version)
    if memory is None:
        memory = told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    return (memory.total, memory.used) if memory is not None else (0, 0)


def _clock_reasons(nvml: ModuleType, handle: object) -> int | None:
    """Bits of what holds the clocks down; drivers before 535 know them by another name."""
    bits: int | None = told(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:
        bits = told(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return bits


def told(nvml: ModuleType, function: Callable[..., _T], *arguments: object) -> _T | None:
    """What the device answers; None when it, or this driver, has no such thing."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def process_of(pid: int, used_bytes: int | None = None) -> GpuProcess:
    """The process `pid` with what /proc says of it."""
    folder = Path(f"/proc/{pid}")
    try:
        words = folder.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
        name = folder.joinpath("comm").read_text(errors="replace").strip()
        owner = folder.stat().st_uid
    except OSError:
        return GpuProcess(pid, used_bytes)
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        user = str(owner)
    return GpuProcess(pid, used_bytes, _command(words) or name, user)


def _command(words: Sequence[str]) -> str:
    """Program and first words of a command line; options may hold what is nobody's business."""
    if len(words) <= 2:  # a title that the process gave itself, blanks and all
        words = words[0].split() if words else []
    if not words or not words[0]:
        return ""
    shown = [words[0].rpartition("/")[2]]
    for word in words[1:_COMMAND_WORDS]:
        if word != "-m" and (word.startswith("-") or not word):
            break
        shown.append(word)
    return " ".join(shown)
