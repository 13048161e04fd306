"""`servetune compare` as users call it, on run folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from runtimes.measurement import Interval
from tests.orchestrator.commands import servetune
from tests.orchestrator.run_folders import write_run
from tests.tracking.run_samples import measurement, trial_record
from tracking.records import TrialRecord


def trial(number: int, throughput: float, **changes: object) -> TrialRecord:
    measured = measurement(output_throughput=throughput)
    bounds = Interval(measured.goodput * 0.99, measured.goodput * 1.01)
    measured = replace(measured, intervals={"goodput": bounds, "goodput_per_gpu": bounds})
    record = trial_record(number, gpus=1, measured=measured, baseline=number == 0)
    return replace(record, **changes)  # type: ignore[arg-type]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders; every trial of the second serves a tenth more."""
    made = []
    for name, factor in (("old", 1.0), ("new", 1.1)):
        trials = [trial(0, 1000 * factor), trial(1, 2000 * factor)]
        layout = write_run(tmp_path / "made", trials)
        folder = tmp_path / name
        shutil.move(layout.root, folder)
        made.append(folder)
    return made[0], made[1]


def test_the_best_of_two_runs_on_a_screen(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = servetune("compare", *runs, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "new, trial 1, against old, trial 1" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("goodput per GPU")]
    assert "+10.0%" in row and row.rstrip().endswith("better")


def test_json_is_one_document(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = servetune("compare", f"{runs[0]}:1", f"{runs[0]}:baseline", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)["comparisons"]
    assert found["second"] == {"run": "old", "trial": 0}
    (goal,) = found["objectives"]
    assert goal["verdict"] == "worse" and goal["relative"] == pytest.approx(-0.5)
    assert goal["low"] < goal["relative"] < goal["high"]


def test_a_refusal_says_why_and_fails(runs: tuple[Path, Path], tmp_path: Path) -> None:
    doubtful = write_run(tmp_path / "made", [trial(0, 1000, flags=("client_limited",))])
    done = servetune("compare", *runs, doubtful.root, cwd=tmp_path)
    assert done.returncode == 2
    assert "not comparable" in done.stdout and "the load generator could not keep up" in done.stdout
    assert "+10.0%" in done.stdout, "the other comparison stands"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ([], "one run has nothing to be compared with"),
        ([":7"], "has no trial 7; it has 0 to 1"),
        ([":worst"], "'worst' names no trial; write a number, best, lossless or baseline"),
        (["-of-nowhere"], "no run found"),
    ],
)
def test_wrong_names_are_told(
    runs: tuple[Path, Path], tmp_path: Path, named: list[str], words: str
) -> None:
    done = servetune("compare", runs[0], *(f"{runs[1]}{each}" for each in named), cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_name_that_is_quoted_does_not_steer_the_terminal(tmp_path: Path) -> None:
    done = servetune("status", "no\x1b[2J-such", cwd=tmp_path)
    assert done.returncode == 2
    assert "no run found: no-such does not exist" in done.stderr
    assert "\x1b" not in done.stderr
