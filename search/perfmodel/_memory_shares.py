"""What one GPU holds of a model: weights, and the KV cache of one sequence.

Sizes only. A GPU of the fullest pipeline stage counts: that with the most layers and, of a first
and a last stage, one embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from runtimes.model import ModelFacts
from runtimes.quantization import Quantization
from search.perfmodel.formats import Formats, bytes_of, formats_of
from search.perfmodel.layers import LayerGroup, LayerKind

_STATE_BYTES = 4.0
"""The state of a gated delta rule stays in fp32 (`mamba_ssm_dtype` of the models' config.json)."""
_CONVOLUTION_BYTES = 2.0
_AT_THE_ENDS = (LayerKind.EMBEDDING, LayerKind.LM_HEAD)


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes on one GPU of the fullest pipeline stage.

    Attributes:
        weights: of everything.
        full: KV cache of one token in the layers that attend to all of a sequence.
        windowed: the same in the layers with a window.
        state: what linear attention keeps of a sequence, however long.
    """

    weights: float
    full: float
    windowed: float
    state: float


def shares_of(
    model: ModelFacts, quantization: Quantization, groups: tuple[LayerGroup, ...], pp: int
) -> Shares:
    """What `groups`, which are all layers of `model`, leave on one GPU over `pp` stages."""
    formats = formats_of(model, quantization)
    sizes = _layer_weights(model, quantization)
    stage = ceil(model.layers / pp) / model.layers
    inner = sum(
        group.count * _held(model, sizes[group.kind], group)
        for group in groups
        if group.kind not in _AT_THE_ENDS
    )
    ends = [
        _held(model, sizes[group.kind], group) for group in groups if group.kind in _AT_THE_ENDS
    ]
    return Shares(
        weights=stage * inner + (sum(ends) if pp == 1 else max(ends, default=0.0)),
        full=stage * _kv(model, formats, groups, LayerKind.ATTENTION, LayerKind.LATENT_ATTENTION),
        windowed=stage * _kv(model, formats, groups, LayerKind.WINDOWED_ATTENTION),
        state=stage * _state(model, groups),
    )


@dataclass(frozen=True, slots=True)
class _LayerWeights:
    """Bytes of one layer, by what its ranks share.

    Attributes:
        split: over all ranks.
        keys: over at most as many ranks as there are KV heads.
        copied: on every rank.
        expert: one routed expert.
        shared: experts that every token passes, over the ranks of one attention group.
    """

    split: float = 0.0
    keys: float = 0.0
    copied: float = 0.0
    expert: float = 0.0
    shared: float = 0.0


@lru_cache(maxsize=512)
def _layer_weights(
    model: ModelFacts, quantization: Quantization
) -> Mapping[LayerKind, _LayerWeights]:
    """Bytes of one layer of each kind, in what the engine holds it in.

    Where the files state their size, it is spread over the layers in proportion.
    """
    formats = formats_of(model, quantization)
    linear, expert, plain = map(bytes_of, (formats.linear, formats.experts, formats.plain))
    if model.checkpoint_bytes:
        scale = model.checkpoint_bytes / _stored_bytes(model)
        linear, expert, plain = linear * scale, expert * scale, plain * scale
    weights, moe = model.weights, max(1, model.moe_layers)
    gated = model.linear.weights(model.hidden) if model.linear is not None else 0
    states = model.linear_layers if model.linear is not None else 0
    attending = max(1, model.layers - states)
    attention = _LayerWeights(
        split=linear * (weights.attention - states * gated) / attending,
        keys=linear * weights.key_value / attending,
        copied=linear * weights.latent / attending,
    )
    embedding = _LayerWeights(split=plain * model.vocab * model.hidden)
    return {
        LayerKind.EMBEDDING: embedding,
        LayerKind.LM_HEAD: _LayerWeights() if model.tied else embedding,
        LayerKind.ATTENTION: attention,
        LayerKind.LATENT_ATTENTION: attention,
        LayerKind.WINDOWED_ATTENTION: attention,
        LayerKind.LINEAR_ATTENTION: _LayerWeights(split=linear * gated),
        LayerKind.FEEDFORWARD: _LayerWeights(
            split=linear * weights.dense / max(1, model.layers - model.moe_layers)
        ),
        LayerKind.MOE: _LayerWeights(
            copied=plain * weights.router / moe,
            expert=expert * weights.experts / moe / max(1, model.experts),
            shared=expert * weights.shared / moe,
        ),
        LayerKind.NORM: _LayerWeights(copied=plain * model.hidden),
    }


@lru_cache(maxsize=512)
def _stored_bytes(model: ModelFacts) -> float:
    """Bytes that the shape alone gives the checkpoint."""
    formats = formats_of(model, Quantization())
    weights = model.weights
    of_experts = weights.experts + weights.shared
    always_plain = weights.embeddings + weights.norms + weights.router
    others = weights.total - of_experts - always_plain
    return (
        bytes_of(formats.plain) * always_plain
        + bytes_of(formats.linear) * others
        + bytes_of(formats.experts) * of_experts
    )


def _held(model: ModelFacts, layer: _LayerWeights, group: LayerGroup) -> float:
    """Bytes of one layer of `group` on one rank; of experts, on the rank with the most."""
    keys = layer.keys / min(group.tp, model.kv_heads)
    held = layer.split / group.tp + keys + layer.copied
    if group.kind is LayerKind.MOE:
        ranks = max(1, group.tp * group.ep // (group.groups * group.cp))
        held += layer.shared / ranks
        held += layer.expert * ceil(model.experts / group.ep) / group.tp
    return held


def _kv(
    model: ModelFacts, formats: Formats, groups: tuple[LayerGroup, ...], *kinds: LayerKind
) -> float:
    """Bytes of one token's keys and values in the layers of `kinds`, on one rank.

    A latent stands on every tensor-parallel rank. Linear layers of unknown shape are counted as
    attention elsewhere; they have no KV cache all the same.
    """
    if model.mla is not None:
        width = float(model.mla.kv_lora + model.mla.rope)
    else:
        width = 2.0 * model.head_dim
    unknown = model.linear_layers if model.linear is None else 0
    holding = 1 - unknown / max(1, model.layers - model.windowed_layers)
    total = 0.0
    for group in groups:
        if group.kind in kinds:
            heads = 1.0 if model.mla is not None else max(1.0, model.kv_heads / group.tp)
            total += group.count * heads * width / group.kv_split
    if LayerKind.WINDOWED_ATTENTION not in kinds:
        total *= holding
    return total * bytes_of(formats.kv_cache)


def _state(model: ModelFacts, groups: tuple[LayerGroup, ...]) -> float:
    """Bytes of one sequence's state and of the last inputs of its convolutions, on one rank."""
    linear = model.linear
    if linear is None:
        return 0.0
    state = linear.value_heads * linear.key_dim * linear.value_dim
    keys, values = linear.key_heads * linear.key_dim, linear.value_heads * linear.value_dim
    inputs = (linear.kernel - 1) * (2 * keys + values)
    one = _STATE_BYTES * state + _CONVOLUTION_BYTES * inputs
    return sum(
        group.count * one / group.tp for group in groups if group.kind is LayerKind.LINEAR_ATTENTION
    )
