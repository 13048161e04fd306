"""vLLM's rules of batches, lengths, graphs and the transfer of caches."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.engines._vllm_case import Case
from runtimes.engines.base import Refusal
from runtimes.json_types import Json

_POSITIVE = ("max-num-seqs", "max-num-batched-tokens", "stream-interval")


def counts_positive(case: Case) -> Refusal | None:
    """Counts that have no "work it out" are at least 1 (config/scheduler.py)."""
    for name in _POSITIVE:
        value = case.integer(name)
        if value is not None and value < 1:
            return Refusal("counts_positive", f"{name}={value} is below 1; valid: 1 or more")
    return None


def memory_fraction(case: Case) -> Refusal | None:
    """The share of the device's memory is above 0 and at most 1 (config/cache.py)."""
    value = case.args.get("gpu-memory-utilization")
    if isinstance(value, bool) or not isinstance(value, int | float) or 0 < value <= 1:
        return None
    words = f"gpu-memory-utilization={value:g} is not a share; valid: above 0, at most 1"
    return Refusal("memory_fraction", words)


def tokens_for_every_sequence(case: Case) -> Refusal | None:
    """Every running sequence gets a token in each step (config/scheduler.py)."""
    tokens, seqs = case.count("max-num-batched-tokens"), case.count("max-num-seqs")
    if tokens is None or seqs is None or tokens >= seqs:
        return None
    words = (
        f"max-num-batched-tokens={tokens} is below max-num-seqs={seqs}; "
        f"valid: max-num-batched-tokens ≥ {seqs} or max-num-seqs ≤ {tokens}"
    )
    return Refusal("tokens_for_every_sequence", words)


def tokens_for_the_longest(case: Case) -> Refusal | None:
    """Without chunked prefill one step holds the longest prompt (config/scheduler.py)."""
    if case.args.get("enable-chunked-prefill") is not False:
        return None
    tokens, length = case.count("max-num-batched-tokens"), case.longest
    if tokens is None or not length or tokens >= length:
        return None
    words = (
        f"max-num-batched-tokens={tokens} is below max-model-len={length} while "
        f"enable-chunked-prefill is false; valid: max-num-batched-tokens ≥ {length}"
    )
    return Refusal("tokens_for_the_longest", words)


def active_among_running(case: Case) -> Refusal | None:
    """Sequences that decode at once are among those that run (config/scheduler.py)."""
    active, seqs = case.count("max-num-active-seqs"), case.count("max-num-seqs")
    if active is None or seqs is None or active <= seqs:
        return None
    words = f"max-num-active-seqs={active} exceeds max-num-seqs={seqs}; valid: 1 to {seqs}"
    return Refusal("active_among_running", words)


def long_prompts_within_context(case: Case) -> Refusal | None:
    """No prompt is longer than the context (config/scheduler.py)."""
    threshold, length = case.count("long-prefill-token-threshold"), case.longest
    if threshold is None or not length or threshold <= length:
        return None
    words = (
        f"long-prefill-token-threshold={threshold} exceeds max-model-len={length}; "
        f"valid: 0 to {length}"
    )
    return Refusal("long_prompts_within_context", words)


def context_within_positions(case: Case) -> Refusal | None:
    """The context stays within the model's positions (config/model.py)."""
    length, model = case.count("max-model-len"), case.model
    lifted = case.config.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if lifted or model is None or case.args.get("hf-overrides") is not None:
        return None
    if length is None or not model.max_context or length <= model.max_context:
        return None
    words = (
        f"max-model-len={length} exceeds the {model.max_context} positions of {model.name}; "
        f"valid: up to {model.max_context}"
    )
    return Refusal("context_within_positions", words)


def state_blocks_cached(case: Case) -> Refusal | None:
    """Blocks of recurrent state exist for prefix caching only (config/vllm.py)."""
    block = case.count("mamba-block-size")
    if block is None or case.args.get("enable-prefix-caching") is not False:
        return None
    if block == case.longest:
        return None
    words = (
        f"mamba-block-size={block} needs enable-prefix-caching, which is false; "
        "valid: enable-prefix-caching true, or no mamba-block-size"
    )
    return Refusal("state_blocks_cached", words)


def graphs_consistent(case: Case) -> Refusal | None:
    """Sizes of captured graphs end at their stated maximum (config/vllm.py)."""
    compilation = case.mapping("compilation-config")
    sizes = _either(case, compilation, "cudagraph-capture-sizes")
    largest = _either(case, compilation, "max-cudagraph-capture-size")
    if case.on("enforce-eager") or not isinstance(sizes, list) or not isinstance(largest, int):
        return None
    counts = [size for size in sizes if isinstance(size, int)]
    if not counts or max(counts) == largest:
        return None
    words = (
        f"max-cudagraph-capture-size={largest} is not the largest of cudagraph-capture-sizes "
        f"({max(counts)}); valid: {max(counts)}"
    )
    return Refusal("graphs_consistent", words)


def scheduling_ahead(case: Case) -> Refusal | None:
    """The V1 runner does not schedule ahead of a pipeline (config/vllm.py)."""
    if not case.on("async-scheduling") or case.spread.pp == 1:
        return None
    if case.config.env.get("VLLM_USE_V2_MODEL_RUNNER") != "0":
        return None
    words = (
        f"async-scheduling with pp={case.spread.pp} needs the V2 model runner, which "
        "VLLM_USE_V2_MODEL_RUNNER=0 turns off; valid: async-scheduling false"
    )
    return Refusal("scheduling_ahead", words)


def transfer_has_a_role(case: Case) -> Refusal | None:
    """A connector says whether it sends, receives or both (config/kv_transfer.py)."""
    transfer = case.mapping("kv-transfer-config")
    if transfer.get("kv_connector") is None or transfer.get("kv_role") is not None:
        return None
    words = (
        f"kv-transfer-config with kv_connector={transfer['kv_connector']} lacks kv_role; "
        "valid: kv_producer, kv_consumer, kv_both"
    )
    return Refusal("transfer_has_a_role", words)


def transfer_over_contexts(case: Case) -> Refusal | None:
    """NIXL moves caches that are whole or split over all ranks, by MLA (config/vllm.py)."""
    if case.mapping("kv-transfer-config").get("kv_connector") != "NixlConnector":
        return None
    if "expandable_segments:True" in case.config.env.get("PYTORCH_CUDA_ALLOC_CONF", ""):
        words = (
            "kv_connector=NixlConnector does not go with expandable_segments:True in "
            "PYTORCH_CUDA_ALLOC_CONF; valid: without it"
        )
        return Refusal("transfer_over_contexts", words)
    dcp, whole = case.spread.dcp, max(case.spread.tp, case.spread.pcp)
    if dcp == 1:
        return None
    if case.model is not None and case.model.mla is None:
        words = f"kv_connector=NixlConnector with dcp={dcp} needs an MLA model; valid: dcp=1"
        return Refusal("transfer_over_contexts", words)
    if dcp == whole:
        return None
    words = f"kv_connector=NixlConnector with dcp={dcp}; valid: 1, {whole}"
    return Refusal("transfer_over_contexts", words)


def _either(case: Case, compilation: Mapping[str, Json], name: str) -> Json:
    """An argument that may also stand in `compilation-config`."""
    return case.args.get(name, compilation.get(name.replace("-", "_")))


RULES = (
    counts_positive,
    memory_fraction,
    tokens_for_every_sequence,
    tokens_for_the_longest,
    active_among_running,
    long_prompts_within_context,
    context_within_positions,
    state_blocks_cached,
    graphs_consistent,
    scheduling_ahead,
    transfer_has_a_role,
    transfer_over_contexts,
)
