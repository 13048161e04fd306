"""One phase of some or all layers of a model, without an engine's scheduler around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import PhaseCost
from search.perfmodel.communication import Fabric
from search.perfmodel.efficiency import Efficiencies, curves_of
from search.perfmodel.fit import generic_overheads
from search.perfmodel.formats import LayerFormats, bytes_of
from search.perfmodel.layers import LayerGroup, LayerKind
from search.perfmodel.operators import Step, StepModel
from search.perfmodel.overheads import Scales
from search.perfmodel.tables import ACTIVATION_BYTES, Floats, Operators, operators_of

_EACH_DECODER_LAYER = (LayerKind.FEEDFORWARD, LayerKind.MOE)


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What one phase takes.

    Attributes:
        cost: seconds by what they go to.
        flops: over all chips.
        flops_per_chip: on one chip that has a share of every layer.
        weights_bytes, activation_bytes, kv_cache_bytes: over all chips; copies count.
        weights_bytes_per_chip, activation_bytes_per_chip, kv_cache_bytes_per_chip: on the
            fullest chip. Activations are those of the widest layer, since layers run in turn.
        chips: chips of the layer with the most.
    """

    cost: PhaseCost
    flops: float
    flops_per_chip: float
    weights_bytes: float
    activation_bytes: float
    kv_cache_bytes: float
    weights_bytes_per_chip: float
    activation_bytes_per_chip: float
    kv_cache_bytes_per_chip: float
    chips: int

    @property
    def communication_s(self) -> float:
        return self.cost.communication_s


def phase_cost(
    model: ModelFacts,
    accelerator: Accelerator,
    groups: Sequence[LayerGroup],
    *,
    quantization: Mapping[LayerKind, str],
    phase: Literal["prefill", "decode"],
    batch: int,
    new_tokens: int,
    context_tokens: int,
    curves: Sequence[NodeCurves] = (),
) -> PhaseReport:
    """One pass of `batch` sequences through the layers in `groups`.

    Args:
        model: whose layers they are.
        accelerator: one chip.
        groups: any of its layers, each with its degrees.
        quantization: number format of the weights by kind of layer, and of an attention layer's
            keys and values.
        phase: `prefill` computes `new_tokens` of each prompt, `decode` as many of each answer.
        batch: sequences.
        new_tokens: tokens computed of each.
        context_tokens: tokens of each that are computed already.
        curves: a node's own measurements.
    """
    formats = LayerFormats(tuple(quantization.items()))
    apart = [operators_of(model, (group,), formats) for group in groups]
    parts = [
        _Part.of(model, group, formats, operators, batch, new_tokens, context_tokens)
        for group, operators in zip(groups, apart, strict=True)
    ]
    # All of them together come first, then each group by itself for its share of the FLOPs.
    together = operators_of(model, tuple(groups), formats)
    decoders = sum(group.count for group in groups if group.kind in _EACH_DECODER_LAYER)
    layers = np.zeros(1 + len(groups))
    layers[0] = decoders
    efficiencies, fabric = _rates(accelerator, curves)
    costs = StepModel(
        [together, *apart],
        np.zeros(len(layers), dtype=np.int64),
        efficiencies=efficiencies,
        fabric=fabric,
        scales=Scales.of([generic_overheads()] * len(layers)),
        layers=layers,
    ).costs(_step(phase, len(layers), batch, new_tokens, context_tokens))
    chips = np.array([part.chips for part in parts])
    return PhaseReport(
        cost=PhaseCost(
            float(costs.compute[0]),
            float(costs.memory[0]),
            float(costs.communication[0]),
            float(costs.overhead[0]),
        ),
        flops=float(np.sum(costs.flops[1:] * chips)),
        flops_per_chip=float(costs.flops[0]),
        weights_bytes=sum(part.weights * part.chips for part in parts),
        activation_bytes=max((part.activations * part.chips for part in parts), default=0.0),
        kv_cache_bytes=sum(part.kv_cache * part.chips for part in parts),
        weights_bytes_per_chip=sum(part.weights for part in parts),
        activation_bytes_per_chip=max((part.activations for part in parts), default=0.0),
        kv_cache_bytes_per_chip=sum(part.kv_cache for part in parts),
        chips=max((part.chips for part in parts), default=1),
    )


def _rates(accelerator: Accelerator, curves: Sequence[NodeCurves]) -> tuple[Efficiencies, Fabric]:
    if curves_of(accelerator, curves) is None:
        return _built_in_rates(accelerator)
    return Efficiencies([accelerator], curves), Fabric([accelerator], curves)


@lru_cache(maxsize=64)
def _built_in_rates(accelerator: Accelerator) -> tuple[Efficiencies, Fabric]:
    return Efficiencies([accelerator]), Fabric([accelerator])


def _step(phase: str, copies: int, batch: int, new_tokens: int, context_tokens: int) -> Step:
    def number(value: float) -> Floats:
        return np.full(copies, float(value))

    zero, new, before = number(0), number(new_tokens), number(context_tokens)
    if phase == "prefill":
        tokens = number(batch * new_tokens)
        return Step(zero, number(1), before, tokens, new, before, number(batch))
    return Step(number(batch), new, number(context_tokens + new_tokens), zero, zero, zero, zero)


def _chips(group: LayerGroup) -> int:
    return max(group.tp * group.ep * group.cp, group.sp)


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes that one group of layers has on one of its chips."""

    weights: float
    activations: float
    kv_cache: float
    chips: int

    @classmethod
    def of(
        cls,
        model: ModelFacts,
        group: LayerGroup,
        formats: LayerFormats,
        operators: Operators,
        batch: int,
        new_tokens: int,
        context_tokens: int,
    ) -> _Part:
        tokens = batch * new_tokens / group.cp
        widest = max((gemm.inputs + gemm.outputs for gemm in operators.gemms), default=0.0)
        widest = max(widest, 2.0 * model.hidden / group.sp)
        length = context_tokens + new_tokens
        return cls(
            weights=_weights(model, group, formats, operators),
            activations=tokens * widest * ACTIVATION_BYTES,
            kv_cache=batch * _cached(operators, length),
            chips=_chips(group),
        )


def _weights(
    model: ModelFacts, group: LayerGroup, formats: LayerFormats, operators: Operators
) -> float:
    """Bytes of the weights of `group` on one chip; tied embeddings count once."""
    element = bytes_of(formats.of(group.kind))
    if group.kind is LayerKind.NORM:
        return group.count * model.hidden * element
    if group.kind is LayerKind.EMBEDDING:
        return group.count * model.vocab * model.hidden / group.tp * element
    if group.kind is LayerKind.LM_HEAD and model.tied:
        return 0.0
    matrices = sum(
        gemm.layers * gemm.inputs * gemm.outputs * gemm.element_bytes for gemm in operators.gemms
    )
    experts = sum(
        each.layers * each.experts / each.ranks * 3 * each.hidden * each.inner * each.element_bytes
        for each in operators.experts
    )
    return matrices + experts


def _cached(operators: Operators, length: int) -> float:
    """Bytes of the KV cache and the states of one sequence of `length` tokens, on one chip."""
    cached = sum(
        each.layers
        * each.cached
        * (min(length, each.window) if each.window else length)
        / each.split
        * each.kv_bytes
        for each in operators.attention
    )
    return cached + sum(each.layers * each.elements * ACTIVATION_BYTES for each in operators.state)
