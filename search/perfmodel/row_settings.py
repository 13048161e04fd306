"""What the publishers of measurements told their engines: limits, lengths, numbers of requests.

Sources: TensorRT-LLM docs/source/performance/perf-overview.md (0.17 to 1.2) and
tensorrt_llm/bench/build/tuning.py; SemiAnalysis InferenceX benchmarks/*.sh of 2025-10 to 2026-04.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil

from runtimes.engines.base import create_engine
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig
from runtimes.quantization import bits
from runtimes.serving_limits import ServingLimits
from search.perfmodel.question import Configuration

SWEEP_LENGTH_SHARE = 0.9
"""InferenceX draws lengths evenly between 0.8 and 1 times the nominal one."""

_TABLE_REQUESTS = {
    (128, 128): 30_000, (128, 2048): 3000, (128, 4096): 1500, (1000, 2000): 1500,
    (2048, 128): 3000, (2048, 2048): 1500, (5000, 500): 1500, (1000, 1000): 3000,
    (500, 2000): 3000, (20_000, 2000): 1000,
}  # fmt: skip
"""Requests of one run of TensorRT-LLM's overview, by lengths in and out."""
_UNLISTED_REQUESTS = 1000
"""For the lengths that the overview gives no number for: the fewest of those it lists."""


def table_requests(input_tokens: int, output_tokens: int) -> int:
    """Requests that TensorRT-LLM's overview sends at once for these lengths."""
    return _TABLE_REQUESTS.get((input_tokens, output_tokens), _UNLISTED_REQUESTS)


@lru_cache(maxsize=4096)
def default_limits(engine: str, model: ModelFacts, accelerator: Accelerator) -> ServingLimits:
    """What `engine` does where it is told nothing."""
    config = EngineConfig(engine=engine, model=model.name)
    limits = create_engine(engine).serving_limits(config, model, accelerator)
    # Whoever measures tells an engine how long its own requests are, and no longer ones need room.
    return replace(limits, reserves_longest=False)


def room_for(base: ServingLimits, tokens: float, sequences: int) -> ServingLimits:
    """Limits with which `sequences` of `tokens` each run at once in a group, and no longer ones.

    Publishers set both: engines' own longest sequence is the model's, and a default batch below
    the load would measure the default.
    """
    return replace(base, max_model_len=ceil(tokens), max_num_seqs=max(base.max_num_seqs, sequences))


def sweep_limits(
    base: ServingLimits, configuration: Configuration, input_tokens: int, sequences: int
) -> ServingLimits:
    """Limits of an InferenceX run: prompts in one piece, no prefix cache, memory as it fits.

    Args:
        base: the engine's defaults, with room for the load.
        configuration: the deployment, whatever its limits.
        input_tokens: nominal length of a prompt.
        sequences: requests at once per group.
    """
    limits = replace(base, prefix_caching=False)
    engine, accelerator = configuration.engine, configuration.accelerator
    if engine == "tensorrt_llm":
        tokens = max(8192, 64 * ceil((sequences + input_tokens + 64) / 64))
        return replace(limits, max_num_batched_tokens=tokens, memory_fraction=0.8)
    if engine == "sglang":
        tight = is_tight(configuration)
        tokens = 196_608 if accelerator.vendor == "amd" else 8192 if tight else 32_768
        return replace(
            limits, max_num_batched_tokens=tokens, memory_fraction=0.95 if tight else 0.82
        )
    return limits


def is_tight(configuration: Configuration) -> bool:
    """True when the weights take more than three quarters of the memory of their ranks."""
    spread, model = configuration.spread, configuration.model
    linear, expert = model.bytes_per_weight(configuration.quantization)
    weights = model.weights
    routed = expert * weights.experts / (spread.expert_tp * spread.expert_ep)
    others = linear * (weights.total - weights.experts) / spread.tp
    return (routed + others) / spread.pp > 0.75 * configuration.accelerator.memory_bytes


def bench_limits(
    base: ServingLimits, configuration: Configuration, input_tokens: int, output_tokens: int
) -> ServingLimits:
    """Limits that `trtllm-bench` works out for its engine from the lengths of a dataset.

    As many sequences as 95 % of all memory less the weights hold, at most 4096 over all
    pipeline stages; tokens per step in the proportion of the lengths, at most 32768. Both are
    rounded up in the coarse steps of its source.
    """
    spread, accelerator = configuration.spread, configuration.accelerator
    model = configuration.model
    gpus = spread.tp * spread.groups * spread.pp
    element = bits(configuration.quantization.kv_cache or "bf16") / 8
    heads = max(spread.tp * spread.groups, model.kv_heads)
    token = 2 * (model.layers - model.linear_layers) * heads * model.head_dim * element
    if model.mla is not None:
        token = model.kv_bytes_per_token(element) * spread.tp * spread.groups
    stored = model.quantization.weights if model.quantization else None
    weights = model.parameters * bits(stored or "bf16") / 8
    room = (accelerator.memory_bytes * gpus - weights) * 0.95 / token
    fits = max(1.0, room / (input_tokens + output_tokens))
    sequences = min(fits, 4096)
    tokens = min(sequences * (1 + input_tokens / output_tokens), 32_768)
    return replace(
        base,
        max_model_len=input_tokens + output_tokens,
        max_num_seqs=_coarse(sequences, ((256, 32), (1024, 128)), last=256, least=64),
        max_num_batched_tokens=_coarse(tokens, ((4096, 256), (8192, 512)), last=1024, least=2048),
        memory_fraction=0.95,
        chunked_prefill=True,
        prefix_caching=False,
    )


def _coarse(value: float, steps: tuple[tuple[int, int], ...], *, last: int, least: int) -> int:
    """`value` rounded up to the step that holds below the first bound above it."""
    for bound, step in steps:
        if value < bound:
            return max(least, step * ceil(value / step))
    return max(least, last * ceil(value / last))
