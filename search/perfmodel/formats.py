"""Number formats of a deployment's weights and KV cache, by what they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.model import BYTES_PER_WEIGHT, ModelFacts
from runtimes.quantization import Quantization
from search.perfmodel.layers import LayerKind

_PLAIN = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_ALWAYS_PLAIN = frozenset({LayerKind.NORM, LayerKind.EMBEDDING, LayerKind.LM_HEAD})


@dataclass(frozen=True, slots=True)
class Formats:
    """Names of formats (`runtimes.quantization.Precision`, or `fp32`).

    Attributes:
        linear: projections of attention and dense MLPs.
        experts: routed and shared experts.
        plain: embedding, lm_head, norms, routers.
        kv_cache: keys and values.
    """

    linear: str
    experts: str
    plain: str
    kv_cache: str

    def of(self, kind: LayerKind) -> str:
        """The format of the weights of a layer."""
        if kind in _ALWAYS_PLAIN:
            return self.plain
        return self.experts if kind is LayerKind.MOE else self.linear


@dataclass(frozen=True, slots=True)
class LayerFormats:
    """Formats given kind by kind; keys and values are in that of the attention they belong to."""

    by_kind: tuple[tuple[LayerKind, str], ...]

    def of(self, kind: LayerKind) -> str:
        """The format of the weights of a layer."""
        return dict(self.by_kind).get(kind, "bf16")

    @property
    def experts(self) -> str:
        return self.of(LayerKind.MOE)

    @property
    def plain(self) -> str:
        return self.of(LayerKind.NORM)

    @property
    def kv_cache(self) -> str:
        return next((name for kind, name in self.by_kind if kind.attends), self.plain)


def formats_of(model: ModelFacts, quantization: Quantization) -> Formats:
    """What a checkpoint is stored in, or else what the engine is asked to make of it."""
    plain = _PLAIN.get(model.dtype, "bf16")
    stored = model.quantization
    if stored is not None:
        packed = stored.weights or plain
        linear, experts = (plain if stored.experts_only else packed), packed
        kv_cache = quantization.kv_cache or stored.kv_cache or plain
    else:
        linear = quantization.gemm or plain
        experts = quantization.moe or linear
        kv_cache = quantization.kv_cache or plain
    return Formats(linear, experts, plain, kv_cache)


def bytes_of(name: str) -> float:
    """Bytes of one element of format `name`, its scales included."""
    return 4.0 if name == "fp32" else BYTES_PER_WEIGHT[name]
