"""The same study from a Python driver script and without a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

from tests.e2e import studies

DRIVER = """
from orchestrator import Experiment, run

result = run(Experiment.load("experiment.yaml"), results="runs")
print(result.best.number, result.counts["completed"], result.report.is_file())
"""


def test_a_driver_script_runs_the_experiment(tmp_path: Path) -> None:
    cluster = {"kind": "in_process", "simulated_gpus": 2, "accelerator": "H100"}
    studies.write(tmp_path, studies.experiment(cluster=cluster))
    (tmp_path / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, "driver.py"],
        cwd=tmp_path,
        env=studies.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, completed, report = done.stdout.split()
    assert int(number) in range(4)
    assert completed == "4"
    assert report == "True"


def test_tune_needs_no_file_and_writes_the_one_it_used(tmp_path: Path) -> None:
    written = tmp_path / "used.yaml"
    done = studies.servetune(
        *("tune", "meta-llama/Llama-3.2-1B", "--simulate", "H100:2", "--trials", "3"),
        *("--ttft-p99", "5000", "--tpot-p99", "100", "--concurrency", "2", "--requests", "4"),
        *("--input-tokens", "32", "--output-tokens", "8"),
        *("--results", tmp_path / "runs", "--write", written, "--json"),
    )
    assert done.returncode == 0, done.stderr
    run = studies.only_run(tmp_path / "runs")
    events = [event for event in studies.journal(run) if event["kind"] == "proposed"]
    assert events[0]["baseline"] is True, "the defaults come first"
    assert json.loads(done.stdout)["best"]["slo_met"] is True
    used = yaml.safe_load(written.read_text())
    assert used == yaml.safe_load((run / "experiment.yaml").read_text())
    assert used["slo"] == {"ttft_ms": {"p99": 5000.0}, "tpot_ms": {"p99": 100.0}}
    planned = studies.servetune("plan", written, "--json")
    assert planned.returncode == 0, planned.stderr
