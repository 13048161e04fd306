"""What vLLM would refuse, found before a GPU is touched.

Each rule is one function that returns the broken rule with its arithmetic, or None. The rules are
those of vLLM 0.32 and 0.33; the comment on each names the file of vLLM 0.33 that enforces it.
A rule whose facts are unknown says nothing: refusing what would have run costs more than a failed
start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from runtimes.fit import does_not_fit
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig

DEFAULT_MEMORY_FRACTION = 0.92
"""vLLM's own `--gpu-memory-utilization` (config/cache.py)."""

_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_MULTIPLIERS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_HUMAN_INTEGER = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_SHOWN = 4


def broken_rule(
    config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
) -> str | None:
    """The first rule `config` breaks; None when it breaks none that can be checked."""
    args = config.args
    found = tokens_below_seqs(args) or tokens_below_context(args, model)
    if found or model is None:
        return found
    return (
        heads_not_divided(config.layout, model)
        or kv_heads_not_shared(config.layout, model)
        or intermediate_not_divided(config.layout, model)
        or more_stages_than_layers(config.layout, model)
        or context_too_long(config, model)
        or weights_do_not_fit(config, model, accelerator)
    )


def heads_not_divided(layout: ParallelLayout, model: ModelFacts) -> str | None:
    """The tensor degree divides the attention heads (config/model.py)."""
    return _not_divided(layout.tp, model.heads, "attention heads")


def kv_heads_not_shared(layout: ParallelLayout, model: ModelFacts) -> str | None:
    """KV heads are split evenly or copied evenly (model_executor/models/llama.py)."""
    tp, kv_heads = layout.tp, model.kv_heads
    if kv_heads % tp == 0 or tp % kv_heads == 0:
        return None
    valid = (n for n in range(1, 2 * tp + 1) if kv_heads % n == 0 or n % kv_heads == 0)
    return (
        f"tp={tp} neither divides {kv_heads} KV heads nor is a multiple of them; "
        f"valid: {_nearest(tp, valid)}"
    )


def intermediate_not_divided(layout: ParallelLayout, model: ModelFacts) -> str | None:
    """The tensor degree divides the MLP's inner width (model_executor/layers/linear.py)."""
    return _not_divided(layout.tp, model.intermediate, "columns of the MLP (intermediate_size)")


def more_stages_than_layers(layout: ParallelLayout, model: ModelFacts) -> str | None:
    """Every pipeline stage has a layer (distributed/utils.py)."""
    if layout.pp <= model.layers:
        return None
    return f"pp={layout.pp} exceeds {model.layers} layers; valid: 1 to {model.layers}"


def tokens_below_seqs(args: Mapping[str, Json]) -> str | None:
    """Every running sequence gets a token in each step (config/scheduler.py)."""
    tokens = _integer(args.get("max-num-batched-tokens"))
    seqs = _integer(args.get("max-num-seqs"))
    if tokens is None or seqs is None or tokens >= seqs:
        return None
    return (
        f"max-num-batched-tokens={tokens} is below max-num-seqs={seqs}; "
        f"valid: max-num-batched-tokens ≥ {seqs} or max-num-seqs ≤ {tokens}"
    )


def tokens_below_context(args: Mapping[str, Json], model: ModelFacts | None) -> str | None:
    """Without chunked prefill one step holds the longest prompt (config/scheduler.py)."""
    if args.get("enable-chunked-prefill") is not False:
        return None
    tokens = _integer(args.get("max-num-batched-tokens"))
    length = _integer(args.get("max-model-len")) or (model.max_context if model else 0)
    if tokens is None or not length or tokens >= length:
        return None
    return (
        f"max-num-batched-tokens={tokens} is below max-model-len={length} while "
        f"enable-chunked-prefill is false; valid: max-num-batched-tokens ≥ {length}"
    )


def context_too_long(config: EngineConfig, model: ModelFacts) -> str | None:
    """The context stays within the model's positions (config/model.py)."""
    length = _integer(config.args.get("max-model-len"))
    lifted = config.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if lifted or config.args.get("hf-overrides") is not None:
        return None
    if length is None or not model.max_context or length <= model.max_context:
        return None
    return (
        f"max-model-len={length} exceeds the {model.max_context} positions of {model.name}; "
        f"valid: up to {model.max_context}"
    )


def weights_do_not_fit(
    config: EngineConfig, model: ModelFacts, accelerator: Accelerator | None
) -> str | None:
    """The weights leave room for a KV cache within gpu-memory-utilization.

    Skipped when arguments change what the weights weigh on the device.
    """
    changed = ("quantization", "quantization-config", "cpu-offload-gb", "hf-overrides")
    if accelerator is None or any(config.args.get(name) is not None for name in changed):
        return None
    fraction = config.args.get("gpu-memory-utilization")
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        fraction = DEFAULT_MEMORY_FRACTION
    return does_not_fit(model, accelerator, layout=config.layout, memory_fraction=float(fraction))


def _not_divided(tp: int, count: int, what: str) -> str | None:
    if count % tp == 0:
        return None
    valid = _nearest(tp, (n for n in range(1, count + 1) if count % n == 0))
    return f"tp={tp} does not divide {count} {what}; valid: {valid}"


def _nearest(value: int, valid: Iterable[int]) -> str:
    """Up to four of `valid`, those nearest to `value`, ascending."""
    nearest = sorted(valid, key=lambda n: (abs(n - value), n))[:_SHOWN]
    return ", ".join(str(n) for n in sorted(nearest))


def _integer(value: Json) -> int | None:
    """An integer argument as vLLM reads it, `8k` and `8K` included; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value > 0 else None
    match = _HUMAN_INTEGER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    number, suffix = match.groups()
    if suffix in _BINARY_MULTIPLIERS:
        return int(float(number) * _BINARY_MULTIPLIERS[suffix])
    return int(float(number) * _MULTIPLIERS.get(suffix, 1))
