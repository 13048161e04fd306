"""What NVML tells of devices, through a stand-in for the driver's library."""

from __future__ import annotations

import os
import pickle
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.telemetry.nvml import GPU_METRICS, Driver, GpuProcess, GpuState, process_of
from tests.runtimes.standin_nvml import GIB, NOT_SUPPORTED, StandinGpu, StandinNvml

ROOT = Path(__file__).resolve().parents[2]
_READ = (
    "import pickle, sys; from runtimes.telemetry.gpus import list_gpus; "
    "from runtimes.telemetry.nvml import read_driver, read_nvml; "
    "sys.stdout.buffer.write(pickle.dumps({}))"
)


@pytest.fixture
def nvml(tmp_path: Path) -> StandinNvml:
    return StandinNvml(tmp_path)


def listed(env: dict[str, str]) -> list[GpuState]:
    """What a process with `env` lists."""
    states = told(env, "list_gpus()")
    assert isinstance(states, list)
    return states


def told(env: dict[str, str], asked: str) -> object:
    """What a process with `env` is told; the library is looked for as a process starts."""
    done = subprocess.run(
        [sys.executable, "-c", _READ.format(asked)],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    answer: object = pickle.loads(done.stdout)
    return answer


def test_a_device_tells_everything_about_itself(nvml: StandinNvml) -> None:
    nvml.show(
        StandinGpu("GPU-a"),
        StandinGpu(
            "GPU-b", 40 * GIB, utilization=97, power_mw=612_500, temperature=71, sm_mhz=1755,
            clock_reasons=0x44, ecc_errors=3, processes=((os.getpid(), 39 * GIB), (2**31 - 1, GIB)),
        ),
    )  # fmt: skip
    first, second = listed(nvml.env)
    assert (first.index, first.uuid, first.is_free, first.processes) == ("0", "GPU-a", True, ())
    assert second == GpuState(
        index="1",
        uuid="GPU-b",
        name="NVIDIA H100 80GB HBM3",
        memory_total_bytes=80 * GIB,
        memory_used_bytes=40 * GIB,
        utilization_ratio=0.97,
        power_w=612.5,
        temperature_c=71,
        sm_clock_mhz=1755,
        memory_clock_mhz=2619,
        energy_mj=5_000,
        power_limit_w=700.0,
        clock_reasons=0x44,
        ecc_errors=3,
        processes=(process_of(os.getpid(), 39 * GIB), GpuProcess(2**31 - 1, GIB)),
    )
    assert not second.is_free


@pytest.mark.parametrize("old_driver", [False, True], ids=["new", "old"])
def test_memory_is_told_by_old_drivers_too(nvml: StandinNvml, old_driver: bool) -> None:
    nvml.show(StandinGpu("GPU-a", 3 * GIB), old_driver=old_driver)
    (state,) = listed(nvml.env)
    assert (state.memory_total_bytes, state.memory_used_bytes) == (80 * GIB, 3 * GIB)


@pytest.mark.parametrize("old_driver", [False, True], ids=["new", "old"])
def test_why_clocks_are_low_is_told_by_old_drivers_too(nvml: StandinNvml, old_driver: bool) -> None:
    nvml.show(
        StandinGpu("GPU-a", clock_reasons=0x4), StandinGpu("GPU-b", clock_reasons=0x24),
        old_driver=old_driver,
    )  # fmt: skip
    capped, hot = listed(nvml.env)
    assert (capped.clock_reasons, capped.throttled) == (0x4, False)
    assert (hot.clock_reasons, hot.throttled) == (0x24, True)


def test_what_a_device_does_not_tell_is_none(nvml: StandinNvml) -> None:
    absent = NOT_SUPPORTED
    gpu = StandinGpu(
        "GPU-a", utilization=absent, power_mw=absent, temperature=absent, sm_mhz=absent,
        memory_mhz=absent, energy_mj=absent, limit_mw=absent, clock_reasons=absent,
        ecc_errors=absent,
    )  # fmt: skip
    nvml.show(gpu)
    (state,) = listed(nvml.env)
    assert state == GpuState("0", "GPU-a", gpu.name, 80 * GIB, 0)
    assert state.throttled is None
    assert state.metrics == {"gpu_memory_used_bytes": 0.0}


def test_metrics_of_a_device_have_the_names_of_the_record(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a", 2 * GIB, utilization=50, clock_reasons=0x40))
    (state,) = listed(nvml.env)
    assert set(state.metrics) == set(GPU_METRICS)
    assert state.metrics["gpu_throttled_ratio"] == 1.0
    assert state.metrics["gpu_power_limit_w"] == 700.0


def test_the_driver_tells_its_version_and_that_of_cuda(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a"))
    assert told(nvml.env, "read_driver()") == Driver("580.95.05", "13.0")
    nvml.show(StandinGpu("GPU-a"), driver="535.216.01 12020")
    assert told(nvml.env, "read_driver()") == Driver("535.216.01", "12.2")
    nvml.show(StandinGpu("GPU-a"), driver="")
    assert told(nvml.env, "read_driver()") == Driver()


def test_only_the_devices_that_are_asked_for_are_read(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a"), StandinGpu("GPU-b"), StandinGpu("GPU-c"))
    states = told(nvml.env, "read_nvml(['0', 'GPU-c'])")
    assert isinstance(states, list)
    assert [state.index for state in states] == ["0", "2"]


def test_a_device_that_the_driver_lost_is_left_out(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a", total=NOT_SUPPORTED), StandinGpu("GPU-b"))
    assert [(state.index, state.uuid) for state in listed(nvml.env)] == [("1", "GPU-b")]


def test_a_library_without_a_driver_is_none(nvml: StandinNvml, tmp_path: Path) -> None:
    """The library cannot start; then the tool is asked."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-s, NVIDIA L4, 23034, 2'\n")
    tool.chmod(0o755)
    (state,) = listed({**nvml.env, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    assert state == GpuState("0", "GPU-s", "NVIDIA L4", 23034 << 20, 2 << 20)
    tool.unlink()
    assert listed(nvml.env) == []


def command_of(argv: list[str], executable: str, said: bytes = b"") -> GpuProcess:
    """What is told of a process that runs `argv` and has said something."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, executable=executable, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(said)
            process.stdin.flush()
            assert process.stdout.readline() == b"on\n"
            return process_of(process.pid, 5)
        finally:
            process.kill()


def test_a_process_is_named_without_its_options() -> None:
    code = "import time; print('on', flush=True); time.sleep(60)"
    argv = [sys.executable, "-m", "timeit", "--setup", code, "--number=1", "pass"]
    user = pwd.getpwuid(os.getuid()).pw_name
    program = Path(sys.executable).name
    found = command_of(argv, sys.executable)
    assert found == GpuProcess(found.pid, 5, f"{program} -m timeit", user)
    assert str(found) == f"pid {found.pid} ({program} -m timeit, user {user})"
    found = command_of([sys.executable, "-c", code], sys.executable)
    assert found.command == program


def test_a_process_may_have_given_itself_a_title() -> None:
    title = "sglang::scheduler_TP0 --secret x"
    assert command_of([title], "/bin/sh", b"echo on\n").command == "sglang::scheduler_TP0"
    assert command_of(["VLLM::Worker"], "/bin/sh", b"echo on\n").command == "VLLM::Worker"


def test_a_process_that_cannot_be_seen_has_no_name() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert process_of(gone.pid) == GpuProcess(gone.pid)
    assert str(process_of(gone.pid)) == f"pid {gone.pid}"
