"""Steps against sums by hand: operations, bytes, and which of the two takes the time."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.hardware import ACCELERATORS
from runtimes.model import ModelFacts
from search.perfmodel.communication import Fabric
from search.perfmodel.efficiency import Efficiencies, format_index
from search.perfmodel.formats import Formats
from search.perfmodel.layers import LayerGroup, LayerKind, spread_layers
from search.perfmodel.operators import Costs, Step, StepModel
from search.perfmodel.overheads import EngineOverheads, Scales
from search.perfmodel.question import Spread
from search.perfmodel.tables import operators_of
from tests.search.perfmodel.deployments import EXPERTS, LATENT, LLAMA, WINDOWED, catalogue, known

BF16 = Formats("bf16", "bf16", "bf16", "bf16")
H100 = ACCELERATORS["H100"]
BARE = EngineOverheads(
    experts=1.0, expert_reading=1.0, imbalance=1.0, routing=1.0, layer_s=0.0, moe_layer_s=0.0,
    sequence_s=0.0, step_s=0.0, prompt_s=0.0,
)  # fmt: skip
"""Operators alone, and experts that are chosen evenly."""


def costs(
    model: ModelFacts,
    groups: tuple[LayerGroup, ...],
    step: Step,
    overheads: EngineOverheads = BARE,
    pipeline: int = 1,
) -> Costs:
    return StepModel(
        [operators_of(model, groups, BF16, pipeline)],
        np.zeros(1, dtype=np.int64),
        efficiencies=Efficiencies([H100]),
        fabric=Fabric([H100]),
        scales=Scales.of([overheads]),
        layers=np.array([float(model.layers)]),
    ).costs(step)


def layer(kind: LayerKind, **degrees: int) -> tuple[LayerGroup, ...]:
    return (LayerGroup(kind=kind, count=1, **degrees),)


def decode(sequences: float, context: float = 0.0, tokens: float = 1.0) -> Step:
    figures = (sequences, tokens, context, 0.0, 0.0, 0.0, 0.0)
    return Step(*(np.array([figure]) for figure in figures))


def prompt(tokens: float, before: float = 0.0, prompts: float = 1.0) -> Step:
    figures = (0.0, 1.0, 0.0, tokens * prompts, tokens, before, prompts)
    return Step(*(np.array([figure]) for figure in figures))


def flops(model: ModelFacts, kind: LayerKind, step: Step, **degrees: int) -> float:
    return float(costs(model, layer(kind, **degrees), step).flops[0])


class TestFlops:
    def test_a_matrix_takes_two_per_weight_and_token(self) -> None:
        llama = known(LLAMA)
        one = 3 * llama.hidden * llama.intermediate
        assert flops(llama, LayerKind.FEEDFORWARD, decode(32)) == 2 * 32 * one
        assert flops(llama, LayerKind.FEEDFORWARD, decode(32), tp=8) == 2 * 32 * one / 8
        assert flops(llama, LayerKind.FEEDFORWARD, prompt(1000)) == 2 * 1000 * one

    def test_the_head_sees_only_the_last_token_of_a_prompt(self) -> None:
        llama = known(LLAMA)
        one = llama.hidden * llama.vocab
        assert flops(llama, LayerKind.LM_HEAD, prompt(1000, prompts=3)) == 2 * 3 * one
        assert flops(llama, LayerKind.LM_HEAD, decode(8, tokens=4)) == 2 * 32 * one

    def test_decode_attention_looks_at_the_whole_context(self) -> None:
        llama = known(LLAMA)
        d, q, kv, h = llama.head_dim, llama.heads, llama.kv_heads, llama.hidden
        projections = 2 * 8 * (2 * h * q * d + 2 * h * kv * d)
        looked = 4 * 8 * q * d * 4096
        assert flops(llama, LayerKind.ATTENTION, decode(8, 4096)) == projections + looked
        halved = flops(llama, LayerKind.ATTENTION, decode(8, 4096), tp=2)
        assert halved == (projections + looked) / 2

    def test_prefill_attention_has_the_causal_half(self) -> None:
        llama = known(LLAMA)
        d, q, kv, h = llama.head_dim, llama.heads, llama.kv_heads, llama.hidden
        new, before = 3000, 1000
        projections = 2 * new * (2 * h * q * d + 2 * h * kv * d)
        looked = 2 * q * d * ((new + before) ** 2 - before**2)
        found = flops(llama, LayerKind.ATTENTION, prompt(new, before))
        assert found == pytest.approx(projections + looked)

    def test_latent_attention_decodes_on_the_latent_and_prefills_on_heads(self) -> None:
        deepseek = known(LATENT)
        mla, n = deepseek.mla, deepseek.heads
        assert mla is not None
        per_token = 2 * sum(
            gemm.inputs * gemm.outputs
            for gemm in operators_of(deepseek, layer(LayerKind.LATENT_ATTENTION), BF16).gemms
        )
        decoded = flops(deepseek, LayerKind.LATENT_ATTENTION, decode(4, 2000))
        looked = 2 * 4 * n * 2000 * (2 * mla.kv_lora + mla.rope)
        assert decoded == pytest.approx(4 * per_token + looked)
        prefilled = flops(deepseek, LayerKind.LATENT_ATTENTION, prompt(2000))
        looked = n * (mla.nope + mla.rope + mla.value) * 2000**2
        assert prefilled == pytest.approx(2000 * per_token + looked)

    def test_a_window_bounds_what_is_looked_at(self) -> None:
        gemma = known(WINDOWED)
        window, wide = gemma.sliding_window, 4 * gemma.heads * gemma.head_dim
        short = flops(gemma, LayerKind.WINDOWED_ATTENTION, decode(1, window))
        assert flops(gemma, LayerKind.WINDOWED_ATTENTION, decode(1, 64 * window)) == short
        full = flops(gemma, LayerKind.ATTENTION, decode(1, 64 * window))
        assert full - short == wide * 63 * window

    def test_each_token_passes_its_experts_the_shared_ones_and_the_router(self) -> None:
        deepseek = known(LATENT)
        one = 3 * deepseek.hidden * deepseek.moe_intermediate
        passed = deepseek.experts_per_token + deepseek.shared_experts
        expected = 2 * 64 * (passed * one + deepseek.hidden * deepseek.experts)
        assert flops(deepseek, LayerKind.MOE, decode(64)) == pytest.approx(expected)
        qwen = known(EXPERTS)
        routed = 2 * 64 * qwen.experts_per_token * 3 * qwen.hidden * qwen.moe_intermediate
        router = 2 * 64 * qwen.hidden * qwen.experts
        found = flops(qwen, LayerKind.MOE, decode(64), ep=8)
        assert found == pytest.approx(routed / 8 + router)

    @pytest.mark.parametrize("name", [LLAMA, EXPERTS, "meta-llama/Llama-3.1-405B"])
    def test_a_prompt_takes_two_per_active_weight_and_token(self, name: str) -> None:
        model = known(name)
        tokens = 2048
        looked = model.layers * 2 * model.heads * model.head_dim * tokens**2
        passed = model.active_parameters - model.weights.embeddings
        found = costs(model, spread_layers(model, Spread()), prompt(tokens)).flops[0]
        assert found == pytest.approx(2 * passed * tokens + looked, rel=0.01)


class TestBytes:
    """Of a single token, which no arithmetic takes longer than reading."""

    def bandwidth(self) -> float:
        efficiencies, zero = Efficiencies([H100]), np.zeros(1, dtype=np.int64)
        mbu = efficiencies.gemm_mbu(zero, np.full(1, format_index("bf16")))
        return float((efficiencies.bandwidth(zero) * mbu)[0])

    @pytest.mark.parametrize("name", [LLAMA, "meta-llama/Llama-3.1-70B", LATENT])
    def test_one_token_reads_every_weight_of_a_layer_once(self, name: str) -> None:
        model = known(name)
        found = costs(model, layer(LayerKind.FEEDFORWARD), decode(1))
        weights = 3 * model.hidden * model.intermediate * 2
        assert found.compute[0] == 0
        assert found.memory[0] == pytest.approx(weights / self.bandwidth(), rel=0.02)

    def test_more_tokens_read_more_experts_up_to_all(self) -> None:
        qwen = known(EXPERTS)
        one = 3 * qwen.hidden * qwen.moe_intermediate * 2
        share = qwen.experts_per_token / qwen.experts

        def read(tokens: float) -> float:
            return float(costs(qwen, layer(LayerKind.MOE), decode(tokens)).memory[0])

        for tokens in (1, 4, 32):
            active = qwen.experts * (1 - (1 - share) ** tokens)
            first = read(1) / (qwen.experts_per_token * one)
            assert read(tokens) == pytest.approx(active * one * first, rel=0.05)

    def test_rows_of_the_cache_are_read_at_every_step(self) -> None:
        llama = known(LLAMA)
        efficiencies, zero = Efficiencies([H100]), np.zeros(1, dtype=np.int64)
        _, mbu = efficiencies.decode_attention(zero, np.full(1, format_index("bf16")))

        def read(context: float, **degrees: int) -> float:
            groups = layer(LayerKind.ATTENTION, **degrees)
            return float(costs(llama, groups, decode(64, context)).memory[0])

        cached = 2 * llama.kv_heads * llama.head_dim * 2
        more = 64 * cached * 7000 / (H100.memory_bytes_per_s * mbu[0])
        assert read(8000) - read(1000) == pytest.approx(more)
        assert read(8000, tp=8) - read(1000, tp=8) == pytest.approx(more / 8)
        # Ranks beyond the heads of keys read copies; those that split sequences read less.
        assert read(8000, tp=16) - read(1000, tp=16) == pytest.approx(more / 8)
        assert read(8000, kv_split=4) - read(1000, kv_split=4) == pytest.approx(more / 4)

    def test_a_prompt_is_bound_by_arithmetic_and_a_token_by_memory(self) -> None:
        llama = known(LLAMA)
        groups = spread_layers(llama, Spread())
        long, one = costs(llama, groups, prompt(8192)), costs(llama, groups, decode(1, 100))
        assert long.compute[0] > 5 * long.memory[0]
        assert one.memory[0] > 5 * one.compute[0]


class TestSums:
    def test_a_hundred_groups_of_one_layer_cost_what_one_group_of_a_hundred_does(self) -> None:
        llama = known(LLAMA)
        for kind in (LayerKind.ATTENTION, LayerKind.FEEDFORWARD):
            apart = layer(kind, tp=4) * 100
            together = (LayerGroup(kind=kind, count=100, tp=4),)
            for step in (decode(16, 1000), prompt(512)):
                one, other = costs(llama, apart, step), costs(llama, together, step)
                assert one.seconds == pytest.approx(other.seconds)
                assert one.flops == pytest.approx(other.flops)
                assert one.communication == pytest.approx(other.communication)

    def test_a_faster_mix_of_degrees_lies_between_its_parts(self) -> None:
        llama = known(LLAMA)

        def seconds(*groups: LayerGroup) -> float:
            return float(costs(llama, groups, prompt(4096)).seconds[0])

        (narrow,) = layer(LayerKind.FEEDFORWARD)
        (wide,) = layer(LayerKind.FEEDFORWARD, tp=8)
        assert seconds(wide) < seconds(narrow)
        assert seconds(narrow, wide) == pytest.approx(seconds(narrow) + seconds(wide))

    def test_stages_add_their_transfers(self) -> None:
        llama = known(LLAMA)
        groups, step = spread_layers(llama, Spread()), decode(8, 100)
        alone, staged = costs(llama, groups, step), costs(llama, groups, step, pipeline=4)
        assert alone.communication[0] == 0
        assert staged.communication[0] == pytest.approx(3 * 10e-6, rel=0.2)
        assert staged.memory == alone.memory

    def test_overheads_grow_with_layers_sequences_and_steps(self) -> None:
        deepseek = known(LATENT)
        some = EngineOverheads(layer_s=1e-5, moe_layer_s=2e-5, sequence_s=3e-6, step_s=1e-3)
        groups = spread_layers(deepseek, Spread())
        found = costs(deepseek, groups, decode(100, 10), some)
        expected = 61 * 1e-5 + 58 * 2e-5 + 100 * 3e-6 + 1e-3
        assert found.overhead[0] == pytest.approx(expected)
        assert found.seconds == pytest.approx(
            found.compute + found.memory + found.communication + found.overhead
        )


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_tensor_parallelism_never_slows_an_operator_down(model: ModelFacts) -> None:
    for step in (decode(64, 2048), prompt(4096)):
        before: Costs | None = None
        for tp in (1, 2, 4, 8):
            spread = Spread(tp=tp, dense_tp=tp, expert_tp=tp)
            found = costs(model, spread_layers(model, spread), step)
            if before is not None:
                assert found.flops[0] < before.flops[0]
                assert found.communication[0] >= before.communication[0]
            before = found
