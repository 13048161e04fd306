"""How long one step takes: a roofline with stated efficiencies, communication and overheads.

The constants are the simulator's own, taken from a fit to 339 measured vLLM configurations
(aiconfigurator's silicon sample, Apache-2.0: dense models, H100, H200 and B200) and from its
kernel tables. Nothing here is shared with a predictor, so that one can be tested on the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout

GEMM_COMPUTE_EFFICIENCY = 0.84
"""Share of peak FLOP/s of large matrix products (fit; kernel tables: 0.7–0.9 at 512 rows)."""
WEIGHT_READ_EFFICIENCY = 0.85
"""Share of peak bandwidth when weights are streamed (fit; kernel tables: 0.70–0.85)."""
KV_READ_EFFICIENCY = 0.76
"""Share of peak bandwidth of decode attention (fit; kernel tables: 0.6–0.9 at 4k context)."""
PREFILL_ATTENTION_EFFICIENCY = 0.44
"""Share of peak FLOP/s of causal attention at 2k tokens (kernel tables, H100 and H200)."""
ALL_REDUCE_LATENCY_S = 9e-6
"""Latency of one all-reduce inside a CUDA graph (fit; kernel tables: 12–14 µs on Hopper)."""
LINK_EFFICIENCY = 0.54
"""Share of the link's bandwidth an all-reduce reaches (fit)."""
LAYER_OVERHEAD_S = 49e-6
"""Per layer and step: norms, rotary embedding, KV write, launch gaps (fit)."""
SEQUENCE_OVERHEAD_S = 38e-6
"""Per sequence and step: scheduling, sampling, detokenising (fit)."""
STAGE_HANDOVER_S = 10e-6
"""Latency of one transfer between pipeline stages (aiconfigurator's p2p constant)."""
FRONTEND_S = 0.040
"""From the HTTP request to the scheduler's queue. The fit has 68 ms for what prefill does not
explain; waiting for the running step and that step's decodes is played out, not counted here."""
ACTIVATION_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one step computes.

    Attributes:
        tokens: tokens run through the model.
        sequences: sequences they belong to.
        sampled: sequences that get a token out of this step.
        decode_context: tokens of KV cache read by sequences that add one token.
        prefill_pairs: query-key pairs of the others, causal half included.
    """

    tokens: int
    sequences: int
    sampled: int
    decode_context: int
    prefill_pairs: float


@dataclass(frozen=True, slots=True)
class StepTimer:
    """Seconds of a step of `model` on `accelerator`s in `layout`.

    Attributes:
        weight_bytes: bytes of all weights as they lie on the devices.
        kv_element_bytes: bytes of one element of the KV cache.
    """

    model: ModelFacts
    accelerator: Accelerator
    layout: ParallelLayout
    weight_bytes: float
    kv_element_bytes: float = 2.0

    def latency_s(self, work: StepWork) -> float:
        """From the first pipeline stage's start to the sampled tokens, seconds."""
        return (
            self._matrices_s(work)
            + self._attention_s(work)
            + self._all_reduces_s(work.tokens)
            + self._handovers_s(work.tokens)
            + self.model.layers * LAYER_OVERHEAD_S
            + work.sequences * SEQUENCE_OVERHEAD_S
        )

    def _matrices_s(self, work: StepWork) -> float:
        embedding = self.model.vocab * self.model.hidden
        table = 0 if self.model.tied else embedding
        layers = self.model.parameters - embedding - table
        flops = 2.0 * (layers * work.tokens + embedding * work.sampled)
        compute_s = flops / (self.accelerator.bf16_flops * GEMM_COMPUTE_EFFICIENCY)
        # Of the embedding only the rows of the step's tokens are read.
        read = self.weight_bytes * (layers + embedding) / self.model.parameters
        read_s = read / (self.accelerator.memory_bytes_per_s * WEIGHT_READ_EFFICIENCY)
        return max(compute_s, read_s) / self.layout.tp

    def _attention_s(self, work: StepWork) -> float:
        kv_bytes = self.model.kv_bytes_per_token(self.kv_element_bytes)
        shards = min(self.layout.tp, self.model.kv_heads)  # further ranks hold copies
        bandwidth = self.accelerator.memory_bytes_per_s * KV_READ_EFFICIENCY
        decode_s = work.decode_context * kv_bytes / shards / bandwidth
        pair_flops = 4.0 * self.model.layers * self.model.heads * self.model.head_dim
        peak = self.accelerator.bf16_flops * PREFILL_ATTENTION_EFFICIENCY
        return decode_s + work.prefill_pairs * pair_flops / self.layout.tp / peak

    def _all_reduces_s(self, tokens: int) -> float:
        """Two per layer, after attention and after the MLP; a ring moves 2(n-1)/n of the data."""
        tp = self.layout.tp
        if tp == 1:
            return 0.0
        moved = 2 * (tp - 1) / tp * tokens * self.model.hidden * ACTIVATION_BYTES
        one_s = ALL_REDUCE_LATENCY_S + moved / (self.accelerator.link_bytes_per_s * LINK_EFFICIENCY)
        return 2 * self.model.layers * one_s

    def _handovers_s(self, tokens: int) -> float:
        moved = tokens * self.model.hidden * ACTIVATION_BYTES
        one_s = STAGE_HANDOVER_S + moved / self.accelerator.link_bytes_per_s
        return (self.layout.pp - 1) * one_s
