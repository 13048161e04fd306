"""Devices watched for a while, through a stand-in for the driver's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runtimes.telemetry.throttling import THROTTLE_REASONS, THROTTLED, reasons_of
from tests.runtimes.standin_nvml import StandinGpu, StandinNvml

ROOT = Path(__file__).resolve().parents[2]
_WATCH = """
import json, os, sys
from pathlib import Path
from runtimes.telemetry.gpu_watch import GpuWatch
from tests.runtimes.standin_nvml import StandinGpu, show

state = Path(os.environ["STANDIN_NVML"])
cool, hot = StandinGpu("GPU-a"), StandinGpu("GPU-a", clock_reasons=0x40)
other, lost = StandinGpu("GPU-b"), StandinGpu("GPU-b", total=-1)
show(state, cool, other, xids=[(0, 13)])
watch = GpuWatch(json.loads(sys.argv[1]))
watch.read()
show(state, hot, other, xids=[(0, 13), (0, 79), (1, 48)])
watch.read()
watch.read()
show(state, cool, lost, xids=[(0, 13), (0, 79), (1, 48), (1, 63)])
watch.close()
watch.read()
watch.close()
print(json.dumps({
    "throttled": [{gpu: one.throttled for gpu, one in reading.states.items()}
                  for reading in watch.readings],
    "in order": [reading.at_ns for reading in watch.readings]
                == sorted({reading.at_ns for reading in watch.readings}),
    "xids": watch.xids,
}))
"""


def watched(nvml: StandinNvml, *gpu_ids: str) -> dict[str, object]:
    """What a process saw of these devices, of which the first is hot for a while."""
    nvml.show(StandinGpu("GPU-a"), StandinGpu("GPU-b"))
    done = subprocess.run(
        [sys.executable, "-c", _WATCH, json.dumps(gpu_ids)],
        env={**os.environ, **nvml.env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_device_is_read_and_its_errors_are_heard_while_it_is_watched(tmp_path: Path) -> None:
    found = watched(StandinNvml(tmp_path), "0")
    assert found["throttled"] == [{"0": False}, {"0": True}, {"0": True}, {"0": False}]
    assert found["in order"]
    assert found["xids"] == [["0", 79]]


def test_a_lost_device_is_still_heard_and_one_that_nobody_lists_is_left_out(tmp_path: Path) -> None:
    found = watched(StandinNvml(tmp_path), "1", "GPU-a", "MIG-1")
    both = {"1": False, "GPU-a": True}
    assert found["throttled"] == [{"1": False, "GPU-a": False}, both, both, {"GPU-a": False}]
    assert found["xids"] == [["GPU-a", 79], ["1", 48], ["1", 63]]


def test_without_a_driver_nothing_is_seen(tmp_path: Path) -> None:
    code = (
        "from runtimes.telemetry.gpu_watch import GpuWatch; watch = GpuWatch(['0']); "
        "watch.read(); watch.close(); print(watch.readings, watch.xids)"
    )
    env = {**os.environ, **StandinNvml(tmp_path).env}
    said = subprocess.check_output([sys.executable, "-c", code], env=env, cwd=ROOT, text=True)
    assert said == "[] []\n"


@given(bits=st.integers(min_value=0, max_value=2**64 - 1))
def test_every_bit_has_a_name(bits: int) -> None:
    names = reasons_of(bits)
    by_name = {name: bit for bit, name in THROTTLE_REASONS.items()}
    assert sum(by_name.get(name) or int(name, 16) for name in names) == bits


def test_heat_throttles_and_a_power_cap_does_not() -> None:
    assert set(reasons_of(THROTTLED)) == {
        "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown",
    }  # fmt: skip
