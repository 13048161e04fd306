"""A study on GPUs that others use too: nothing is given on that is not free, and it is told."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from runtimes.telemetry.nvml import process_of
from tests.e2e import studies
from tests.runtimes.standin_nvml import GIB, StandinGpu, StandinNvml
from tracking.layout import RunLayout
from tracking.parquet.read import read_stages, read_trials

FREE = StandinGpu("GPU-0"), StandinGpu("GPU-1")

QUARANTINED = 'servetune_gpus{state="quarantined"} 1.0'


def events(run: Path, kind: str) -> list[dict[str, object]]:
    return [dict(event) for event in studies.journal(run) if event["kind"] == kind]


def measuring(run: Path, number: int) -> bool:
    rows = events(run, "phase_changed")
    return any((row["number"], row["phase"]) == (number, "measuring") for row in rows)


def metrics(run: Path) -> str:
    url = json.loads((run / "live/status.json").read_text())["metrics"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


@pytest.fixture
def nvml(tmp_path: Path) -> StandinNvml:
    made = StandinNvml(tmp_path)
    made.show(*FREE)
    return made


def file(folder: Path) -> Path:
    """Four trials of a few seconds on the real devices of this node."""
    return studies.write(
        folder,
        studies.experiment(
            workload={
                "input_tokens": 32,
                "output_tokens": 64,
                "load": {"kind": "concurrency", "value": 2, "requests": 16},
            },
            cluster={"kind": "local", "accelerator": "H100"},
            timeouts={"release": "1s"},
        ),
    )


def test_a_dirty_gpu_is_quarantined_and_the_study_goes_on_without_it(
    tmp_path: Path, nvml: StandinNvml
) -> None:
    results = tmp_path / "runs"
    with studies.started("run", file(tmp_path), "--results", results, **nvml.env) as process:
        studies.wait_for(lambda: results.is_dir() and list(results.iterdir()), "a run")
        run = studies.only_run(results)
        studies.wait_for(lambda: measuring(run, 0), "load")
        nvml.show(StandinGpu("GPU-0", 20 * GIB), FREE[1])
        studies.wait_for(lambda: events(run, "gpu_withheld"), "a report")
        studies.wait_for(lambda: QUARANTINED in metrics(run), "the metric")
        studies.wait_for(
            lambda: json.loads((run / "live/status.json").read_text())["withheld"], "the status"
        )
        status = studies.servetune("status", run).stdout
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    words = "GPU 0 has 20.0 GiB in use: no process of it can be seen from here"
    assert "quarantined, not used again in this run: " in said
    assert words in said
    assert words in status
    (withheld,) = events(run, "gpu_withheld")
    assert (withheld["gpu"], withheld["why"]) == ("0", "dirty")
    rows = read_trials(RunLayout(run))
    first = next(row for row in rows if row.number == withheld["number"])
    assert "gpu_dirty" in first.flags
    # A busy machine may make the client the limit; the device must not cast doubt.
    assert first.doubts <= {"client_limited"}, "its own measurement is sound"
    later = [event for event in events(run, "launched") if event["number"] not in (0, 1)]
    assert [event["gpu_ids"] for event in later] == [["1"], ["1"]]
    assert {row.state.value for row in rows} == {"completed"}
    for row in rows:
        assert row.gpu_uuids == tuple(f"GPU-{gpu}" for gpu in row.gpu_ids)
        assert (row.driver_version, row.cuda_version) == ("580.95.05", "13.0")
        assert row.environment_hash == row.engine_config["servetune.environment"] != ""
        assert row.compile_cache == "", "a simulation compiles nothing"
    for stage in read_stages(RunLayout(run)):
        (device,) = stage.gpu_use
        assert (device.uuid, device.throttled_ratio) == (f"GPU-{device.gpu}", 0.0)
        assert stage.engine_use is not None


def test_a_gpu_that_somebody_took_is_waited_for_and_used_again(
    tmp_path: Path, nvml: StandinNvml
) -> None:
    results = tmp_path / "runs"
    with (
        subprocess.Popen(["sleep", "600"]) as other,
        studies.started("run", file(tmp_path), "--results", results, **nvml.env) as process,
    ):
        owner = str(process_of(other.pid))
        studies.wait_for(lambda: results.is_dir() and list(results.iterdir()), "a run")
        run = studies.only_run(results)
        studies.wait_for(lambda: measuring(run, 0) and measuring(run, 1), "load")
        held = ((other.pid, 30 * GIB),)
        nvml.show(*(StandinGpu(gpu.uuid, 30 * GIB, processes=held) for gpu in FREE))
        studies.wait_for(lambda: len(events(run, "gpu_withheld")) == 2, "two reports")
        other.kill()
        nvml.show(*FREE)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert f"GPU 0 has 30.0 GiB in use: {owner}" in said
    assert "not used until it is free: " in said
    assert "free again: " in said
    assert {event["gpu"] for event in events(run, "gpu_returned")} == {"0", "1"}
    rows = {row.number: row for row in read_trials(RunLayout(run))}
    assert sorted(rows) == [0, 1, 2, 3]
    # Others computed on their devices: those figures are not compared, and not learned from.
    foreign = ["gpu_foreign" in rows[number].doubts for number in range(4)]
    assert foreign == [True, True, False, False]
    # Nor is their energy known; the stand-in's counters stand still.
    measured = [rows[number].measurement for number in range(4)]
    assert [one and one.energy_j for one in measured] == [None, None, 0.0, 0.0]
