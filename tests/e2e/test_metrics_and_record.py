"""What a study exposes while it runs, and that its last figures are those of its record."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from itertools import pairwise

import pandas as pd
import pytest

from orchestrator import Experiment, run
from orchestrator.observer import Observer, RunInfo
from runtimes.json_types import Json
from tests.e2e import studies
from tests.tracking.metric_samples import exposed, fallen
from tracking.layout import RunLayout

_COUNTED = ("_total", "_bucket", "_count", "_sum")
_TTFT, _TPOT = "ttft p99 ≤ 60 ms", "tpot p99 ≤ 4 ms"
_READ_S = 0.2


class _Reader(Observer):
    """Reads what the driver serves again and again, as Prometheus does."""

    def __init__(self) -> None:
        self.readings: list[dict[str, float]] = []
        self.targets: list[list[dict[str, Json]]] = []
        self.shown: list[dict[str, Json]] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def started(self, info: RunInfo) -> None:
        self._thread = threading.Thread(target=self._read, args=(info,))
        self._thread.start()

    def ended(self, reason: str) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _read(self, info: RunInfo) -> None:
        layout = RunLayout(info.folder)
        while not self._over.wait(_READ_S):
            try:
                self.readings.append(exposed(_get(info.metrics_url)))
                self.targets.append(json.loads(_get(info.metrics_url.replace("/metrics", "/sd"))))
            except OSError:
                return  # the driver serves no more
            if layout.live_status.exists():
                self.shown.append(json.loads(layout.live_status.read_text()))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def reader() -> _Reader:
    return _Reader()


@pytest.fixture(scope="module")
def layout(reader: _Reader, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """A study of four trials on two slots, one of which fails under its load."""
    experiment = studies.experiment(
        workload={
            "input_tokens": 32,
            "output_tokens": {"mean": 40, "stddev": 10},
            "load": {"kind": "concurrency", "value": 4, "requests": 120},
        },
        slo={"ttft_ms": {"p90": 30, "p99": 60}, "tpot_ms": {"p99": 4}},
        objectives=[{"maximize": "output_throughput"}, {"minimize": "ttft_p99_ms"}],
    )
    results = tmp_path_factory.mktemp("runs")
    return RunLayout(
        run(Experiment.from_dict(experiment), results=results, observers=[reader]).folder
    )


@pytest.fixture(scope="module")
def last(layout: RunLayout) -> dict[str, float]:
    return exposed(layout.final_metrics.read_text())


@pytest.fixture(scope="module")
def requests(layout: RunLayout) -> pd.DataFrame:
    return pd.read_parquet(layout.requests_dir)


def test_requests_are_those_of_the_record(last: dict[str, float], requests: pd.DataFrame) -> None:
    failed = int(requests["error"].notna().sum())
    assert last['servetune_requests_total{outcome="error"}'] == failed
    assert last['servetune_requests_total{outcome="ok"}'] == len(requests) - failed == 480


def test_limits_met_are_those_of_the_record(last: dict[str, float], requests: pd.DataFrame) -> None:
    for limit, met in (
        (_TTFT, requests["ttft_ms"] <= 60),
        (_TPOT, (requests["tpot_ms"] <= 4) | requests["tpot_ms"].isna()),
    ):
        good = int((met & requests["error"].isna()).sum())
        assert last[f'servetune_request_slo_evaluated_total{{slo="{limit}"}}'] == len(requests)
        assert last[f'servetune_request_slo_met_total{{slo="{limit}"}}'] == good
    assert "ttft p90" not in str(last.keys())


def test_histograms_are_those_of_the_record(last: dict[str, float], requests: pd.DataFrame) -> None:
    for name, column, unit in (
        ("request_time_to_first_token_seconds", "ttft_ms", 1e3),
        ("request_time_per_output_token_seconds", "tpot_ms", 1e3),
        ("request_duration_seconds", "e2e_ms", 1e3),
        ("request_input_tokens", "prompt_tokens", 1),
        ("request_output_tokens", "output_tokens", 1),
    ):
        series = f'servetune_{name}_{{}}{{{{engine="simulated"}}}}'
        values = requests.loc[requests["error"].isna(), column].dropna() / unit
        assert last[series.format("count")] == len(values), name
        assert last[series.format("sum")] == pytest.approx(values.sum()), name
    ttft_s = requests["ttft_ms"] / 1e3
    within = 'servetune_request_time_to_first_token_seconds_bucket{engine="simulated",le="0.06"}'
    assert last[within] == int((ttft_s <= 0.06).sum())
    gaps = 'servetune_request_inter_token_latency_seconds_count{engine="simulated"}'
    assert last[gaps] == sum(len(chunks) - 1 for chunks in requests["chunk_ns"])


def test_trials_flags_and_devices_are_those_of_the_record(
    last: dict[str, float], layout: RunLayout
) -> None:
    trials = pd.read_parquet(layout.trials_dir)
    for state, count in Counter(trials["state"]).items():
        assert last[f'servetune_trials_total{{state="{state}"}}'] == count
    flags = Counter(flag for flags in trials["flags"] for flag in flags)
    exposed_flags = {
        series: value
        for series, value in last.items()
        if series.startswith("servetune_trials_flagged_total") and value
    }
    assert exposed_flags == {
        f'servetune_trials_flagged_total{{flag="{flag}"}}': count for flag, count in flags.items()
    }
    busy_s = trials["gpu_seconds"].sum()
    assert last['servetune_gpu_seconds_total{state="busy"}'] == pytest.approx(busy_s, rel=1e-3)
    assert not [series for series in last if "trial=" in series]


def test_time_in_phases_is_that_of_the_record(last: dict[str, float], layout: RunLayout) -> None:
    trials = pd.read_parquet(layout.trials_dir)
    for phase, column in (
        ("starting", "startup_s"),
        ("warming", "warmup_s"),
        ("measuring", "measure_s"),
        ("stopping", "stop_s"),
    ):
        spent_s = trials[column].dropna()
        assert len(spent_s), phase
        series = f'servetune_trial_duration_seconds_{{}}{{{{phase="{phase}"}}}}'
        assert last[series.format("count")] == len(spent_s), phase
        assert last[series.format("sum")] == pytest.approx(spent_s.sum()), phase


def test_the_engines_counters_are_those_of_the_measured_stages(
    last: dict[str, float], layout: RunLayout
) -> None:
    stages = pd.read_parquet(layout.stages_dir)
    for counter in ("prompt_tokens", "generation_tokens", "preemptions"):
        grown = 0.0
        for before, after in zip(stages["counters_before"], stages["counters_after"], strict=True):
            grown += dict(after)[f"{counter}_total"] - dict(before)[f"{counter}_total"]
        assert last[f'servetune_engine_{counter}_total{{engine="simulated"}}'] == grown, counter
    assert (
        stages["output_tokens"].sum()
        == last['servetune_engine_generation_tokens_total{engine="simulated"}']
    )


def test_no_counter_ever_fell(reader: _Reader, last: dict[str, float]) -> None:
    assert len(reader.readings) > 3
    readings = [*reader.readings, last]
    for before, after in pairwise(readings):
        assert not fallen(before, after, _COUNTED)


def test_running_trials_show_phases_and_live_figures(reader: _Reader) -> None:
    seen = {series for reading in reader.readings for series in reading}
    for name in (
        "trial_phase",
        "trial_gpus",
        "trial_progress_ratio",
        "trial_output_tokens_per_second_per_gpu",
        "trial_requests_in_flight",
        "trial_time_to_first_token_seconds",
        "trial_time_per_output_token_seconds",
        "engine_up",
        "engine_requests_running",
        "engine_requests_waiting",
        "engine_kv_cache_usage_ratio",
        "engine_prefix_cache_hit_ratio",
    ):
        assert any(series.startswith(f"servetune_{name}{{") for series in seen), name
    for reading in reader.readings:
        phases = {
            series.partition('trial="')[2].partition('"')[0]
            for series in reading
            if series.startswith("servetune_trial_phase{")
        }
        by_phase = sum(value for series, value in reading.items() if "_trials_by_phase{" in series)
        assert len(phases) == by_phase == reading["servetune_trials_running"] <= 2


def test_the_targets_were_the_driver_and_the_engines_that_ran(
    reader: _Reader, layout: RunLayout
) -> None:
    jobs = [Counter(_label(one, "job") for one in found) for found in reader.targets]
    assert all(found["servetune"] == 1 for found in jobs)
    assert max(found["servetune-engine"] for found in jobs) == 2
    trials = {
        _label(one, "trial")
        for found in reader.targets
        for one in found
        if _label(one, "job") == "servetune-engine"
    }
    assert trials == {"0", "1", "2", "3"}
    assert json.loads(layout.live_targets.read_text()) == []


def test_the_live_status_names_what_runs_and_no_more(reader: _Reader) -> None:
    assert reader.shown
    keys: set[str] = set()
    for status in reader.shown:
        running = status["running"]
        assert isinstance(running, dict)
        assert len(running) <= 2
        for trial in running.values():
            assert isinstance(trial, dict)
            keys |= trial.keys()
    assert {"phase", "in_flight", "ttft_mean_ms", "tpot_mean_ms", "generation_tokens"} <= keys


def _label(group: dict[str, Json], name: str) -> str:
    labels = group["labels"]
    assert isinstance(labels, dict)
    return str(labels.get(name, ""))
