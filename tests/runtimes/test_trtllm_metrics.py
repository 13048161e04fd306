"""What TensorRT-LLM tells of itself, in the form of 1.2 and in that of later versions."""

from __future__ import annotations

import json

import pytest

from runtimes.cache_state import PrefixCache
from runtimes.engines.base import CANONICAL_METRICS, EngineReport
from runtimes.json_types import Json
from tests.runtimes.trtllm_cases import ENGINE

IDLE: dict[str, Json] = {"iter": 1, "numActiveRequests": 0, "numQueuedRequests": 0}
BUSY: dict[str, Json] = {
    "iter": 154,
    "iterLatencyMS": 7.0,
    "numActiveRequests": 3,
    "numQueuedRequests": 2,
    "kvCacheStats": {
        "cacheHitRate": 0.2, "maxNumBlocks": 1000, "usedNumBlocks": 250,
        "reusedBlocks": 4, "missedBlocks": 16, "tokensPerBlock": 32,
    },
}  # fmt: skip


def test_the_newest_iteration_counts() -> None:
    assert ENGINE.read_metrics(json.dumps([IDLE, BUSY])) == {
        "requests_running": ("numActiveRequests", 3.0),
        "requests_waiting": ("numQueuedRequests", 2.0),
        "kv_cache_usage_ratio": ("kvCacheStats.usedNumBlocks", 0.25),
        "prefix_cache_hits_total": ("kvCacheStats.reusedBlocks", 128.0),
        "prefix_cache_queries_total": ("kvCacheStats.missedBlocks", 640.0),
    }


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "[", "[1]", "{}", '[{"numActiveRequests": "many"}]', '[{"kvCacheStats": null}]',
        '[{"kvCacheStats": {"usedNumBlocks": 1, "maxNumBlocks": 0}}]',
        '[{"numActiveRequests": NaN}]', '[{"numQueuedRequests": true}]',
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out(body: str) -> None:
    assert ENGINE.read_metrics(body) == {}


def test_a_single_iteration_is_read_too() -> None:
    assert ENGINE.read_metrics(json.dumps(IDLE)) == {
        "requests_running": ("numActiveRequests", 0.0),
        "requests_waiting": ("numQueuedRequests", 0.0),
    }


def test_later_versions_answer_with_text() -> None:
    page = "\n".join(
        [
            'trtllm_num_requests_running{model_name="m"} 5.0',
            'trtllm_num_requests_waiting{model_name="m"} 1.0',
            'trtllm_kv_cache_utilization{model_name="m"} 0.5',
            'trtllm_generation_tokens_total{model_name="m"} 640.0',
            'trtllm_spec_decode_num_accepted_tokens_total{model_name="m"} 7.0',
        ]
    )
    assert ENGINE.read_metrics(page) == {
        "requests_running": ("trtllm_num_requests_running", 5.0),
        "requests_waiting": ("trtllm_num_requests_waiting", 1.0),
        "kv_cache_usage_ratio": ("trtllm_kv_cache_utilization", 0.5),
        "generation_tokens_total": ("trtllm_generation_tokens_total", 640.0),
        "spec_decode_accepted_tokens_total": ("trtllm_spec_decode_num_accepted_tokens_total", 7.0),
    }


def test_times_in_the_engine_are_read_with_and_without_a_prefix() -> None:
    old = "request_queue_time_seconds_sum 0.5\nrequest_queue_time_seconds_count 10\n"
    new = "".join(
        f"trtllm_request_{phase}_time_seconds_{part} {value}\n"
        for phase in ("queue", "prefill", "decode")
        for part, value in (("sum", 0.5), ("count", 10))
    )
    waits = {"queue_seconds_total": 0.5, "queue_requests_total": 10.0}
    assert {name: value for name, (_, value) in ENGINE.read_metrics(old).items()} == waits
    found = {name: value for name, (_, value) in ENGINE.read_metrics(new).items()}
    assert waits.items() < found.items()
    assert set(found) == {
        f"{phase}_{part}_total"
        for phase in ("queue", "prefill", "decode")
        for part in ("seconds", "requests")
    }


def test_names_are_canonical() -> None:
    assert set(ENGINE.read_metrics(json.dumps([BUSY]))) <= set(CANONICAL_METRICS)


@pytest.mark.parametrize(
    ("log", "version_json", "version"),
    [
        ("", '{"version": "1.2.1"}', "1.2.1"),
        ("[TensorRT-LLM] TensorRT-LLM version: 1.2.1\n", "", "1.2.1"),
        ("[01/02/2026-03:04:05] [TRT-LLM] TensorRT LLM version: 1.3.0rc1\n", "{}", "1.3.0rc1"),
        ("no word of it", "not json", ""),
    ],
)
def test_the_version_is_read(log: str, version_json: str, version: str) -> None:
    report = ENGINE.describe(log=log, metrics_text="[]", version_json=version_json)
    assert report == EngineReport(version)


def test_the_size_of_the_cache_is_recorded() -> None:
    report = ENGINE.describe(log="", metrics_text=json.dumps([BUSY]), version_json="")
    assert report.config == {"maxNumBlocks": "1000", "tokensPerBlock": "32"}
    assert report.prefix_cache == PrefixCache(block_tokens=32, capacity_tokens=32_000)
