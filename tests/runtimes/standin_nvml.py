"""A driver library that answers from a file, for machines without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("standin_nvml.c")
GIB = 1 << 30
NOT_SUPPORTED = -1
DRIVER = "580.95.05 13000"
"""Version of the driver, and that of CUDA as NVML writes it."""


@dataclass(frozen=True)
class StandinGpu:
    """One device of the stand-in, in the driver's own units; processes as pid and bytes."""

    uuid: str
    used: int = 0
    total: int = 80 * GIB
    name: str = "NVIDIA H100 80GB HBM3"
    utilization: int = 0
    power_mw: int = 70_000
    temperature: int = 30
    sm_mhz: int = 1980
    memory_mhz: int = 2619
    energy_mj: int = 5_000
    limit_mw: int = 700_000
    clock_reasons: int = 0
    ecc_errors: int = 0
    processes: tuple[tuple[int, int], ...] = ()

    def lines(self, index: int) -> list[str]:
        values = (self.total, self.used, self.utilization, self.power_mw, self.temperature)
        words = [self.uuid, self.name.replace(" ", "_"), *values, self.sm_mhz, self.memory_mhz]
        words += [self.energy_mj, self.limit_mw, self.clock_reasons, self.ecc_errors]
        return [
            f"gpu {' '.join(map(str, words))}",
            *(f"proc {index} {pid} {held}" for pid, held in self.processes),
        ]


class StandinNvml:
    """The library, compiled into `folder`, and the file it answers from.

    A process that starts with `env` finds it; skips the test where no C compiler is.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler here to build the stand-in for NVML with")
        library = folder / "libnvidia-ml.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self.state = folder / "state"
        inherited = os.environ.get("LD_LIBRARY_PATH")
        path = f"{folder}{os.pathsep}{inherited}" if inherited else str(folder)
        self.env = {"LD_LIBRARY_PATH": path, "STANDIN_NVML": str(self.state)}

    def show(
        self,
        *gpus: StandinGpu,
        old_driver: bool = False,
        xids: Sequence[tuple[int, int]] = (),
        driver: str = DRIVER,
    ) -> None:
        """From here on these are the devices."""
        show(self.state, *gpus, old_driver=old_driver, xids=xids, driver=driver)


def show(
    state: Path,
    *gpus: StandinGpu,
    old_driver: bool = False,
    xids: Sequence[tuple[int, int]] = (),
    driver: str = DRIVER,
) -> None:
    """Write the file that a stand-in answers from, in one step: no reader sees half of it.

    `xids` are the errors that have come so far, as number of the device and code; `driver` is of
    the form of `DRIVER`, or empty for one that does not tell.
    """
    lines = [line for index, gpu in enumerate(gpus) for line in gpu.lines(index)]
    lines += [f"xid {gpu} {code}" for gpu, code in xids]
    lines += [f"driver {driver}"] if driver else []
    draft = state.with_suffix(".draft")
    draft.write_text("\n".join([*(["old"] if old_driver else []), *lines, ""]))
    draft.replace(state)
