"""Energy between two instants, through a stand-in for the driver's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.telemetry.energy import counters, used_j
from runtimes.telemetry.nvml import GpuProcess, GpuState
from tests.runtimes.standin_nvml import NOT_SUPPORTED, StandinGpu, StandinNvml

ROOT = Path(__file__).resolve().parents[2]
_READ = (
    "import json, sys; from runtimes.telemetry.energy import read_energy; "
    "print(json.dumps(read_energy(sys.argv[1:])))"
)


@pytest.fixture
def nvml(tmp_path: Path) -> StandinNvml:
    return StandinNvml(tmp_path)


def read(env: dict[str, str], *gpus: str) -> dict[str, int] | None:
    """What a process with `env` reads; the library is looked for as a process starts."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, *gpus],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    found: dict[str, int] | None = json.loads(done.stdout)
    return found


def test_the_devices_asked_for_are_read(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a", energy_mj=1_000), StandinGpu("GPU-b", energy_mj=1 << 40))
    assert read(nvml.env, "GPU-a", "1") == {"GPU-a": 1_000, "1": 1 << 40}
    assert read(nvml.env, "0", "MIG-GPU-a/1/0") is None


def test_a_device_without_a_counter_has_no_energy(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a", energy_mj=NOT_SUPPORTED))
    assert read(nvml.env, "0") is None
    assert read(nvml.env) is None


def test_energy_that_somebody_else_uses_is_not_the_attempts() -> None:
    def state(*processes: GpuProcess) -> list[GpuState]:
        return [GpuState("0", "GPU-a", "H100", 80, 0, energy_mj=7, processes=processes)]

    assert counters(state(GpuProcess(10, 1, "engine")), ["0"], {10}) == {"0": 7}
    assert counters(state(GpuProcess(11, 1, "python train.py")), ["0"], {10}) is None
    hidden = GpuProcess(12, 1)
    assert counters(state(hidden), ["0"], {10}) == {"0": 7}


def test_joules_are_the_sum_over_devices() -> None:
    assert used_j({"0": 1_000, "1": 5_000}, {"0": 3_500, "1": 5_500}) == 3.0
    assert used_j({"0": 1_000}, {"0": 999}) is None
    assert used_j(None, {"0": 1}) is None
    assert used_j({"0": 1}, None) is None
    assert used_j({"0": 1}, {"1": 2}) is None
