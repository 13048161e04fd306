"""GPUs of this node as the driver's own library, NVML, tells them."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import ModuleType

BUSY_BYTES = 1 << 30
"""A device with more than this in use belongs to somebody: a bare CUDA context is about half."""

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
    processes: tuple[GpuProcess, ...] = ()

    @property
    def is_free(self) -> bool:
        return self.memory_used_bytes < BUSY_BYTES


def read_nvml() -> list[GpuState] | None:
    """Every device of this node; None where NVML cannot be asked. Blocks for some milliseconds.

    A device that the driver has lost is left out.
    """
    nvml = _library()
    if nvml is None:
        return None
    count = _told(nvml, nvml.nvmlDeviceGetCount)
    states = [_state(nvml, index) for index in range(count or 0)]
    return [state for state in states if state is not None]


@cache
def _library() -> ModuleType | None:
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


def _state(nvml: ModuleType, index: int) -> GpuState | None:
    handle = _told(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    uuid = None if handle is None else _told(nvml, nvml.nvmlDeviceGetUUID, handle)
    if uuid is None:
        return None
    total, used = _memory(nvml, handle)
    utilization = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    power_mw = _told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    return GpuState(
        index=str(index),
        uuid=uuid,
        name=_told(nvml, nvml.nvmlDeviceGetName, handle) or "",
        memory_total_bytes=total,
        memory_used_bytes=used,
        utilization_ratio=utilization.gpu / 100 if utilization is not None else None,
        power_w=power_mw / 1e3 if power_mw is not None else None,
        temperature_c=_told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        sm_clock_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
        energy_mj=_told(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        processes=tuple(
            process_of(process.pid, process.usedGpuMemory)
            for process in _told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
        ),
    )


def _memory(nvml: ModuleType, handle: object) -> tuple[int, int]:
    """Total and used bytes; drivers before 510 count what they reserve as used."""
    version = nvml.nvmlMemory_v2
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, version)
    if memory is None:
        memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    return (memory.total, memory.used) if memory is not None else (0, 0)


def _told(nvml: ModuleType, function: Callable[..., _T], *arguments: object) -> _T | None:
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
