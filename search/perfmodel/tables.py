"""Operators of many deployments as tables of numbers: one row per operator and configuration.

A row's figures are those of one rank, and of one of the `layers` equal layers it stands for. Sizes
only: what a step makes of them is in `operators`. Formulas: Megatron-LM (arXiv 1909.08053) for
tensor parallelism, DeepSeek-V2 (arXiv 2405.04434) for latent attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtimes.model import ModelFacts
from search.perfmodel.efficiency import format_index
from search.perfmodel.formats import Formats, LayerFormats, bytes_of
from search.perfmodel.layers import LayerGroup, LayerKind

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ACTIVATION_BYTES = 2.0
"""Activations are 16 bits wide between operators, whatever the weights are in."""
_NORM_PASSES = 4.0
"""A norm with its residual reads two vectors and writes two."""


class Rows(IntEnum):
    """What a matrix is multiplied with: all tokens of the step, or those sampled from."""

    TOKENS = 0
    SAMPLED = 1


class Gemm(NamedTuple):
    """Activations [tokens · scale, inputs] times weights [inputs, outputs]."""

    layers: float
    inputs: float
    outputs: float
    scale: float
    rows: int
    format: int
    element_bytes: float


class Experts(NamedTuple):
    """Routed experts: three projections between `hidden` and `inner`; figures of one rank."""

    layers: float
    hidden: float
    inner: float
    experts: float
    per_token: float
    ranks: float
    scale: float
    format: int
    element_bytes: float


class Attention(NamedTuple):
    """Scores and weighted sums; `cached` elements per token and layer that one rank reads.

    `key_width` + `value_width` per query head are what prefill multiplies, `decode_width` what
    decode does (of latent attention the latent itself, twice). `window` 0 is none. `split` ranks
    share one sequence.
    """

    layers: float
    heads: float
    key_width: float
    value_width: float
    decode_width: float
    cached: float
    window: float
    split: float
    prompt_split: float
    kv_bytes: float
    kv_format: int


class State(NamedTuple):
    """Linear attention: `elements` of state that a sequence reads and writes in each step."""

    layers: float
    elements: float


class Elementwise(NamedTuple):
    """Norms, residuals, activations: bytes per token of the step."""

    layers: float
    token_bytes: float


class Collective(IntEnum):
    """How ranks talk; the bytes of a row are those of the tensor all of them share."""

    ALL_REDUCE = 0
    ALL_GATHER = 1
    REDUCE_SCATTER = 2
    ALL_TO_ALL = 3
    POINT_TO_POINT = 4
    RING = 5


class Exchange(NamedTuple):
    """One collective: bytes per token of the step (of sampled tokens where `rows` says so)."""

    layers: float
    kind: int
    ranks: float
    token_bytes: float
    rows: int


@dataclass(frozen=True, slots=True)
class Operators:
    """Operators of one model under one spread."""

    gemms: tuple[Gemm, ...] = ()
    experts: tuple[Experts, ...] = ()
    attention: tuple[Attention, ...] = ()
    state: tuple[State, ...] = ()
    elementwise: tuple[Elementwise, ...] = ()
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of one kind of several configurations: `config` says whose each one is, [rows]."""

    config: Ints
    values: dict[str, Floats]

    def __getattr__(self, name: str) -> Floats:
        return self.values[name]


def columns(kind: type[NamedTuple], rows: Sequence[Sequence[NamedTuple]]) -> Columns:
    """`rows[i]` are those of configuration i; the columns are the fields of `kind`."""
    counts = np.array([len(each) for each in rows], dtype=np.int64)
    names = kind._fields
    figures = chain.from_iterable(chain.from_iterable(rows))
    table = np.fromiter(figures, dtype=np.float64).reshape(-1, len(names))
    values = {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(names)}
    return Columns(np.repeat(np.arange(len(rows), dtype=np.int64), counts), values)


@lru_cache(maxsize=4096)
def operators_of(
    model: ModelFacts,
    groups: tuple[LayerGroup, ...],
    formats: Formats | LayerFormats,
    pipeline: int = 1,
) -> Operators:
    """All operators of the layers in `groups`; those of one rank, spread as each group says."""
    gemms: list[Gemm] = []
    experts: list[Experts] = []
    attention: list[Attention] = []
    state: list[State] = []
    elementwise: list[Elementwise] = []
    exchanges: list[Exchange] = []
    for group in groups:
        gemms += _gemms(model, group, formats)
        elementwise += _elementwise(model, group)
        exchanges += _exchanges(model, group, formats)
        if group.kind is LayerKind.MOE:
            experts.append(_experts(model, group, formats))
        elif group.kind is LayerKind.LINEAR_ATTENTION:
            state.append(_state(model, group))
        elif group.kind.attends:
            attention.append(_attention(model, group, formats))
    if pipeline > 1:
        handed_on = model.hidden * ACTIVATION_BYTES
        exchanges.append(Exchange(pipeline - 1, Collective.POINT_TO_POINT, 2, handed_on, 0))
    return Operators(
        tuple(gemms), tuple(experts), tuple(attention), tuple(state), tuple(elementwise),
        tuple(exchanges),
    )  # fmt: skip


def _gemms(model: ModelFacts, group: LayerGroup, formats: Formats | LayerFormats) -> list[Gemm]:
    name = formats.of(group.kind)
    sizes = _MATRICES[group.kind](model, group.tp) if group.kind in _MATRICES else []
    scale, rows = group.groups / group.cp, Rows.TOKENS
    if group.kind is LayerKind.MOE:
        attention_tp = max(1, group.tp * group.ep // (group.groups * group.cp))
        router = (model.hidden, model.experts)
        sizes = _mlp(model, model.shared_experts * model.moe_intermediate, attention_tp)
        own = 1 / group.cp
        return [
            _gemm(group.count, router, own, rows, formats.plain),
            *(_gemm(group.count, size, own, rows, name) for size in sizes),
        ]
    if group.kind is LayerKind.LM_HEAD:
        rows, scale = Rows.SAMPLED, 1.0
    return [_gemm(group.count, size, scale, rows, name) for size in sizes]


def _gemm(count: int, size: tuple[float, float], scale: float, rows: Rows, name: str) -> Gemm:
    return Gemm(count, *size, scale, rows, format_index(name), bytes_of(name))


def _mlp(model: ModelFacts, inner: float, tp: int) -> list[tuple[float, float]]:
    if not inner:
        return []
    up = 2 if model.gated_mlp else 1
    return [(model.hidden, up * inner / tp), (inner / tp, model.hidden)]


def _attention_matrices(model: ModelFacts, tp: int) -> list[tuple[float, float]]:
    queries = model.heads * model.head_dim / tp
    keys = max(1.0, model.kv_heads / tp) * model.head_dim
    gates = queries if model.output_gate else 0
    return [(model.hidden, queries + gates + 2 * keys), (queries, model.hidden)]


def _latent_matrices(model: ModelFacts, tp: int) -> list[tuple[float, float]]:
    mla = model.mla
    assert mla is not None
    heads = model.heads / tp
    wide = heads * (mla.nope + mla.rope)
    queries = [(mla.q_lora, wide)] if mla.q_lora else []
    down = mla.q_lora or wide
    return [
        (model.hidden, down + mla.kv_lora + mla.rope),
        *queries,
        (mla.kv_lora, heads * (mla.nope + mla.value)),
        (heads * mla.value, model.hidden),
    ]


def _linear_matrices(model: ModelFacts, tp: int) -> list[tuple[float, float]]:
    linear = model.linear
    assert linear is not None
    keys, values = linear.key_heads * linear.key_dim, linear.value_heads * linear.value_dim
    inwards = 2 * keys + 2 * values + 2 * linear.value_heads
    return [(model.hidden, inwards / tp), (values / tp, model.hidden)]


_MATRICES: dict[LayerKind, Callable[[ModelFacts, int], list[tuple[float, float]]]] = {
    LayerKind.ATTENTION: _attention_matrices,
    LayerKind.WINDOWED_ATTENTION: _attention_matrices,
    LayerKind.LATENT_ATTENTION: _latent_matrices,
    LayerKind.LINEAR_ATTENTION: _linear_matrices,
    LayerKind.FEEDFORWARD: lambda model, tp: _mlp(model, model.intermediate, tp),
    LayerKind.LM_HEAD: lambda model, tp: [(model.hidden, model.vocab / tp)],
}


def _experts(model: ModelFacts, group: LayerGroup, formats: Formats | LayerFormats) -> Experts:
    name = formats.of(LayerKind.MOE)
    return Experts(
        group.count, model.hidden, model.moe_intermediate / group.tp, model.experts,
        model.experts_per_token, group.ep, group.groups, format_index(name), bytes_of(name),
    )  # fmt: skip


def _attention(model: ModelFacts, group: LayerGroup, formats: Formats | LayerFormats) -> Attention:
    heads = model.heads / group.tp
    window = model.sliding_window if group.kind is LayerKind.WINDOWED_ATTENTION else 0
    mla = model.mla
    if mla is None:
        key = value = float(model.head_dim)
        decode = 2.0 * model.head_dim
        cached = 2 * max(1.0, model.kv_heads / group.tp) * model.head_dim
    else:
        key, value = float(mla.nope + mla.rope), float(mla.value)
        decode = 2.0 * mla.kv_lora + mla.rope
        cached = float(mla.kv_lora + mla.rope)
    return Attention(
        group.count, heads, key, value, decode, cached, window, group.kv_split, group.cp,
        bytes_of(formats.kv_cache), format_index(formats.kv_cache),
    )  # fmt: skip


def _state(model: ModelFacts, group: LayerGroup) -> State:
    linear = model.linear
    assert linear is not None
    return State(group.count, linear.value_heads * linear.value_dim * linear.key_dim / group.tp)


def _elementwise(model: ModelFacts, group: LayerGroup) -> list[Elementwise]:
    if group.kind is LayerKind.NORM:
        passes = _NORM_PASSES * model.hidden / group.sp
    elif group.kind is LayerKind.FEEDFORWARD:
        passes = 3.0 * model.intermediate / group.tp * group.groups
    elif group.kind is LayerKind.MOE:
        passes = 3.0 * model.moe_intermediate * model.experts_per_token / group.tp
    elif group.kind is LayerKind.EMBEDDING:
        passes = 2.0 * model.hidden
    else:
        return []
    return [Elementwise(group.count, passes * ACTIVATION_BYTES / group.cp)]


def _exchanges(
    model: ModelFacts, group: LayerGroup, formats: Formats | LayerFormats
) -> list[Exchange]:
    wide = model.hidden * ACTIVATION_BYTES
    if group.kind is LayerKind.NORM:
        return []
    if group.kind is LayerKind.LM_HEAD:
        gathered = model.vocab * ACTIVATION_BYTES
        return _if_many(
            group.tp, Exchange(1, Collective.ALL_GATHER, group.tp, gathered, Rows.SAMPLED)
        )
    if group.kind is LayerKind.MOE:
        return _expert_exchanges(group, wide, model.experts_per_token, formats)
    found = _reductions(group, group.tp, wide * group.groups / group.cp)
    if group.kind in (LayerKind.ATTENTION, LayerKind.LATENT_ATTENTION) and group.cp > 1:
        cached = model.kv_bytes_per_token(bytes_of(formats.kv_cache))
        per_layer = cached / max(1, model.layers - model.linear_layers) / group.tp
        found.append(Exchange(group.count, Collective.RING, group.cp, per_layer, Rows.TOKENS))
    return found


def _reductions(group: LayerGroup, ranks: int, token_bytes: float) -> list[Exchange]:
    """One all-reduce a block, or with sequence parallelism its two halves (arXiv 2205.05198)."""
    kinds = [Collective.ALL_REDUCE]
    if group.sp > 1:
        kinds = [Collective.REDUCE_SCATTER, Collective.ALL_GATHER]
    return [
        each
        for kind in kinds
        for each in _if_many(ranks, Exchange(group.count, kind, ranks, token_bytes, Rows.TOKENS))
    ]


def _expert_exchanges(
    group: LayerGroup, wide: float, per_token: int, formats: Formats | LayerFormats
) -> list[Exchange]:
    """Within one group of ranks a reduction as after an MLP; over several, tokens travel.

    With expert ranks they go to their experts and back, in the experts' format there and in 16
    bits back (DeepEP); otherwise all are gathered and their results scattered.
    """
    ranks = group.tp * group.ep
    if group.groups * group.cp == 1:
        return _reductions(group, ranks, wide)
    if group.ep == 1:
        token_bytes = wide * group.groups
        kinds = (Collective.ALL_GATHER, Collective.REDUCE_SCATTER)
        return [Exchange(group.count, kind, ranks, token_bytes, Rows.TOKENS) for kind in kinds]
    copies = min(per_token, group.ep - 1)
    there = copies * wide * min(1.0, bytes_of(formats.experts) / ACTIVATION_BYTES)
    there = max(there, copies * wide / 2)
    return [
        Exchange(group.count, Collective.ALL_TO_ALL, ranks, there, Rows.TOKENS),
        Exchange(group.count, Collective.ALL_TO_ALL, ranks, copies * wide, Rows.TOKENS),
    ]


def _if_many(ranks: int, exchange: Exchange) -> list[Exchange]:
    return [exchange] if ranks > 1 else []
