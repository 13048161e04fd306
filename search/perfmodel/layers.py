"""The layers of a model as groups of equal ones, each with its degrees of parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from runtimes.model import ModelFacts
from search.perfmodel.spread import Spread


class LayerKind(Enum):
    """What a layer is; the value is the name that requests use."""

    ATTENTION = "attention"
    WINDOWED_ATTENTION = "windowed_attention"
    LATENT_ATTENTION = "latent_attention"
    LINEAR_ATTENTION = "linear_attention"
    FEEDFORWARD = "feedforward"
    MOE = "moe"
    NORM = "norm"
    EMBEDDING = "embedding"
    LM_HEAD = "lm_head"

    @property
    def attends(self) -> bool:
        """True for every kind of attention."""
        return self.value.endswith("attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """Layers of one kind with the same degrees.

    Attributes:
        count: how many there are in the model (over all pipeline stages).
        tp: ranks that share each of them; of experts, the ranks that share each expert.
        cp: ranks among which one prompt is split.
        kv_split: ranks among which the KV cache of one sequence is split.
        sp: ranks over which activations between blocks are split; 1 without.
        ep: ranks with different experts.
        groups: groups of ranks with sequences of their own: what one of these layers is given
            are the tokens of that many.
    """

    kind: LayerKind
    count: int
    tp: int = 1
    cp: int = 1
    sp: int = 1
    ep: int = 1
    groups: int = 1
    kv_split: int = 1


def layers_of(model: ModelFacts) -> dict[LayerKind, int]:
    """Layers of `model` by kind, in the order a token passes them; kinds it has none of left out.

    Norms are counted one by one: two a layer and the last.
    """
    linear = model.linear_layers if model.linear is not None else 0
    windowed = model.windowed_layers
    full = model.layers - linear - windowed
    counts = {
        LayerKind.EMBEDDING: 1,
        LayerKind.ATTENTION: 0 if model.mla else full,
        LayerKind.LATENT_ATTENTION: full if model.mla else 0,
        LayerKind.WINDOWED_ATTENTION: windowed,
        LayerKind.LINEAR_ATTENTION: linear,
        LayerKind.FEEDFORWARD: model.layers - model.moe_layers,
        LayerKind.MOE: model.moe_layers,
        LayerKind.NORM: 2 * model.layers + 1,
        LayerKind.LM_HEAD: 1,
    }
    return {kind: count for kind, count in counts.items() if count}


def spread_layers(model: ModelFacts, spread: Spread) -> tuple[LayerGroup, ...]:
    """The groups of `model` under one spread for all its layers."""
    sp = spread.tp if spread.sequence_parallel else 1
    groups = []
    for kind, count in layers_of(model).items():
        tp, ep, shared = spread.tp, 1, 1
        if kind is LayerKind.MOE:
            tp, ep = spread.expert_tp, spread.expert_ep
            shared = spread.groups
        elif kind is LayerKind.FEEDFORWARD:
            tp, shared = spread.dense_tp, max(1, spread.dense_tp // spread.tp)
        groups.append(
            LayerGroup(
                kind=kind, count=count, tp=tp, cp=spread.pcp, sp=sp, ep=ep, groups=shared,
                kv_split=spread.dcp * spread.pcp,
            )
        )  # fmt: skip
    return tuple(groups)
