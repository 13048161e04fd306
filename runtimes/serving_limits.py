"""What an engine is told about batches and memory, in words that no engine owns: sizes only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLimits:
    """Limits of one replica; what the engine would use where nothing is set.

    Attributes:
        max_num_seqs: sequences that run at once, per group of ranks with sequences of its own.
        max_num_batched_tokens: tokens of one step, per such group.
        memory_fraction: share of the accelerator's memory (or of what is free) it may use.
        fraction_of: `total`: weights and all else come out of the share, the rest is KV cache;
            `static`: weights and KV cache are the share, all else is outside of it;
            `free`: the share of what is free after loading is KV cache.
        max_model_len: longest sequence; 0 for what the model was made for.
        reserves_longest: True when it only starts with room for one sequence of that length.
        reserves_answers: True when a sequence starts only with room for all of its answer.
        chunked_prefill: True when prompts may be cut to fill a step.
        prefix_caching: True when prompts reuse what earlier ones computed.
        block_size: tokens of one block of the KV cache.
        compiled_graphs: False when kernels are launched one by one.
        kv_cache_bytes: size of the KV cache where it is given outright; 0 when it is not.
        kv_cache_tokens: tokens it holds at most; 0 for as many as there is memory for.
        window_pool: tokens of layers with a window that have room per token of the others; 0
            when no more is kept than the window.
        draft_tokens: tokens drafted per step by speculative decoding; 0 without.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    memory_fraction: float = 0.9
    fraction_of: Literal["total", "static", "free"] = "total"
    max_model_len: int = 0
    reserves_longest: bool = False
    reserves_answers: bool = False
    chunked_prefill: bool = True
    prefix_caching: bool = True
    block_size: int = 16
    compiled_graphs: bool = True
    kv_cache_bytes: int = 0
    kv_cache_tokens: int = 0
    window_pool: float = 0.0
    draft_tokens: int = 0
