"""One phase layer by layer: what each degree saves, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from runtimes.hardware import ACCELERATORS
from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves
from search.perfmodel.layers import LayerGroup, LayerKind, layers_of, spread_layers
from search.perfmodel.phases import PhaseReport, phase_cost
from search.perfmodel.question import Spread
from tests.search.perfmodel.deployments import LATENT, LLAMA, catalogue, known

H200 = ACCELERATORS["H200"]


def cost(
    model: ModelFacts,
    groups: tuple[LayerGroup, ...],
    phase: Literal["prefill", "decode"] = "prefill",
    *,
    batch: int = 4,
    new: int = 1024,
    context: int = 0,
    number: str = "bf16",
    curves: tuple[NodeCurves, ...] = (),
) -> PhaseReport:
    return phase_cost(
        model, H200, groups, quantization=dict.fromkeys(layers_of(model), number), phase=phase,
        batch=batch, new_tokens=new, context_tokens=context, curves=curves,
    )  # fmt: skip


def one(kind: LayerKind, **degrees: int) -> tuple[LayerGroup, ...]:
    return (LayerGroup(kind=kind, count=1, **degrees),)


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_a_whole_model_on_one_chip_weighs_what_its_facts_say(model: ModelFacts) -> None:
    found = cost(model, spread_layers(model, Spread()), "decode", new=1, context=1023)
    assert found.weights_bytes == pytest.approx(2 * model.parameters, rel=1e-3)
    assert found.weights_bytes == found.weights_bytes_per_chip
    assert found.chips == 1
    assert found.communication_s == 0
    assert found.cost.seconds > 0


def test_a_hundred_layers_of_like_degrees_are_a_group_of_a_hundred() -> None:
    model = replace(known(LLAMA), layers=100)
    for kind in (LayerKind.ATTENTION, LayerKind.FEEDFORWARD, LayerKind.NORM):
        apart = cost(model, one(kind, tp=4, cp=2, kv_split=2) * 100)
        group = LayerGroup(kind=kind, count=100, tp=4, cp=2, kv_split=2)
        together = cost(model, (group,))
        for name in ("flops", "flops_per_chip", "weights_bytes", "kv_cache_bytes", "chips"):
            assert getattr(apart, name) == pytest.approx(getattr(together, name)), name
        assert apart.activation_bytes == together.activation_bytes
        assert apart.cost.seconds == pytest.approx(together.cost.seconds)


def test_a_hundred_layers_of_different_degrees_add_up() -> None:
    model = replace(known(LLAMA), layers=100)
    degrees = [(tp, cp) for tp in (1, 2, 4, 8) for cp in (1, 2)]
    groups = tuple(
        LayerGroup(kind=LayerKind.ATTENTION, count=1, tp=tp, cp=cp, kv_split=cp)
        for tp, cp in (degrees[index % 8] for index in range(100))
    )
    whole = cost(model, groups)
    parts = [cost(model, (group,)) for group in groups]
    fixed = parts[0].cost.overhead_s
    seconds = sum(part.cost.seconds - fixed for part in parts) + fixed
    assert whole.cost.seconds == pytest.approx(seconds)
    assert whole.flops == pytest.approx(sum(part.flops for part in parts))
    assert whole.weights_bytes == pytest.approx(sum(part.weights_bytes for part in parts))
    assert whole.chips == 16
    assert whole.activation_bytes == max(part.activation_bytes for part in parts)


def test_tensor_parallelism_splits_weights_and_work() -> None:
    model = known(LLAMA)
    alone, split = (cost(model, one(LayerKind.FEEDFORWARD, tp=tp)) for tp in (1, 8))
    assert split.weights_bytes_per_chip == alone.weights_bytes_per_chip / 8
    assert split.weights_bytes == alone.weights_bytes
    assert split.flops == pytest.approx(alone.flops)
    assert split.flops_per_chip == pytest.approx(alone.flops / 8)
    assert split.chips == 8
    assert split.communication_s > alone.communication_s == 0


def test_heads_of_keys_are_copied_where_ranks_outnumber_them() -> None:
    model = known(LLAMA)
    eight, sixteen = (
        cost(model, one(LayerKind.ATTENTION, tp=tp), "decode", new=1, context=999) for tp in (8, 16)
    )
    assert sixteen.kv_cache_bytes_per_chip == eight.kv_cache_bytes_per_chip
    assert sixteen.kv_cache_bytes == 2 * eight.kv_cache_bytes
    cached = 4 * 1000 * 2 * model.kv_heads * model.head_dim * 2
    assert eight.kv_cache_bytes == cached


def test_context_parallelism_splits_tokens_and_cache_not_weights() -> None:
    model = known(LLAMA)
    alone, split = (cost(model, one(LayerKind.ATTENTION, cp=cp, kv_split=cp)) for cp in (1, 4))
    assert split.weights_bytes_per_chip == alone.weights_bytes_per_chip
    assert split.kv_cache_bytes_per_chip == alone.kv_cache_bytes_per_chip / 4
    assert split.activation_bytes_per_chip == alone.activation_bytes_per_chip / 4
    assert split.flops_per_chip == pytest.approx(alone.flops_per_chip / 4)


def test_sequence_parallelism_splits_what_lies_between_the_blocks() -> None:
    model = known(LLAMA)
    alone, split = (cost(model, one(LayerKind.NORM, sp=sp)) for sp in (1, 4))
    assert split.activation_bytes_per_chip == alone.activation_bytes_per_chip / 4
    assert split.weights_bytes_per_chip == alone.weights_bytes_per_chip
    assert split.cost.memory_s == pytest.approx(alone.cost.memory_s / 4)


def test_experts_are_spread_over_ranks() -> None:
    model = known(LATENT)
    alone, split = (cost(model, one(LayerKind.MOE, ep=ep)) for ep in (1, 8))
    assert split.chips == 8
    assert split.weights_bytes_per_chip < alone.weights_bytes_per_chip / 7


def test_a_tied_head_weighs_nothing_of_its_own() -> None:
    model = replace(known(LLAMA), tied=True)
    assert cost(model, one(LayerKind.LM_HEAD)).weights_bytes == 0
    embedding = cost(model, one(LayerKind.EMBEDDING, tp=4))
    assert embedding.weights_bytes_per_chip == model.vocab * model.hidden * 2 / 4


def test_narrow_formats_are_smaller_and_faster() -> None:
    model = known(LLAMA)
    groups = spread_layers(model, Spread())
    wide = cost(model, groups, "decode", new=1, context=4000)
    narrow = cost(model, groups, "decode", new=1, context=4000, number="fp8")
    assert narrow.weights_bytes == wide.weights_bytes / 2
    assert narrow.kv_cache_bytes == wide.kv_cache_bytes / 2
    assert narrow.cost.seconds < wide.cost.seconds


def test_a_decode_step_looks_back_and_a_prompt_at_itself() -> None:
    model = known(LLAMA)
    attention = one(LayerKind.ATTENTION)
    short, long = (
        cost(model, attention, "decode", new=1, context=context) for context in (100, 10_100)
    )
    looked = 4 * 4 * 10_000 * model.heads * model.head_dim
    assert long.flops - short.flops == looked
    assert long.cost.memory_s > short.cost.memory_s
    first, later = (cost(model, attention, context=context) for context in (0, 1024))
    assert later.flops > first.flops


def test_a_nodes_own_curves_replace_the_built_in_ones() -> None:
    model = known(LLAMA)
    slow = NodeCurves(
        accelerator="H200",
        gemm_flops={"bf16": ((16, 1e12), (4096, 1e13))},
        gemm_bytes_per_s={"bf16": 1e12},
        copy_bytes_per_s=1e12,
        prefill_attention_flops=((1024, 1e12), (8192, 1e13)),
        decode_attention_s=((1e6, 1e-4), (1e8, 1e-3)),
    )
    groups = spread_layers(model, Spread())
    usual, measured = cost(model, groups), cost(model, groups, curves=(slow,))
    assert measured.cost.compute_s > 10 * usual.cost.compute_s
    assert measured.flops == usual.flops
    # What is remembered of an accelerator is not what one node measured.
    assert cost(model, groups) == usual


def test_no_layers_take_one_chip_and_no_bytes() -> None:
    found = cost(known(LLAMA), ())
    assert (found.flops, found.weights_bytes, found.kv_cache_bytes, found.chips) == (0, 0, 0, 1)
    assert found.cost.compute_s == found.cost.memory_s == 0
