"""The driver script runs as its own words say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from examples import driver
from orchestrator.spec.experiment import Experiment
from tracking.open import open_run

ROOT = Path(__file__).resolve().parents[2]


def run_driver(cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples/driver.py")],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_its_experiment_is_valid() -> None:
    experiment = Experiment.from_dict(driver.EXPERIMENT)
    assert experiment.spec.name == "driver"


def test_it_tunes_and_prints_the_best(tmp_path: Path) -> None:
    done = run_driver(tmp_path)
    assert done.returncode == 0, done.stderr
    *_, record, best = done.stdout.partition("vllm serve")[0].strip().splitlines()
    assert best.startswith("best: trial ")
    trials = open_run(tmp_path / record.removeprefix("record: ")).pandas.trials()
    assert len(trials) == 4
    assert done.stdout.count(": completed ") == 4
    number = int(best.removeprefix("best: trial ").partition(",")[0])
    in_doubt = {int(line.split()[1][:-1]) for line in done.stdout.splitlines() if "doubt" in line}
    doubted = trials["flags"].map(lambda flags: "client_limited" in flags)
    assert in_doubt == set(trials["number"][doubted]), "a busy machine limits the load client"
    comparable = trials[~doubted & trials["slo_met"]].set_index("number")
    if not comparable.empty:
        assert number == comparable["objective_goodput_per_gpu"].idxmax()
