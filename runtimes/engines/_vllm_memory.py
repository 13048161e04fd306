"""Whether the weights leave room on the device, by what vLLM makes of them while loading."""

from __future__ import annotations

from dataclasses import replace

from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_precision import (
    EXPERTS,
    KV_CACHE,
    KV_CACHES,
    LINEAR,
    QUANTIZATION,
    QUANTIZATION_CONFIG,
)
from runtimes.engines.base import Refusal
from runtimes.fit import does_not_fit
from runtimes.parallel import ParallelLayout
from runtimes.quantization import LOSSLESS, Precision, Quantization

DEFAULT_MEMORY_FRACTION = 0.92
"""vLLM's own `--gpu-memory-utilization` since 0.22 (config/cache.py)."""
EARLIER_MEMORY_FRACTION = 0.9
_LINEAR: dict[str, Precision] = {name: precision for precision, name in LINEAR.items()}
_EXPERTS: dict[str, Precision] = {name: precision for precision, name in EXPERTS.items()}


def weights_fit(case: Case) -> Refusal | None:
    """The weights leave room for a KV cache within gpu-memory-utilization (v1/worker).

    Skipped when arguments change what the weights weigh in a way that is not known here.
    """
    if case.accelerator is None or case.model is None:
        return None
    if case.args.get("cpu-offload-gb") or case.args.get("hf-overrides") is not None:
        return None
    held = _held(case)
    if held is None:
        return None
    spread = case.spread
    whole = spread.expert_parallel and case.model.experts > 0
    words = does_not_fit(
        case.model,
        case.accelerator,
        layout=ParallelLayout(tp=spread.tp, pp=spread.pp, ep=spread.span if whole else 1),
        memory_fraction=memory_fraction(case),
        quantization=held,
        expert_ranks=spread.span,
    )
    return None if words is None else Refusal("weights_fit", words)


def memory_fraction(case: Case) -> float:
    """The share of the accelerator's memory that the engine is allowed."""
    fraction = case.args.get("gpu-memory-utilization")
    if isinstance(fraction, int | float) and not isinstance(fraction, bool):
        return float(fraction)
    return DEFAULT_MEMORY_FRACTION if case.since(0, 22) else EARLIER_MEMORY_FRACTION


def precision_of(case: Case) -> Quantization:
    """What the command computes and stores in, whether layout and precision or arguments say so."""
    asked = case.config.quantization
    held = _held(case)
    weights = asked if held is None else held
    gemm = asked.gemm if asked.gemm in LOSSLESS and weights.gemm is None else weights.gemm
    cache = next((own for own, name in KV_CACHES.items() if name == case.text(KV_CACHE)), None)
    return Quantization(gemm, cache, asked.attention, weights.moe)


def _held(case: Case) -> Quantization | None:
    """What the weights are held in; None when it cannot be told."""
    method, config = case.text(QUANTIZATION), case.mapping(QUANTIZATION_CONFIG)
    checkpoint = case.model is not None and case.model.quantization is not None
    if method is None and not config:
        return Quantization()
    if checkpoint:
        return Quantization() if not config else None
    if method in _EXPERTS:
        held = Quantization(gemm=_LINEAR.get(method), moe=_EXPERTS[method])
    elif method == "fp8":
        held = Quantization(gemm="fp8")
    elif method in (None, "online"):
        held = Quantization()
    else:
        return None
    linear, experts = config.get("linear"), config.get("moe")
    if any(part not in (None, *EXPERTS.values()) for part in (linear, experts)):
        return None
    if config.get("targets") or config.get("ignore"):
        return None
    if isinstance(linear, str):
        held = replace(held, gemm=_LINEAR[linear]) if linear in _LINEAR else held
    return replace(held, moe=_EXPERTS[experts]) if isinstance(experts, str) else held
