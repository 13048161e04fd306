"""GPU-seconds that a journal tells of, and that a run loaded from its folder has."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.load_run import load_run
from tests.tracking.run_samples import trial_record
from tracking.device_time import capacity, drivers, rowless_gpu_seconds
from tracking.events import BundleLost, BundleTaken, Event, Finished, Launched, RunStarted
from tracking.journal import Journal
from tracking.layout import RunLayout
from tracking.parquet.write import RecordWriter
from tracking.summary import summarise_run

_STARTED = RunStarted("run", "0.1.0", resumed=False)
_TAKEN = BundleTaken("b", "node", "H100", ["0", "1", "2", "3"])
_LAUNCHED = [Launched(number, 0, "b", "node", ["0", "1"]) for number in range(2)]

_KILLED: list[tuple[float, Event]] = [
    (1000.0, _STARTED), (1000.0, _TAKEN),
    (1001.0, _LAUNCHED[0]), (1011.0, Finished(0, 0, "completed", retry=False)),
    (1011.0, _LAUNCHED[1]), (1031.0, Finished(7, 0, "infeasible", retry=False)),
    (9000.0, RunStarted("run", "0.1.0", resumed=True)),
]  # fmt: skip
"""A driver with four GPUs that was killed at 1031 while trial 1 ran, and one that came later."""


def test_an_attempt_without_a_row_counts_until_its_driver_fell_silent() -> None:
    assert drivers(_KILLED) == [(1000.0, 1031.0), (9000.0, 9000.0)]
    assert rowless_gpu_seconds(_KILLED, {(0, 0)}) == 2 * 20.0
    assert rowless_gpu_seconds(_KILLED, {(0, 0), (1, 0)}) == 0.0


def test_an_attempt_whose_row_was_lost_counts_until_it_finished() -> None:
    assert rowless_gpu_seconds(_KILLED, {(1, 0)}) == 2 * 10.0


def test_what_was_held_is_of_every_driver_and_ends_with_a_bundle() -> None:
    assert capacity(_KILLED) == (0, 4 * 31.0)
    lost: list[tuple[float, Event]] = [
        *_KILLED[:2], (1005.0, BundleLost("b", "node is gone")), (1500.0, _TAKEN),
    ]  # fmt: skip
    assert capacity(lost) == (4, 4 * 5.0)


def test_a_summary_counts_what_killed_attempts_held_as_busy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = RunLayout(tmp_path / "demo-20260101T000000Z-abcd")
    layout.create()
    layout.experiment.write_text(
        "name: demo\nobjectives: [{maximize: goodput_per_gpu}]\n", encoding="utf-8"
    )
    RecordWriter(layout, {"tp": "int"}, ["goodput_per_gpu"]).trial(
        trial_record(0, gpus=2, seconds=10.0)
    )
    times = iter([at_s for at_s, _ in _KILLED])
    with Journal(layout.journal_dir, clock=lambda: next(times)) as journal:
        for _, event in _KILLED:
            journal.append(event)
    summary = summarise_run(load_run(layout))
    assert summary.busy_gpu_seconds == 2 * 10.0 + 2 * 20.0
    assert summary.idle_gpu_seconds == 4 * 31.0 - summary.busy_gpu_seconds
    assert caplog.text == ""
