"""Trials of different sizes at once on real Ray: devices never shared, record complete, watched."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from runtimes.json_types import Json
from tests.e2e import studies
from tracking.layout import RunLayout
from tracking.open import open_run
from tracking.parquet.read import read_trials
from tracking.records import TrialRecord

pytestmark = pytest.mark.ray
GPUS = 8


@dataclass(frozen=True)
class Study:
    """A finished study: its run folder, its rows, its document and what was scraped on the way."""

    run: Path
    rows: list[TrialRecord]
    document: dict[str, Json]
    stderr: str
    scraped: str


def mixed() -> dict[str, Json]:
    """Eight trials of 1, 2, 4 and 8 GPUs."""
    return studies.experiment(
        name="mixed",
        model="meta-llama/Llama-3.1-8B",
        parallel={"tp": [1, 2, 4, 8]},
        engines={"simulated": {"startup_s": 0.2, "search": {"max-num-seqs": [4, 8]}}},
        workload={
            "input_tokens": 64,
            "output_tokens": 48,
            "load": {"kind": "concurrency", "value": 4, "requests": 24},
        },
        slo={"ttft_ms": {"p99": 5000}},
        objectives=[{"maximize": "output_throughput_per_gpu"}, {"minimize": "tpot_p99_ms"}],
        search={"sampler": "grid", "baseline": True},
        cluster={
            "kind": "ray", "address": "local", "simulated_gpus": GPUS, "accelerator": "H100",
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("mixed")
    results = folder / "runs"
    path = studies.write(folder, mixed())
    with studies.started("run", path, "--results", results, "--json") as process:
        studies.wait_for(
            lambda: results.is_dir() and (studies.only_run(results) / "live/status.json").exists(),
            "the live status",
        )
        run = studies.only_run(results)
        studies.wait_for(lambda: "servetune_trial_gpus{" in scrape(run), "a running trial")
        scraped = scrape(run)
        stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    yield Study(run, read_trials(RunLayout(run)), json.loads(stdout), stderr, scraped)


def scrape(run: Path) -> str:
    """What the running study's exporter says now."""
    status = json.loads((run / "live/status.json").read_text())
    with urllib.request.urlopen(status["metrics"], timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_every_trial_completes_and_stdout_is_one_document(study: Study) -> None:
    assert study.document["trials"] == {"completed": 9}
    assert study.document["run"] == study.run.name
    best = cast("dict[str, Any]", study.document["best"])
    assert best["simulated"] is True
    assert best["command"][:3] == ["vllm", "serve", "meta-llama/Llama-3.1-8B"]
    assert set(best["objectives"]) == {"output_throughput_per_gpu", "tpot_p99_ms"}


def test_no_two_trials_share_a_device_at_a_time(study: Study) -> None:
    held: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for row in study.rows:
        assert len(row.gpu_ids) == row.gpus
        assert row.started_unix_s is not None
        assert row.ended_unix_s is not None
        for gpu in row.gpu_ids:
            span = (row.started_unix_s, row.ended_unix_s, row.number)
            held.setdefault((row.bundle, gpu), []).append(span)
    assert len(held) == GPUS
    for spans in held.values():
        for earlier, later in pairwise(sorted(spans)):
            assert earlier[1] <= later[0], f"trials {earlier[2]} and {later[2]}"


def test_never_more_than_the_devices_there_are_and_trials_overlap(study: Study) -> None:
    changes = []
    for row in study.rows:
        assert row.started_unix_s is not None
        assert row.ended_unix_s is not None
        changes += [(row.started_unix_s, 1, row.gpus), (row.ended_unix_s, 0, -row.gpus)]
    used = running = most_used = most_running = 0
    for _, starts, gpus in sorted(changes):
        used += gpus
        running += 1 if starts else -1
        most_used, most_running = max(most_used, used), max(most_running, running)
    assert most_used <= GPUS
    assert most_running >= 2


def test_sizes_are_those_of_the_layouts(study: Study) -> None:
    assert {row.gpus for row in study.rows} == {1, 2, 4, 8}
    assert all(row.gpus == row.params["tp"] for row in study.rows)


def test_the_report_tells_busy_and_idle_gpu_seconds(study: Study) -> None:
    text = (study.run / "report.html").read_text()
    assert "busy" in text
    assert "idle" in text
    printed = studies.servetune("report", study.run).stdout
    assert "GPU-seconds busy" in printed
    assert "vllm serve meta-llama/Llama-3.1-8B" in printed
    assert "simulated" in printed


def test_the_exporter_served_the_running_study(study: Study) -> None:
    assert "servetune_study_info" in study.scraped
    assert 'servetune_gpus{state="busy"}' in study.scraped
    final = (study.run / "live/metrics.prom").read_text()
    assert 'servetune_trials_total{state="completed"} 9.0' in final
    assert "servetune_trial_gpus{" not in final, "series of trials that ended"


def test_pandas_reads_the_record(study: Study) -> None:
    trials = pd.read_parquet(study.run / "trials")
    assert len(trials) == 9
    per_gpu = trials["output_throughput"] / trials["gpus"]
    assert per_gpu.sub(trials["output_throughput_per_gpu"]).abs().max() < 1e-6
    assert (trials["achieved_output_ratio"] == 1.0).all()
    run = open_run(study.run).pandas
    stages = run.stages()
    for row in studies.rows(stages):
        before, after = row["counters_before"], row["counters_after"]
        grown = after["generation_tokens_total"] - before["generation_tokens_total"]
        assert grown == row["output_tokens"]
    assert len(run.requests(0)) == 24
    assert set(run.samples(0)["metric"]) >= {"kv_cache_usage_ratio", "requests_running"}
