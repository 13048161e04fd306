"""What limits TensorRT-LLM's batches and memory: its arguments, and what it has without them.

Defaults are those of `BuildConfig` and `KvCacheConfig` (llmapi/llm_args.py of the 1.2 line).
"""

from __future__ import annotations

from runtimes.engines._trtllm_settings import Settings
from runtimes.model import ModelFacts
from runtimes.serving_limits import ServingLimits

_MEMORY_FRACTION = 0.9
_BATCH = 2048
_TOKENS = 8192
_BLOCK = 32
_EVICTS = "MAX_UTILIZATION"
_DRAFTS = ("speculative_config.max_draft_len", "speculative_config.num_nextn_predict_layers")


def serving_limits(settings: Settings, model: ModelFacts | None) -> ServingLimits:
    """Limits of one server, or of each of its ranks with attention data parallelism."""
    values = settings.values
    longest = settings.integer("max_seq_len") or (model.max_context if model is not None else 0)
    drafts = next(filter(None, map(settings.integer, _DRAFTS)), 0)
    return ServingLimits(
        max_num_seqs=settings.integer("max_batch_size") or _BATCH,
        max_num_batched_tokens=settings.integer("max_num_tokens") or _TOKENS,
        memory_fraction=_memory_fraction(settings),
        fraction_of="free",
        max_model_len=longest,
        reserves_answers=values.get("scheduler_config.capacity_scheduler_policy") != _EVICTS,
        chunked_prefill=values.get("enable_chunked_prefill") is True,
        prefix_caching=values.get("kv_cache_config.enable_block_reuse") is not False,
        block_size=settings.integer("kv_cache_config.tokens_per_block") or _BLOCK,
        kv_cache_tokens=settings.integer("kv_cache_config.max_tokens") or 0,
        draft_tokens=drafts,
    )


def _memory_fraction(settings: Settings) -> float:
    """The share of what is free once the weights are loaded."""
    given = settings.values.get("kv_cache_config.free_gpu_memory_fraction")
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    return _MEMORY_FRACTION
