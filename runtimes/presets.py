"""Named layouts and precisions, as data: what each means for each engine, or why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization

Share: TypeAlias = Literal["all", "half"]
"""A part of the GPUs of one node."""

Degrees: TypeAlias = Mapping[str, int | Share]
"""Degrees by name; those left out are not used."""


@dataclass(frozen=True, slots=True)
class LayoutPreset:
    """A layout by what it is for.

    Attributes:
        purpose: in a sentence.
        degrees: for every engine that `engines` does not name.
        engines: by engine, its own spelling, or in words why it has none.
    """

    purpose: str
    degrees: Degrees
    engines: Mapping[str, Degrees | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrecisionPreset:
    """A precision by what it is for; attributes as in `LayoutPreset`."""

    purpose: str
    quantization: Quantization
    engines: Mapping[str, Quantization | str] = field(default_factory=dict)


_NOT_OURS: Mapping[str, str] = {
    "external": "the server runs already, so its layout and precision are what they are"
}

LAYOUT_PRESETS: Mapping[str, LayoutPreset] = {
    "single-gpu": LayoutPreset(
        "The whole model on one GPU: least communication, for models that fit.",
        {"tp": 1},
        _NOT_OURS,
    ),
    "high-throughput": LayoutPreset(
        "As many replicas as the node has GPUs: most tokens a second of a model that fits one.",
        {"dp": "all"},
        _NOT_OURS,
    ),
    "balanced": LayoutPreset(
        "Two replicas, each over half of the node: between latency and throughput.",
        {"tp": "half", "dp": 2},
        _NOT_OURS,
    ),
    "large-model-tp": LayoutPreset(
        "Every layer over all GPUs of the node: lowest latency of a large model.",
        {"tp": "all"},
        _NOT_OURS,
    ),
    "large-model-tp-pp": LayoutPreset(
        "Two pipeline stages, each over half of the node: less communication per layer.",
        {"tp": "half", "pp": 2},
        _NOT_OURS,
    ),
    "moe-optimized": LayoutPreset(
        "Experts over all GPUs of the node, each GPU attending to requests of its own.",
        {"tp": "all", "attention_dp": "all", "ep": "all"},
        # vLLM attends by data-parallel ranks, over all of which it spreads the experts.
        {"vllm": {"dp": "all", "ep": "all"}, **_NOT_OURS},
    ),
    "long-context": LayoutPreset(
        "The KV cache of one sequence over several GPUs: contexts that one cannot hold.",
        {"tp": "all", "dcp": 2},
        # TensorRT-LLM splits the sequence itself, over GPUs beyond the tensor-parallel ones.
        {"tensorrt_llm": {"tp": "half", "cp": 2}, **_NOT_OURS},
    ),
}
"""Layouts by name."""

_OFFLINE = "TensorRT-LLM takes weights that were quantised beforehand; name such a checkpoint"

PRECISION_PRESETS: Mapping[str, PrecisionPreset] = {
    "default": PrecisionPreset("As the checkpoint and the engine have it.", Quantization()),
    "bf16-stable": PrecisionPreset(
        "Weights of 16 bits with the exponent of 32: what others are compared with.",
        Quantization(gemm="bf16"),
        _NOT_OURS,
    ),
    "kv-cache-fp8": PrecisionPreset(
        "Keys and values in 8 bits: twice the tokens in the same memory.",
        Quantization(kv_cache="fp8"),
        _NOT_OURS,
    ),
    "dynamic-fp8": PrecisionPreset(
        "Weights in 8 bits, quantised as the engine loads them.",
        Quantization(gemm="fp8"),
        {"tensorrt_llm": _OFFLINE, **_NOT_OURS},
    ),
    "aggressive-moe": PrecisionPreset(
        "Experts in 4 bits and everything else in 8.",
        Quantization(gemm="fp8", moe="nvfp4"),
        {
            "sglang": "SGLang takes experts in 4 bits beside weights in 8 (w4afp8) only from a "
            "checkpoint that was quantised so beforehand",
            "tensorrt_llm": _OFFLINE,
            **_NOT_OURS,
        },
    ),
}
"""Precisions by name."""


def layout_of(preset: str, engine: str, node_gpus: int) -> ParallelLayout | str:
    """What the layout `preset` is for `engine` on nodes of `node_gpus` GPUs; in words, why none.

    Raises:
        KeyError: there is no such preset.
    """
    found = LAYOUT_PRESETS[preset]
    degrees = found.engines.get(engine, found.degrees)
    if isinstance(degrees, str):
        return degrees
    if node_gpus < 2 and any(degree == 2 or degree == "half" for degree in degrees.values()):
        return f"it takes at least 2 GPUs of a node, and there is {node_gpus}"
    shares = {"all": node_gpus, "half": node_gpus // 2}
    return ParallelLayout(
        **{name: shares.get(str(degree)) or int(degree) for name, degree in degrees.items()}
    )


def precision_of(preset: str, engine: str) -> Quantization | str:
    """What the precision `preset` is for `engine`; in words, why none.

    Raises:
        KeyError: there is no such preset.
    """
    found = PRECISION_PRESETS[preset]
    return found.engines.get(engine, found.quantization)
