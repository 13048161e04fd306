"""What limits vLLM's batches and memory: its arguments, and what it has without them."""

from __future__ import annotations

from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_memory import memory_fraction
from runtimes.engines._vllm_rules_speculation import drafted_tokens
from runtimes.fit import GIB
from runtimes.serving_limits import ServingLimits

_BLOCK = 16
_SPECULATES = frozenset({"speculative-config", "spec-method", "spec-model"})
_NO_GRAPHS = (0, "NONE")
_FOUND_OUT = (-1, "auto")
"""Values of `--max-model-len` that take the longest there is memory for."""


def serving_limits(case: Case) -> ServingLimits:
    """Limits of one data-parallel rank of `vllm serve` (engine/arg_utils.py of 0.33)."""
    chunked = case.args.get("enable-chunked-prefill") is not False
    tokens, seqs = _batch(case, chunked=chunked)
    block = case.count("block-size") or _BLOCK
    blocks = case.count("num-gpu-blocks-override") or 0
    return ServingLimits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        memory_fraction=memory_fraction(case),
        fraction_of="total",
        max_model_len=case.longest,
        reserves_longest=case.args.get("max-model-len") not in _FOUND_OUT,
        chunked_prefill=chunked,
        prefix_caching=case.args.get("enable-prefix-caching") is not False,
        block_size=block,
        compiled_graphs=_graphs(case),
        kv_cache_bytes=case.count("kv-cache-memory-bytes") or 0,
        kv_cache_tokens=blocks * block * max(case.spread.dcp, case.spread.pcp),
        draft_tokens=_drafts(case),
    )


def _batch(case: Case, *, chunked: bool) -> tuple[int, int]:
    """Tokens and sequences of a step (`get_batch_defaults` and what is made of it).

    Whole prompts need a step as long as the longest of them.
    """
    tokens, seqs = case.count("max-num-batched-tokens"), case.count("max-num-seqs")
    usual_tokens, usual_seqs = _usual_batch(case)
    if tokens is None:
        tokens = max(usual_tokens, seqs or 0, 0 if chunked else case.longest)
    return tokens, min(usual_seqs, tokens) if seqs is None else seqs


def _usual_batch(case: Case) -> tuple[int, int]:
    """The server's own batch by the accelerator's memory; a small one where that is unknown."""
    accelerator = case.accelerator
    memory = accelerator.memory_bytes if accelerator is not None else 0
    slow = accelerator is not None and accelerator.name.startswith("A100")
    tokens, seqs = 2048, 256
    if memory >= 160 * GIB and case.since(0, 28):
        tokens, seqs = 16384, 1024
    elif memory >= 70 * GIB and not slow:
        tokens, seqs = 8192, 1024
    doubled = 2 if case.text("performance-mode") == "throughput" else 1
    return tokens * doubled, seqs * doubled


def _graphs(case: Case) -> bool:
    level = case.args.get("optimization-level")
    mode = case.mapping("compilation-config").get("cudagraph_mode")
    return not (case.on("enforce-eager") or level == 0 or mode in _NO_GRAPHS)


def _drafts(case: Case) -> int:
    """Tokens drafted per step; one where only a drafter is named."""
    return drafted_tokens(case) or int(any(case.args.get(name) for name in _SPECULATES))
