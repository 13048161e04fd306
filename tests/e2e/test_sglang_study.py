"""A study on real SGLang, on the CPU (`make test-engines`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e import studies
from tests.runtimes.sglang_cases import sglang_python
from tracking.open import open_run

MODEL = os.environ.get("SERVETUNE_TINY_MODEL", "")
PYTHON = sglang_python()
pytestmark = [
    pytest.mark.sglang,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        PYTHON is None or not Path(MODEL).is_dir(),
        reason="no SGLang here: `make sglang-cpu` installs one, `make test-engines` names it",
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sglang")
    data = studies.experiment(
        name="real-sglang",
        model={"path": MODEL},
        weights="dummy",
        offline=True,
        engines={
            "sglang": {
                "environment": {"python": str(PYTHON)},
                "entrypoint": "module",
                "args": {
                    "device": "cpu",
                    "attention-backend": "torch_native",
                    "max-total-tokens": 8192,
                },
                "search": {"schedule-policy": ["fcfs", "lpm"]},
            }
        },
        workload={
            "input_tokens": {"mean": 48, "stddev": 8},
            "output_tokens": 8,
            "load": {"kind": "concurrency", "value": 2, "requests": 12},
        },
        cluster={"kind": "local", "simulated_gpus": 1, "accelerator": "cpu"},
    )
    path, results = studies.write(folder, data), folder / "runs"
    done = studies.servetune("run", path, "--results", results, timeout_s=840)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return studies.only_run(results)


def test_default_and_search_give_one_trial_each(run: Path) -> None:
    trials = open_run(run).pandas.trials()
    assert list(trials["state"]) == ["completed"] * 2
    assert set(trials["engine_version"]) == {"0.5.23"}
    assert (trials["achieved_output_ratio"] == 1.0).all()
    resolved = [row["engine_config"]["schedule_policy"] for row in studies.rows(trials)]
    assert sorted(resolved) == ["fcfs", "lpm"]


def test_the_engine_counted_what_the_client_counted(run: Path) -> None:
    for stage in studies.rows(open_run(run).pandas.stages()):
        before, after = stage["counters_before"], stage["counters_after"]
        generated = after["generation_tokens_total"] - before["generation_tokens_total"]
        assert generated == stage["output_tokens"]
        prompts = after["prompt_tokens_total"] - before["prompt_tokens_total"]
        assert prompts == stage["input_tokens"]
