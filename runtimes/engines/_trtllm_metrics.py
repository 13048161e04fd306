"""What a TensorRT-LLM server tells of itself while it serves.

1.2 answers `/metrics` with a JSON list: one object per iteration since the last time it was asked,
none when it was idle. Later versions answer with Prometheus text there or elsewhere. Fields: the
engine's own documentation of `trtllm-serve`, and its `metrics/collector.py` at 050f80de.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from runtimes.cache_state import PrefixCache
from runtimes.json_types import Json
from runtimes.telemetry.prometheus_text import read_metrics

TEXT_METRICS: Mapping[str, str] = {
    "trtllm_num_requests_running": "requests_running",
    "trtllm_num_requests_waiting": "requests_waiting",
    "trtllm_kv_cache_utilization": "kv_cache_usage_ratio",
    "trtllm_prompt_tokens_total": "prompt_tokens_total",
    "trtllm_generation_tokens_total": "generation_tokens_total",
    "trtllm_request_success_total": "requests_finished_total",
    "request_success_total": "requests_finished_total",
    "trtllm_request_queue_time_seconds_sum": "queue_seconds_total",
    "request_queue_time_seconds_sum": "queue_seconds_total",
    "trtllm_request_queue_time_seconds_count": "queue_requests_total",
    "request_queue_time_seconds_count": "queue_requests_total",
    "trtllm_request_prefill_time_seconds_sum": "prefill_seconds_total",
    "trtllm_request_prefill_time_seconds_count": "prefill_requests_total",
    "trtllm_request_decode_time_seconds_sum": "decode_seconds_total",
    "trtllm_request_decode_time_seconds_count": "decode_requests_total",
    "trtllm_spec_decode_num_draft_tokens_total": "spec_decode_draft_tokens_total",
    "trtllm_spec_decode_num_accepted_tokens_total": "spec_decode_accepted_tokens_total",
}
"""Names of the Prometheus text: prefixed from 1.3 on; before that they are few and have none."""

_GAUGES = {"numActiveRequests": "requests_running", "numQueuedRequests": "requests_waiting"}
_CACHE = "kvCacheStats"


def read(body: str) -> dict[str, tuple[str, float]]:
    """Canonical name → (engine's name, value), from either form; what cannot be read is absent."""
    if not body.lstrip().startswith(("[", "{")):
        return read_metrics(body, TEXT_METRICS)
    last = last_iteration(body)
    found = {
        canonical: (name, value)
        for name, canonical in _GAUGES.items()
        if (value := _number(last.get(name))) is not None
    }
    return {**found, **_cache(last.get(_CACHE))}


def last_iteration(body: str) -> Mapping[str, Json]:
    """The newest object of the JSON form; empty when there is none or it cannot be read."""
    try:
        iterations = json.loads(body)
    except ValueError:
        return {}
    newest = iterations[-1] if isinstance(iterations, list) and iterations else iterations
    return newest if isinstance(newest, dict) else {}


def prefix_cache(stats: Mapping[str, Json]) -> PrefixCache:
    """What `kvCacheStats` says of the size of the cache."""
    block, blocks = _number(stats.get("tokensPerBlock")), _number(stats.get("maxNumBlocks"))
    return PrefixCache(
        block_tokens=int(block) if block else None,
        capacity_tokens=int(block * blocks) if block and blocks else None,
    )


def _cache(stats: Json) -> dict[str, tuple[str, float]]:
    """Share of blocks in use, and how the prefix cache did, in tokens of whole blocks."""
    if not isinstance(stats, dict):
        return {}
    found: dict[str, tuple[str, float]] = {}
    used, pool = _number(stats.get("usedNumBlocks")), _number(stats.get("maxNumBlocks"))
    if used is not None and pool:
        found["kv_cache_usage_ratio"] = (f"{_CACHE}.usedNumBlocks", used / pool)
    reused, missed = _number(stats.get("reusedBlocks")), _number(stats.get("missedBlocks"))
    size = _number(stats.get("tokensPerBlock"))
    if reused is not None and missed is not None and size:
        found["prefix_cache_hits_total"] = (f"{_CACHE}.reusedBlocks", reused * size)
        found["prefix_cache_queries_total"] = (
            f"{_CACHE}.missedBlocks",
            (reused + missed) * size,
        )
    return found


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
