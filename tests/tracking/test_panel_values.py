"""Key panels show the exact number that made-up series hold; promtool computes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.tracking.dashboard_panels import queries
from tests.tracking.promtool import complaints

_TTFT = "request_time_to_first_token_seconds"


def _expr(dashboard: str, panel: str, letter: str = "A") -> str:
    """The query of one panel with a rate over five minutes."""
    (found,) = (
        query
        for query in queries()
        if (query.dashboard, query.panel, query.ref)
        == (f"servetune-{dashboard}.json", panel, letter)
    )
    return found.substituted("5m")


def _buckets(name: str, **counts: str) -> dict[str, str]:
    return {f'{name}_bucket{{le="{le}",engine="vllm"}}': given for le, given in counts.items()}


_CASES: list[tuple[str, str, str, Mapping[str, str], Mapping[str, float]]] = [
    (
        "overview",
        "GPU time used",
        "A",
        {
            'gpu_seconds_total{state="busy"}': "0+45x20",
            'gpu_seconds_total{state="idle"}': "0+15x20",
        },
        {"{}": 0.75},
    ),
    (
        "overview",
        "Since last progress",
        "A",
        {"last_progress_timestamp_seconds": "0x20"},
        {"{}": 600},
    ),
    (
        "overview",
        "Requests within each limit of the SLO",
        "A",
        {
            'request_slo_met_total{slo="ttft p99"}': "0+9x20",
            'request_slo_evaluated_total{slo="ttft p99"}': "0+10x20",
            'request_slo_met_total{slo="tpot p99"}': "0x20",
            'request_slo_evaluated_total{slo="tpot p99"}': "0x20",
        },
        {'{slo="ttft p99"}': 0.9},
    ),
    (
        "overview",
        "Mean time of a trial's phases",
        "A",
        {
            'trial_duration_seconds_sum{phase="starting"}': "120x20",
            'trial_duration_seconds_count{phase="starting"}': "4x20",
            'trial_duration_seconds_sum{phase="stopping"}': "0x20",
            'trial_duration_seconds_count{phase="stopping"}': "0x20",
        },
        {'{phase="starting"}': 30},
    ),
    (
        "overview",
        "Failures by kind",
        "A",
        {
            'trial_failures_total{kind="crashed"}': "3x20",
            'trial_failures_total{kind="hung"}': "0x20",
        },
        {'{kind="crashed"}': 3},
    ),
    (
        "overview",
        "Error of the predictions, mean",
        "A",
        {
            'prediction_error_ratio_sum{figure="ttft"}': "0.6x20",
            'prediction_error_ratio_count{figure="ttft"}': "4x20",
        },
        {'{figure="ttft"}': 0.15},
    ),
    (
        "overview",
        "TTFT of measured requests",
        "A",
        _buckets(_TTFT, **{"0.1": "0+2x20", "0.5": "0+10x20", "+Inf": "0+10x20"}),
        {'{engine="vllm"}': 0.25},
    ),
    (
        "engine",
        "TTFT distribution",
        "A",
        _buckets(_TTFT, **{"0.1": "0+2x20", "+Inf": "0+10x20"}),
        {'{le="0.1"}': 10, '{le="+Inf"}': 50},
    ),
    (
        "engine",
        "Output tokens per second",
        "A",
        {'engine_generation_tokens_total{engine="vllm"}': "0+6000x20"},
        {'{engine="vllm"}': 100},
    ),
    (
        "engine",
        "Requests waiting",
        "A",
        {
            'engine_requests_waiting{trial="1"}': "5x20",
            'engine_requests_waiting{trial="2"}': "7x20",
            'trial_gpus{trial="1",engine="vllm"}': "2x20",
            'trial_gpus{trial="2",engine="sglang"}': "2x20",
        },
        {"{}": 12},
    ),
    (
        "cluster",
        "GPU-seconds per second",
        "A",
        {'gpu_seconds_total{state="busy"}': "0+360x20"},
        {'{state="busy"}': 6},
    ),
    (
        "cluster",
        "Memory of the nodes in use",
        "A",
        {
            'ray_node_mem_used{job="ray",instance="h:3",ip="10.0.0.1"}': "3e9x20",
            'ray_node_mem_total{job="ray",instance="h:3",ip="10.0.0.1"}': "12e9x20",
        },
        {'{instance="h:3",ip="10.0.0.1",job="ray",run="r-1"}': 0.25},
    ),
    (
        "cluster",
        "GPU utilisation",
        "A",
        {'ray_node_gpus_utilization{job="ray",GpuIndex="0"}': "80x20"},
        {'ray_node_gpus_utilization{GpuIndex="0",instance="h:1",job="ray",run="r-1"}': 80},
    ),
    (
        "trial",
        "Requests in each replica",
        "B",
        {'sglang:num_running_reqs{trial="3"}': "16x20"},
        {'sglang:num_running_reqs{instance="h:1",job="servetune",run="r-1",trial="3"}': 16},
    ),
]


@pytest.mark.parametrize(
    ("dashboard", "panel", "letter", "series", "expected"),
    _CASES,
    ids=[f"{dashboard}: {panel}" for dashboard, panel, *_ in _CASES],
)
def test_a_panel_shows_what_the_series_hold(
    dashboard: str,
    panel: str,
    letter: str,
    series: Mapping[str, str],
    expected: Mapping[str, float],
    tmp_path: Path,
) -> None:
    samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
    test: dict[str, object] = {
        "expr": _expr(dashboard, panel, letter),
        "eval_time": "10m",
        "exp_samples": samples,
    }
    assert not complaints(tmp_path, series, values=[test])


def test_a_wrong_number_is_noticed(tmp_path: Path) -> None:
    test: dict[str, object] = {
        "expr": _expr("cluster", "Queued"),
        "eval_time": "10m",
        "exp_samples": [{"labels": "{}", "value": 4}],
    }
    assert complaints(tmp_path, {"trials_queued": "5x20"}, values=[test])
    assert not complaints(tmp_path, {"trials_queued": "4x20"}, values=[test])
