"""Layouts as spreads: each engine's own GPUs, and what its ranks share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from runtimes.engines.base import create_engine
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from search.perfmodel.question import Spread
from search.perfmodel.spread import spread_of

DENSE = "meta-llama/Llama-3.1-70B"
EXPERTS = "Qwen/Qwen3-235B-A22B"
LATENT = "deepseek-ai/DeepSeek-V3"
ENGINES = ("vllm", "sglang", "tensorrt_llm")


def known(name: str) -> ModelFacts:
    model = find_model(name)
    assert model is not None
    return model


def layouts() -> Iterator[ParallelLayout]:
    degrees = product((1, 2, 4, 8), (1, 2), (1, 2), (1, 2, 4, 8), (1, 2), (1, 2), (1, 2, 4, 8))
    for tp, pp, dp, ep, dcp, pcp, groups in degrees:
        yield ParallelLayout(tp, pp, dp, ep, dcp, pcp, attention_dp=groups)


def accepted(engine: str, model: ModelFacts) -> list[ParallelLayout]:
    refuse = create_engine(engine).refuse
    return [
        layout
        for layout in layouts()
        if refuse(EngineConfig(engine, model.name, layout=layout), model, None) is None
    ]


@pytest.mark.parametrize("model", [DENSE, EXPERTS, LATENT])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_spread_has_the_gpus_of_its_engine(engine: str, model: str) -> None:
    facts = known(model)
    found = accepted(engine, facts)
    assert len(found) > 15
    for layout in found:
        spread = spread_of(engine, layout, facts)
        assert spread.gpus == create_engine(engine).gpus(layout), str(layout)
        assert spread.expert_tp * spread.expert_ep <= spread.stage_gpus or not facts.is_moe
        assert spread.stage_gpus % (spread.expert_tp * spread.expert_ep) == 0 or not facts.is_moe
        assert spread.tp % spread.dcp == 0


def test_every_engine_and_every_layout_gets_some_spread() -> None:
    for engine, layout in product((*ENGINES, "toy"), layouts()):
        assert spread_of(engine, layout, known(LATENT)).gpus >= 1


class TestVllm:
    def test_ranks_of_a_dense_model_share_nothing(self) -> None:
        spread = spread_of("vllm", ParallelLayout(tp=2, dp=4), known(DENSE))
        assert (spread.tp, spread.groups, spread.replicas) == (2, 1, 4)

    def test_those_of_a_mixture_share_its_experts(self) -> None:
        sliced = spread_of("vllm", ParallelLayout(tp=2, dp=4), known(LATENT))
        assert (sliced.tp, sliced.groups, sliced.replicas) == (2, 4, 1)
        assert (sliced.expert_tp, sliced.expert_ep, sliced.dense_tp) == (8, 1, 2)
        whole = spread_of("vllm", ParallelLayout(tp=2, dp=4, ep=8), known(LATENT))
        assert (whole.expert_tp, whole.expert_ep) == (1, 8)

    def test_decode_ranks_are_those_of_prefill_first(self) -> None:
        for dcp, further in ((1, 1), (2, 1), (8, 4)):
            layout = ParallelLayout(tp=4, pcp=2, dcp=dcp)
            assert spread_of("vllm", layout, known(LATENT)).dcp == further


class TestSglang:
    def test_attention_groups_lie_within_the_tensor_ranks(self) -> None:
        layout = ParallelLayout(tp=8, attention_dp=4, ep=8, dp=2)
        spread = spread_of("sglang", layout, known(LATENT))
        assert (spread.tp, spread.groups, spread.replicas) == (2, 4, 2)
        assert (spread.expert_tp, spread.expert_ep, spread.dense_tp) == (1, 8, 8)

    def test_dense_layers_may_be_copied(self) -> None:
        layout = ParallelLayout(tp=8, attention_dp=8, moe_dense_tp=1)
        assert spread_of("sglang", layout, known(LATENT)).dense_tp == 1

    def test_a_prompt_is_split_within_the_tensor_ranks(self) -> None:
        spread = spread_of("sglang", ParallelLayout(tp=8, pcp=2), known(LATENT))
        assert (spread.tp, spread.pcp, spread.stage_gpus) == (4, 2, 8)


class TestTensorRtLlm:
    def test_attention_groups_are_all_ranks_and_copy_dense_layers(self) -> None:
        layout = ParallelLayout(tp=8, attention_dp=8, moe_ep=8)
        spread = spread_of("tensorrt_llm", layout, known(LATENT))
        assert (spread.tp, spread.groups, spread.dense_tp) == (1, 8, 1)
        assert (spread.expert_tp, spread.expert_ep) == (1, 8)

    def test_shards_leave_the_rest_to_ranks(self) -> None:
        layout = ParallelLayout(tp=8, moe_tp=2)
        spread = spread_of("tensorrt_llm", layout, known(EXPERTS))
        assert (spread.expert_tp, spread.expert_ep) == (2, 4)

    def test_ranks_of_decode_context_compute_the_experts_too(self) -> None:
        spread = spread_of("tensorrt_llm", ParallelLayout(tp=2, dcp=4), known(LATENT))
        assert (spread.gpus, spread.pcp, spread.dense_tp, spread.expert_tp) == (8, 4, 8, 8)


def test_an_engine_that_is_not_known_is_taken_at_its_word() -> None:
    layout = ParallelLayout(tp=4, pp=2, dp=3, attention_dp=2, ep=2)
    assert spread_of("toy", layout, known(EXPERTS)) == Spread(
        tp=2, groups=2, pp=2, dense_tp=4, expert_tp=2, expert_ep=2, replicas=3
    )
