"""Operators against the formulas: sizes of every kind of layer, and what ranks exchange."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.model import ModelFacts
from runtimes.quantization import Quantization
from search.perfmodel.formats import Formats, formats_of
from search.perfmodel.layers import LayerGroup, LayerKind, spread_layers
from search.perfmodel.question import Spread
from search.perfmodel.tables import (
    Collective,
    Exchange,
    Gemm,
    Operators,
    Rows,
    columns,
    operators_of,
)
from tests.search.perfmodel.deployments import (
    EXPERTS,
    LATENT,
    LLAMA,
    WINDOWED,
    catalogue,
    known,
)

BF16 = Formats("bf16", "bf16", "bf16", "bf16")
FP8 = Formats("fp8", "nvfp4", "bf16", "fp8")


def of(model: ModelFacts, kind: LayerKind, formats: Formats = BF16, **degrees: int) -> Operators:
    """One layer of `kind`."""
    return operators_of(model, (LayerGroup(kind=kind, count=1, **degrees),), formats)


def whole(model: ModelFacts, spread: Spread | None = None) -> Operators:
    spread = spread or Spread()
    return operators_of(model, spread_layers(model, spread), BF16, spread.pp)


def weights(found: Operators) -> float:
    """Weights of all matrices and experts on one rank."""
    matrices = sum(gemm.layers * gemm.inputs * gemm.outputs for gemm in found.gemms)
    experts = sum(
        each.layers * each.experts / each.ranks * 3 * each.hidden * each.inner
        for each in found.experts
    )
    return matrices + experts


def exchanged(found: Operators) -> list[tuple[Collective, int, float]]:
    """Kind, ranks and bytes per token of each exchange."""
    return [(Collective(each.kind), int(each.ranks), each.token_bytes) for each in found.exchanges]


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_the_matrices_of_one_rank_are_the_weights_of_the_model(model: ModelFacts) -> None:
    counted = model.weights
    embedding = model.vocab * model.hidden
    # The embedding is looked up, and what is shared with it is read by the output projection.
    looked_up = counted.embeddings - embedding
    expected = counted.total - counted.norms - looked_up
    assert weights(whole(model)) == pytest.approx(expected, rel=1e-3)


class TestWeights:
    def test_grouped_queries(self) -> None:
        llama = known(LLAMA)
        h, q, kv, d = llama.hidden, llama.heads, llama.kv_heads, llama.head_dim
        for tp in (1, 2, 8):
            split = h * q * d / tp + 2 * h * kv * d / tp + q * d * h / tp
            assert weights(of(llama, LayerKind.ATTENTION, tp=tp)) == split
        # Keys and values stand on every rank once there are more ranks than heads.
        copied = h * q * d / 32 + 2 * h * d + q * d * h / 32
        assert weights(of(llama, LayerKind.ATTENTION, tp=32)) == copied

    def test_a_head_of_keys_for_each_of_queries(self) -> None:
        model = replace(known(LLAMA), kv_heads=32)
        h, d = model.hidden, model.head_dim
        assert weights(of(model, LayerKind.ATTENTION, tp=4)) == 4 * h * 32 * d / 4

    def test_latents_are_on_every_rank(self) -> None:
        deepseek = known(LATENT)
        mla, h, n = deepseek.mla, deepseek.hidden, deepseek.heads
        assert mla is not None
        for tp in (1, 8):
            expected = (
                h * mla.q_lora
                + mla.q_lora * n * (mla.nope + mla.rope) / tp
                + h * (mla.kv_lora + mla.rope)
                + mla.kv_lora * n * (mla.nope + mla.value) / tp
                + n * mla.value * h / tp
            )
            assert weights(of(deepseek, LayerKind.LATENT_ATTENTION, tp=tp)) == expected

    def test_mlps_with_and_without_a_gate(self) -> None:
        llama = known(LLAMA)
        h, f = llama.hidden, llama.intermediate
        plain = replace(llama, gated_mlp=False)
        assert weights(of(llama, LayerKind.FEEDFORWARD, tp=4)) == 3 * h * f / 4
        assert weights(of(plain, LayerKind.FEEDFORWARD, tp=4)) == 2 * h * f / 4

    def test_routed_and_shared_experts_and_their_router(self) -> None:
        deepseek = known(LATENT)
        h, f, e = deepseek.hidden, deepseek.moe_intermediate, deepseek.experts
        routed, shared = 3 * h * f * e, 3 * h * f * deepseek.shared_experts
        assert weights(of(deepseek, LayerKind.MOE)) == h * e + routed + shared
        split = of(deepseek, LayerKind.MOE, tp=2, ep=4)
        # The router is on every rank; shared experts are split over all of one group.
        assert weights(split) == pytest.approx(h * e + routed / 8 + shared / 8)

    def test_the_head_is_split_over_the_vocabulary(self) -> None:
        llama = known(LLAMA)
        (head,) = of(llama, LayerKind.LM_HEAD, tp=4).gemms
        assert (head.inputs, head.outputs) == (llama.hidden, llama.vocab / 4)
        assert head.rows is Rows.SAMPLED

    def test_norms_and_embeddings_multiply_nothing(self) -> None:
        for kind in (LayerKind.NORM, LayerKind.EMBEDDING):
            assert not of(known(LLAMA), kind).gemms

    def test_bytes_of_a_weight_follow_the_format(self) -> None:
        deepseek = known(LATENT)
        (up, *_) = of(deepseek, LayerKind.FEEDFORWARD, FP8).gemms
        assert up.element_bytes == 1
        router, *shared = of(deepseek, LayerKind.MOE, FP8).gemms
        assert router.element_bytes == 2
        assert {gemm.element_bytes for gemm in shared} == {9 / 16}
        assert of(deepseek, LayerKind.MOE, FP8).experts[0].element_bytes == 9 / 16
        assert of(deepseek, LayerKind.LM_HEAD, FP8).gemms[0].element_bytes == 2


class TestCache:
    def test_heads_of_keys_and_values(self) -> None:
        llama = known(LLAMA)
        for tp, heads in ((1, 8), (4, 2), (8, 1), (32, 1)):
            (attention,) = of(llama, LayerKind.ATTENTION, tp=tp).attention
            assert attention.cached == 2 * heads * llama.head_dim
            assert attention.kv_bytes == 2
        (attention,) = of(llama, LayerKind.ATTENTION, FP8, kv_split=4).attention
        assert (attention.kv_bytes, attention.split) == (1, 4)

    def test_the_latent_is_whole_on_every_rank(self) -> None:
        deepseek = known(LATENT)
        mla = deepseek.mla
        assert mla is not None
        for tp in (1, 8):
            (attention,) = of(deepseek, LayerKind.LATENT_ATTENTION, tp=tp).attention
            assert attention.cached == mla.kv_lora + mla.rope
            assert attention.decode_width == 2 * mla.kv_lora + mla.rope
            assert attention.key_width + attention.value_width == mla.nope + mla.rope + mla.value

    def test_a_window_bounds_some_layers(self) -> None:
        gemma = known(WINDOWED)
        found = whole(gemma).attention
        windows = {attention.window: attention.layers for attention in found}
        assert windows == {
            0: gemma.layers - gemma.windowed_layers,
            gemma.sliding_window: gemma.windowed_layers,
        }

    def test_linear_attention_keeps_a_state_and_no_cache(self) -> None:
        hybrid = next(model for model in catalogue() if model.linear is not None)
        linear = hybrid.linear
        assert linear is not None
        found = of(hybrid, LayerKind.LINEAR_ATTENTION, tp=2)
        assert not found.attention
        size = linear.value_heads * linear.value_dim * linear.key_dim
        assert found.state[0].elements == size / 2


class TestExchanges:
    wide = 2.0 * 4096

    def test_tensor_parallelism_reduces_twice_a_layer(self) -> None:
        llama = known(LLAMA)
        found = whole(llama, Spread(tp=8, dense_tp=8))
        reduced = [each for each in found.exchanges if each.kind == Collective.ALL_REDUCE]
        assert sum(each.layers for each in reduced) == 2 * llama.layers + 1
        assert {each.token_bytes for each in reduced} == {self.wide}
        gathered = [each for each in found.exchanges if each.kind == Collective.ALL_GATHER]
        assert gathered == [Exchange(1, Collective.ALL_GATHER, 8, 2.0 * llama.vocab, Rows.SAMPLED)]

    def test_one_rank_exchanges_nothing(self) -> None:
        for model in (LLAMA, LATENT, EXPERTS):
            assert not whole(known(model)).exchanges

    def test_sequence_parallelism_does_each_reduction_in_two_halves(self) -> None:
        for kind in (LayerKind.ATTENTION, LayerKind.FEEDFORWARD):
            assert exchanged(of(known(LLAMA), kind, tp=4, sp=4)) == [
                (Collective.REDUCE_SCATTER, 4, self.wide),
                (Collective.ALL_GATHER, 4, self.wide),
            ]

    def test_tokens_travel_to_experts_and_back(self) -> None:
        deepseek = known(LATENT)
        per_token = 2.0 * deepseek.hidden * deepseek.experts_per_token
        found = of(deepseek, LayerKind.MOE, ep=16, groups=16)
        assert exchanged(found) == [(Collective.ALL_TO_ALL, 16, per_token)] * 2
        # In one byte there and two back, and to no more ranks than there are.
        narrow = of(deepseek, LayerKind.MOE, replace(BF16, experts="fp8"), ep=4, groups=4)
        three = 2.0 * deepseek.hidden * 3
        assert exchanged(narrow) == [
            (Collective.ALL_TO_ALL, 4, three / 2),
            (Collective.ALL_TO_ALL, 4, three),
        ]

    def test_one_group_reduces_what_its_experts_give(self) -> None:
        qwen = known(EXPERTS)
        for tp, ep in ((8, 1), (1, 8), (2, 4)):
            found = of(qwen, LayerKind.MOE, tp=tp, ep=ep)
            assert exchanged(found) == [(Collective.ALL_REDUCE, 8, 2.0 * qwen.hidden)]

    def test_groups_without_expert_ranks_gather_and_scatter_all_tokens(self) -> None:
        qwen = known(EXPERTS)
        size = 2.0 * qwen.hidden * 4
        assert exchanged(of(qwen, LayerKind.MOE, tp=8, groups=4)) == [
            (Collective.ALL_GATHER, 8, size),
            (Collective.REDUCE_SCATTER, 8, size),
        ]

    def test_a_prompt_over_several_ranks_passes_keys_round_a_ring(self) -> None:
        llama = known(LLAMA)
        found = exchanged(of(llama, LayerKind.ATTENTION, cp=4))
        keys = 2.0 * 2 * llama.kv_heads * llama.head_dim
        assert found == [(Collective.RING, 4, keys)]

    def test_stages_hand_on_to_the_next(self) -> None:
        llama = known(LLAMA)
        (handed,) = whole(llama, Spread(pp=4)).exchanges
        assert handed == Exchange(3, Collective.POINT_TO_POINT, 2, self.wide, Rows.TOKENS)


def test_columns_say_whose_rows_they_are() -> None:
    first = of(known(LLAMA), LayerKind.ATTENTION).gemms
    second = of(known(LLAMA), LayerKind.LM_HEAD, tp=2).gemms
    table = columns(Gemm, [first, (), second])
    assert table.config.tolist() == [0, 0, 2]
    assert table.inputs.tolist() == [gemm.inputs for gemm in (*first, *second)]
    assert table.rows.tolist() == [Rows.TOKENS, Rows.TOKENS, Rows.SAMPLED]


def test_columns_of_nothing_are_empty() -> None:
    assert columns(Gemm, [(), ()]).inputs.shape == (0,)
    assert columns(Gemm, []).config.shape == (0,)


def test_checkpoints_keep_their_format_and_others_take_what_is_asked() -> None:
    asked = Quantization(gemm="fp8", kv_cache="fp8", moe="nvfp4")
    assert formats_of(known(LLAMA), asked) == Formats("fp8", "nvfp4", "bf16", "fp8")
    assert formats_of(known(LATENT), asked).linear == "fp8_block"
    assert formats_of(known("openai/gpt-oss-120b"), asked).experts == "mxfp4"
    assert formats_of(known("openai/gpt-oss-120b"), asked).linear == "bf16"
