"""Devices that are slowed or in error while a stage is measured: recorded, flagged, repeated."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow.parquet as pq
import pytest

from orchestrator.messages import Facts, Measured
from orchestrator.stage_gpus import flags_of, samples_of, use_of
from runtimes.telemetry.gpu_watch import GpuReading, GpuWatch
from runtimes.telemetry.nvml import GPU_METRICS, Driver, GpuState
from tests.runtimes.standin_nvml import StandinNvml
from tracking.records import DISQUALIFYING, GpuUse, StageRecord

ROOT = Path(__file__).resolve().parents[2]
COOL, HOT, CAPPED = 0x0, 0x40, 0x4
Shown: TypeAlias = tuple[int, int, list[tuple[int, int]]]
"""Clock reasons, memory errors, Xids so far."""
SECOND = 10**9


@dataclass(frozen=True)
class Told:
    """What an attempt told in the end."""

    stages: list[StageRecord]
    measured: Measured
    facts: Facts
    samples: bytes

    @property
    def flags(self) -> list[set[str]]:
        """Of each stage, those that its devices gave it."""
        return [
            {flag for flag in stage.measurement.flags if flag.startswith("gpu_")}
            for stage in self.stages
        ]


def attempt(folder: Path, *shown: Shown, streams: tuple[int, ...] = (2,)) -> Told:
    """See `throttled_attempt`; the last state stays."""
    argv = [sys.executable, "-m", "tests.orchestrator.throttled_attempt"]
    env = {**os.environ, **StandinNvml(folder).env, "SERVETUNE_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [*argv, json.dumps(shown), json.dumps(streams)], env=env, cwd=ROOT, stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    stages, result, facts, samples = pickle.loads(done.stdout)
    assert isinstance(result, Measured), result
    return Told(stages, result, facts, samples)


def test_a_throttled_stage_is_repeated_and_the_repetition_counts(tmp_path: Path) -> None:
    hot: Shown = (HOT, 0, [])
    cool: Shown = (CAPPED, 0, [])
    told = attempt(tmp_path, hot, hot, cool, streams=(2, 4))
    assert [(one.stage, one.load_value, one.repeat_of) for one in told.stages] == [
        (0, 2, None),
        (1, 2, 0),
        (2, 4, None),
    ]
    assert told.flags == [{"gpu_throttled"}, set(), set()]
    assert told.measured.stage == 2
    assert told.measured.measurement == told.stages[2].measurement
    assert "gpu_throttled" not in told.facts.flags
    assert [one.gpu_use[0].throttle_reasons for one in told.stages] == [
        ("hw_thermal_slowdown",),
        ("sw_power_cap",),
        ("sw_power_cap",),
    ]
    assert (told.facts.gpu_uuids, told.facts.driver) == (("GPU-b",), Driver("580.95.05", "13.0"))


def test_one_that_is_throttled_again_is_flagged_and_stands(tmp_path: Path) -> None:
    told = attempt(tmp_path, (HOT, 0, []))
    assert [one.repeat_of for one in told.stages] == [None, 0]
    assert told.flags == [{"gpu_throttled"}, {"gpu_throttled"}]
    assert told.measured.stage == 1
    assert "gpu_throttled" in told.facts.flags
    (device,) = told.stages[1].gpu_use
    assert (device.gpu, device.uuid, device.throttled_ratio) == ("1", "GPU-b", 1.0)
    assert (device.power_mean_w, device.power_limit_w) == (650.0, 700.0)
    assert (device.ecc_errors, device.xids) == (0, ())
    rows = pq.read_table(io.BytesIO(told.samples)).to_pylist()
    of_devices = [row for row in rows if row["gpu"]]
    assert {row["metric"] for row in of_devices} == set(GPU_METRICS)
    assert {(row["gpu"], row["engine_metric"]) for row in of_devices} == {("1", "")}
    assert {row["stage"] for row in of_devices} == {0, 1}
    clock_ns = [row["at_ns"] for row in rows if not row["gpu"]]
    assert all(min(clock_ns) <= row["at_ns"] <= max(clock_ns) for row in of_devices)


def test_errors_of_a_device_make_the_stage_unfit(tmp_path: Path) -> None:
    before, error = (COOL, 1, [(1, 48)]), (COOL, 3, [(1, 48), (0, 13), (1, 94)])
    told = attempt(tmp_path, before, error)
    (stage,) = told.stages
    assert told.flags == [{"gpu_errors"}]
    assert "gpu_errors" in DISQUALIFYING & set(told.facts.flags)
    (device,) = stage.gpu_use
    assert (device.ecc_errors, device.xids) == (2, (94,))


def reading(second: int, **states: GpuState) -> GpuReading:
    return GpuReading(second * SECOND, float(second), states)


def state(**told: int) -> GpuState:
    return GpuState("0", "GPU-a", "H100", 80, 1, **told)  # type: ignore[arg-type]  # test data


def watch_of(*readings: GpuReading) -> GpuWatch:
    made = GpuWatch(("a", "b"))
    made.readings += readings
    return made


def test_figures_are_of_the_readings_while_the_load_ran() -> None:
    idle, busy, hot = state(sm_clock_mhz=345), state(sm_clock_mhz=1900), state(sm_clock_mhz=1500)
    watch = watch_of(*(reading(at, a=one) for at, one in enumerate([idle, busy, hot, idle])))
    (use,) = use_of(watch)
    assert (use.gpu, use.samples, use.sm_clock_mean_mhz) == ("a", 2, 1700)
    assert (use.power_mean_w, use.throttled_ratio, use.ecc_errors) == (None, None, None)
    short = watch_of(reading(0, a=idle), reading(1, a=busy))
    assert use_of(short)[0].sm_clock_mean_mhz == (345 + 1900) / 2
    assert use_of(watch_of()) == ()
    assert list(samples_of(watch_of(), 0)) == []


@pytest.mark.parametrize(("hot", "flagged"), [(5, False), (6, True)])
def test_over_a_twentieth_of_the_readings_is_throttled(hot: int, flagged: bool) -> None:
    seen = [state(clock_reasons=HOT if at < hot else CAPPED) for at in range(100)]
    watch = watch_of(
        *(reading(at, a=state(), b=one) for at, one in enumerate([*seen[:1], *seen, *seen[-1:]]))
    )
    cool, warm = use_of(watch)
    assert (cool.throttled_ratio, warm.throttled_ratio) == (None, hot / 100)
    assert flags_of([cool, warm]) == (["gpu_throttled"] if flagged else [])
    assert flags_of([GpuUse("0")]) == []
