"""Precision of one deployment, in words that no engine owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Precision: TypeAlias = Literal[
    "bf16", "fp16", "fp8", "fp8_block", "fp8_channel", "fp8_e5m2", "int8", "int4", "mxfp8", "mxfp4",
    "nvfp4",
]  # fmt: skip
"""A number format. `fp8` is e4m3 with one scale per tensor, `fp8_block` with one per block,
`fp8_channel` with one per output channel; `int8` and `int4` are weights only."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LOSSLESS = frozenset({"bf16", "fp16"})
"""Formats that a checkpoint of 16 bits loses nothing by."""

_BITS = {"bf16": 16, "fp16": 16, "int4": 4, "mxfp4": 4, "nvfp4": 4}


@dataclass(frozen=True, slots=True)
class Quantization:
    """What to compute and store in; None leaves it as the checkpoint and the engine have it.

    Attributes:
        gemm: weights of the linear layers, and of the experts unless `moe` says otherwise.
        kv_cache: keys and values.
        attention: the attention's own arithmetic.
        moe: weights of the experts.
    """

    gemm: Precision | None = None
    kv_cache: Precision | None = None
    attention: Precision | None = None
    moe: Precision | None = None

    def __str__(self) -> str:
        """What it sets (`gemm fp8, kv_cache fp8`), or `as the checkpoint`."""
        parts = [f"{name} {value}" for name, value in self.used.items()]
        return ", ".join(parts) or "as the checkpoint"

    @property
    def used(self) -> dict[str, Precision]:
        """What it sets, by name."""
        values = {name: getattr(self, name) for name in PARTS}
        return {name: value for name, value in values.items() if value is not None}


PARTS = ("gemm", "kv_cache", "attention", "moe")
"""What a precision can be given for."""


def bits(precision: str) -> int:
    """Bits per element, scales left out."""
    return _BITS.get(precision, 8)


@dataclass(frozen=True, slots=True)
class CheckpointQuantization:
    """What a checkpoint is already quantised with.

    Attributes:
        method: as both engines name it: `fp8`, `awq`, `gptq`, `gguf`, `compressed-tensors`,
            `modelopt`, `modelopt_fp4`, `mxfp4`, `bitsandbytes`, `quark`, `w4afp8` …
        weights: the format its weights stand in, where one of ours says it.
        kv_cache: the format its KV cache has scales for; None when it has none.
        source: the file that says so.
        experts_only: True when only a mixture's experts are quantised.
    """

    method: str
    weights: Precision | None = None
    kv_cache: Precision | None = None
    source: str = "config.json"
    experts_only: bool = False
