"""Time of one step of many deployments: the roofline of each operator, summed by configuration.

An operator takes the longer of its arithmetic and its memory traffic, each at the rate that such
kernels were measured to reach (Williams et al., Roofline, doi 10.1145/1498765.1498785). All
arrays are [configurations] unless said otherwise; times are seconds, tokens are those of one
group of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.perfmodel.communication import Fabric
from search.perfmodel.efficiency import Efficiencies, format_index
from search.perfmodel.overheads import Scales
from search.perfmodel.tables import (
    ACTIVATION_BYTES,
    Attention,
    Collective,
    Columns,
    Elementwise,
    Exchange,
    Experts,
    Floats,
    Gemm,
    Ints,
    Operators,
    Rows,
    State,
    columns,
)

_DECODE_MFU = 0.5
"""Of decode attention where arithmetic bounds it: many heads on one latent, drafts."""
_EXPERT_MBU = 0.75
"""Of grouped GEMMs at few tokens: they fill the device with many experts, whatever the format."""
_INT4_EXPERT_MBU = 0.4
_EXPERT_TOKENS = 96.0
"""Tokens of one expert at which its GEMMs reach half of their plateau: a tile of 64 rows."""
_EXPERT_WIDTH = 256.0
"""Inner width of an expert's share on one rank at which its GEMMs reach half of their plateau."""
_PLATEAU_TOKENS = 4096.0


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed at once.

    Attributes:
        decodes: sequences that get their next token.
        decode_tokens: tokens computed for each of them: 1, and the drafts to check.
        context: mean tokens that each of them attends to.
        prompt_tokens: tokens of prompts computed beside them.
        prompt_piece: tokens of one prompt among these (its chunk).
        prompt_before: mean tokens of those prompts that are computed already.
        prompts_finished: prompts whose last token is among them.
    """

    decodes: Floats
    decode_tokens: Floats
    context: Floats
    prompt_tokens: Floats
    prompt_piece: Floats
    prompt_before: Floats
    prompts_finished: Floats

    @property
    def tokens(self) -> Floats:
        return self.decodes * self.decode_tokens + self.prompt_tokens

    @property
    def sampled(self) -> Floats:
        return self.decodes * self.decode_tokens + self.prompts_finished


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one step by what they go to; `flops` and `bytes` are those of one rank."""

    compute: Floats
    memory: Floats
    communication: Floats
    overhead: Floats
    flops: Floats

    @property
    def seconds(self) -> Floats:
        total: Floats = self.compute + self.memory + self.communication + self.overhead
        return total


@dataclass(frozen=True, slots=True)
class _Priced:
    """Operators of one kind, [rows]; `seconds` and `flops` over all layers of a row.

    `multiplies` is True where an ideal machine would need longer for the arithmetic than for the
    traffic: efficiencies at few tokens are those of reading, whichever way they were measured.
    """

    config: Ints
    seconds: Floats
    multiplies: npt.NDArray[np.bool_]
    flops: Floats


class StepModel:
    """Prices steps of a fixed list of configurations.

    Args:
        operators: of each configuration.
        accelerator: of each, as an index into what `efficiencies` and `fabric` were made with.
        scales: factors and overheads of each one's engine, [configurations].
        layers: decoder layers of each.
    """

    def __init__(
        self,
        operators: Sequence[Operators],
        accelerator: Ints,
        *,
        efficiencies: Efficiencies,
        fabric: Fabric,
        scales: Scales,
        layers: Floats,
    ) -> None:
        self._accelerator = accelerator
        self._efficiencies = efficiencies
        self._fabric = fabric
        self.scales = scales
        self._layers = layers
        self._size = len(operators)
        self._gemms = _Weighted.of(Gemm, [each.gemms for each in operators], self)
        self._experts = _Weighted.of(Experts, [each.experts for each in operators], self)
        self._attention = columns(Attention, [each.attention for each in operators])
        attending = accelerator[self._attention.config]
        plain = np.full(len(attending), format_index("bf16"))
        self._attention_peak = efficiencies.peak_flops(attending, plain)
        self._state = columns(State, [each.state for each in operators])
        self._elementwise = columns(Elementwise, [each.elementwise for each in operators])
        self._exchanges = columns(Exchange, [each.exchanges for each in operators])
        self._moe_layers = np.bincount(self._experts.config, self._experts.rows.layers, self._size)
        self._bandwidth = efficiencies.bandwidth(accelerator)
        self._copying = self._bandwidth * efficiencies.copy_mbu(accelerator)

    def costs(self, step: Step) -> Costs:
        """Seconds of `step` on every configuration."""
        compute, memory, flops = (np.zeros(self._size) for _ in range(3))
        for priced in (
            self._gemm_seconds(step),
            self._expert_seconds(step),
            self._decode_attention_seconds(step),
            self._prompt_attention_seconds(step),
        ):
            compute += self._summed(priced.config, priced.seconds * priced.multiplies)
            memory += self._summed(priced.config, priced.seconds * ~priced.multiplies)
            flops += self._summed(priced.config, priced.flops)
        memory += self._traffic_seconds(step)
        return Costs(
            compute, memory, self._communication_seconds(step), self._overhead(step), flops
        )

    def _summed(self, config: Ints, values: Floats) -> Floats:
        """Sums of rows by the configuration that they belong to."""
        return np.bincount(config, values, self._size).astype(np.float64)

    def _gemm_seconds(self, step: Step) -> _Priced:
        gemm, rows = self._gemms, self._gemms.rows
        sampled = rows.rows == Rows.SAMPLED
        tokens = np.where(sampled, step.sampled[gemm.config], step.tokens[gemm.config])
        tokens = tokens * rows.scale
        weights = rows.inputs * rows.outputs
        flops = 2 * tokens * weights
        traffic = weights * rows.element_bytes
        traffic = traffic * (tokens > 0)
        moved = ACTIVATION_BYTES * tokens * (rows.inputs + rows.outputs)
        mfu = self._efficiencies.gemm_mfu(gemm.accelerator, gemm.format, tokens)
        scales, layers = self.scales, rows.layers
        arithmetic = flops / (gemm.peak * np.maximum(mfu, 1e-12))
        arithmetic = arithmetic * scales.gemm[gemm.config] * layers
        reading = traffic / gemm.reading + moved / gemm.copying
        reading = reading * scales.reading[gemm.config] * layers
        seconds = np.maximum(np.where(tokens > 0, arithmetic, 0.0), reading)
        multiplies = flops / gemm.peak >= (traffic + moved) / self._bandwidth[gemm.config]
        return _Priced(gemm.config, seconds, multiplies, flops * layers)

    def _expert_seconds(self, step: Step) -> _Priced:
        expert, rows = self._experts, self._experts.rows
        tokens = step.tokens[expert.config] * rows.scale
        held = rows.experts / rows.ranks
        share = rows.per_token / rows.experts
        own = np.maximum(tokens, 1.0) ** self.scales.routing[expert.config]
        active = held * (1 - (1 - share) ** np.where(tokens > 1, own, tokens))
        # Routing is uneven: the busiest rank decides.
        imbalance = np.where(rows.ranks > 1, self.scales.imbalance[expert.config], 1.0)
        assigned = tokens * rows.per_token / rows.ranks * imbalance
        one = 3 * rows.hidden * rows.inner
        flops = 2 * assigned * one
        each = assigned / np.maximum(active, 1e-9)
        mfu = expert.plateau * each / (each + _EXPERT_TOKENS)
        mfu = mfu * rows.inner / (rows.inner + _EXPERT_WIDTH)
        scales, layers = self.scales, rows.layers
        arithmetic = flops / (expert.peak * np.maximum(mfu, 1e-12))
        arithmetic = arithmetic * scales.experts[expert.config] * layers
        moved = ACTIVATION_BYTES * assigned * (2 * rows.hidden + 3 * rows.inner)
        weights = active * one * rows.element_bytes
        reading = weights / expert.reading + moved / expert.copying
        reading = reading * scales.expert_reading[expert.config] * layers
        seconds = np.maximum(np.where(tokens > 0, arithmetic, 0.0), reading)
        multiplies = flops / expert.peak >= (weights + moved) / self._bandwidth[expert.config]
        return _Priced(expert.config, seconds, multiplies, flops * layers)

    def _decode_attention_seconds(self, step: Step) -> _Priced:
        rows, config = self._attention, self._attention.config
        decodes = step.decodes[config]
        context = step.context[config]
        seen = np.where(rows.window > 0, np.minimum(context, rows.window), context)
        queries = decodes * step.decode_tokens[config]
        flops = 2 * queries * rows.heads * rows.decode_width * seen / rows.split
        traffic = decodes * rows.cached * seen / rows.split * rows.kv_bytes
        accelerator = self._accelerator[config]
        fixed, mbu = self._efficiencies.decode_attention(
            accelerator, rows.kv_format.astype(np.int64)
        )
        scale = self.scales.attention[config] * rows.layers
        busy = decodes > 0
        reading = (fixed + traffic / (self._bandwidth[config] * mbu)) * scale * busy
        arithmetic = flops / (_DECODE_MFU * self._attention_peak) * scale
        seconds = np.maximum(arithmetic, reading)
        return _Priced(config, seconds, arithmetic >= reading, flops * rows.layers)

    def _prompt_attention_seconds(self, step: Step) -> _Priced:
        rows, config = self._attention, self._attention.config
        tokens, piece = step.prompt_tokens[config], step.prompt_piece[config]
        seen = step.prompt_before[config] + piece / 2
        seen = np.where(rows.window > 0, np.minimum(seen, rows.window), seen)
        widths = rows.heads * (rows.key_width + rows.value_width)
        flops = 2 * tokens * seen * widths / rows.prompt_split
        mfu = self._efficiencies.prefill_attention_mfu(
            self._accelerator[config], np.maximum(piece, 1.0)
        )
        scale = self.scales.attention[config] * rows.layers
        moved = ACTIVATION_BYTES * tokens * widths + rows.cached * seen * rows.kv_bytes
        reading = moved / self._copying[config] * (tokens > 0)
        arithmetic = flops / (self._attention_peak * mfu)
        seconds = np.maximum(arithmetic, reading) * scale
        return _Priced(config, seconds, arithmetic >= reading, flops * rows.layers)

    def _traffic_seconds(self, step: Step) -> Floats:
        """Operators that only move bytes: norms, activations, states of linear attention."""
        rows, state = self._elementwise, self._state
        own: Floats = rows.layers * rows.token_bytes * step.tokens[rows.config]
        sequences = step.decodes + step.prompt_tokens / np.maximum(step.prompt_piece, 1.0)
        touched = 2 * ACTIVATION_BYTES * state.layers * state.elements * sequences[state.config]
        moved = self._summed(rows.config, own) + self._summed(state.config, touched)
        seconds: Floats = moved / self._copying
        return seconds

    def _communication_seconds(self, step: Step) -> Floats:
        rows, config = self._exchanges, self._exchanges.config
        tokens = np.where(rows.rows == Rows.SAMPLED, step.sampled[config], step.tokens[config])
        size = rows.token_bytes * tokens
        seconds: Floats = np.zeros(len(config))
        kinds, ranks = rows.kind, rows.ranks.astype(np.int64)
        for kind, price in (
            (Collective.ALL_REDUCE, self._fabric.all_reduce),
            (Collective.ALL_GATHER, self._fabric.all_gather),
            (Collective.REDUCE_SCATTER, self._fabric.reduce_scatter),
            (Collective.ALL_TO_ALL, self._fabric.all_to_all),
            (Collective.POINT_TO_POINT, self._fabric.point_to_point),
            (Collective.RING, self._fabric.ring),
        ):
            at = np.flatnonzero((kinds == kind) & (size > 0))
            if at.size:
                seconds[at] = price(self._accelerator[config[at]], ranks[at], size[at])
        scaled: Floats = seconds * self.scales.communication[config] * rows.layers
        return self._summed(config, scaled)

    def _overhead(self, step: Step) -> Floats:
        scales = self.scales
        per_layer = scales.layer_s * self._layers + scales.moe_layer_s * self._moe_layers
        sequences = step.decodes + step.prompts_finished
        result: Floats = per_layer + scales.step_s + scales.sequence_s * sequences
        return result


@dataclass(frozen=True, slots=True)
class _Weighted:
    """Rows that multiply with weights, and what their accelerator does with them, [rows].

    `peak` in FLOP/s, `reading` and `copying` in bytes/s of weights and of activations.
    """

    rows: Columns
    config: Ints
    accelerator: Ints
    format: Ints
    peak: Floats
    reading: Floats
    copying: Floats
    plateau: Floats

    @classmethod
    def of(
        cls,
        kind: type[Gemm] | type[Experts],
        rows: Sequence[Sequence[Gemm]] | Sequence[Sequence[Experts]],
        model: StepModel,
    ) -> _Weighted:
        table = columns(kind, rows)
        accelerator = model._accelerator[table.config]
        formats = table.format.astype(np.int64)
        efficiencies = model._efficiencies
        bandwidth = efficiencies.bandwidth(accelerator)
        blocks = formats == format_index("fp8_block")
        formats = np.where(blocks, format_index("fp8"), formats)
        mbu = efficiencies.gemm_mbu(accelerator, formats)
        if kind is Experts:
            mbu = np.where(formats == format_index("int4"), _INT4_EXPERT_MBU, _EXPERT_MBU)
        return cls(
            table,
            table.config,
            accelerator,
            formats,
            efficiencies.peak_flops(accelerator, formats),
            bandwidth * mbu,
            bandwidth * efficiencies.copy_mbu(accelerator),
            efficiencies.gemm_mfu(accelerator, formats, np.full(len(formats), _PLATEAU_TOKENS)),
        )
