"""Arguments that win over a layout: what the engines then spread a model over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.engines.base import ENGINES, create_engine
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig

NAMES = ("vllm", "sglang", "tensorrt_llm")


def spread(engine: str, args: dict[str, Json] | None = None, **layout: int) -> ParallelLayout:
    config = EngineConfig(
        engine,
        "deepseek-ai/DeepSeek-V3",
        layout=ParallelLayout(**layout),
        args=args or {},
        options=ENGINES.get(engine).required_options,
    )
    return create_engine(engine).layout(config)


@pytest.mark.parametrize("engine", ENGINES.names())
def test_without_arguments_a_layout_is_what_it_says(engine: str) -> None:
    assert spread(engine, tp=8, ep=8) == ParallelLayout(tp=8, ep=8)
    assert spread(engine, tp=4, pp=2, dp=2) == ParallelLayout(tp=4, pp=2, dp=2)


@given(
    engine=st.sampled_from(NAMES),
    tp=st.sampled_from([1, 2, 8]),
    dp=st.sampled_from([1, 2]),
    experts=st.integers(-1, 16),
    shards=st.integers(-1, 16),
    on=st.booleans(),
)
def test_whatever_arguments_say_the_gpus_stay(
    engine: str, tp: int, dp: int, experts: int, shards: int, on: bool
) -> None:
    given: dict[str, dict[str, Json]] = {
        "vllm": {"enable-expert-parallel": on, "decode-context-parallel-size": experts},
        "sglang": {"ep-size": experts, "moe-dense-tp-size": shards, "dcp-size": shards},
        "tensorrt_llm": {
            "moe_expert_parallel_size": experts,
            "moe_tensor_parallel_size": shards,
            "enable_attention_dp": on,
        },
    }
    found = spread(engine, given[engine], tp=tp, dp=dp)
    assert create_engine(engine).gpus(found) == create_engine(engine).gpus(
        ParallelLayout(tp=tp, dp=dp)
    )


class TestVllm:
    def test_experts_lie_whole_on_all_ranks_or_on_none(self) -> None:
        found = spread("vllm", {"enable-expert-parallel": True}, tp=4, dp=2)
        assert found == ParallelLayout(tp=4, dp=2, ep=8)
        assert spread("vllm", {"no-enable-expert-parallel": True}, tp=8, ep=8) == ParallelLayout(
            tp=8
        )

    def test_ranks_of_decode_context(self) -> None:
        assert spread("vllm", {"dcp": 4}, tp=8).dcp == 4


class TestSglang:
    def test_degrees(self) -> None:
        args: dict[str, Json] = {"ep-size": 8, "attn-dp-size": 4, "moe-dense-tp-size": 1}
        expected = ParallelLayout(tp=8, ep=8, attention_dp=4, moe_dense_tp=1)
        assert spread("sglang", args, tp=8, ep=2) == expected

    def test_some_ways_to_the_experts_take_all_ranks(self) -> None:
        assert spread("sglang", {"moe-a2a-backend": "deepep"}, tp=8).ep == 8

    def test_a_split_prompt_has_one_name(self) -> None:
        assert spread("sglang", tp=8, cp=2) == ParallelLayout(tp=8, pcp=2)


class TestTensorRtLlm:
    def test_degrees(self) -> None:
        args: dict[str, Json] = {"enable_attention_dp": True, "moe_expert_parallel_size": 4}
        expected = ParallelLayout(tp=8, ep=4, attention_dp=8)
        assert spread("tensorrt_llm", args, tp=8) == expected
        off: dict[str, Json] = {"enable_attention_dp": False}
        assert spread("tensorrt_llm", off, tp=8, attention_dp=8).attention_dp == 1

    def test_shards_leave_the_rest_to_ranks(self) -> None:
        found = spread("tensorrt_llm", {"moe_tensor_parallel_size": 2}, tp=8)
        assert (found.moe_tp, found.ep) == (2, 4)


def test_a_simulation_spreads_as_what_it_imitates() -> None:
    args: dict[str, Json] = {"enable-expert-parallel": True}
    assert spread("simulated", args, tp=8) == spread("vllm", args, tp=8)
