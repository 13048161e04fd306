from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.engines._vllm_rules import RULES
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from tests.runtimes.test_vllm_rules_arguments import ARGUMENTS
from tests.runtimes.test_vllm_rules_precision import PRECISIONS
from tests.runtimes.vllm_refusals import LATENT, LLAMA, MIXTURE, TINY, layout_of, refused


def test_the_defaults_are_accepted() -> None:
    assert refused() is None
    assert refused(None) is None


LAYOUTS: list[tuple[ModelFacts | None, ParallelLayout, str | None]] = [
    (LLAMA, layout_of(tp=3), "heads_divided: tp=3 does not divide 64 attention heads; valid: 1"),
    (
        replace(TINY, heads=12, kv_heads=4),
        layout_of(tp=6),
        "kv_heads_shared: tp=6 neither divides 4 KV heads nor is a multiple of them; "
        "valid: 1, 2, 4, 8",
    ),
    (LLAMA, layout_of(tp=16), None),
    (
        replace(TINY, heads=12, kv_heads=12, intermediate=100),
        layout_of(tp=3),
        "intermediate_divided: tp=3 does not divide 100 columns of the MLP (intermediate_size); "
        "valid: 1, 2, 4, 5",
    ),
    (LLAMA, layout_of(pp=80), None),
    (LLAMA, layout_of(pp=81), "stages_have_layers: pp=81 exceeds 80 layers; valid: 1 to 80"),
    (None, layout_of(moe_cluster=2), "degree_supported: vllm has no moe_cluster"),
    (None, layout_of(moe_dense_tp=1), "degree_supported: vllm has no moe_dense_tp"),
    (None, layout_of(cp=2, pcp=4), "context_named_once: cp=2 and pcp=4 are one degree"),
    (LATENT, layout_of(cp=2, pcp=2), None),
    (None, layout_of(tp=4, attention_dp=3), "attention_groups: attention_dp=3 does not divide 4"),
    (None, layout_of(tp=4, attention_dp=2, dp=2), "attention_groups: attention_dp=2 and dp=2 are"),
    (TINY, layout_of(tp=4, attention_dp=2), "experts_exist: attention_dp=2 needs a mixture"),
    (
        MIXTURE,
        layout_of(tp=32, attention_dp=2),
        "heads_divided: tp/attention_dp=16 does not divide 8 attention heads",
    ),
    (MIXTURE, layout_of(tp=8, attention_dp=4, ep=8), None),
    (LLAMA, layout_of(tp=16, dcp=2), None),
    (LLAMA, layout_of(tp=16, dcp=3), "decode_context_divides: dcp=3 does not divide 16"),
    (LLAMA, layout_of(tp=16, dcp=4), "decode_context_over_heads: dcp=4 needs as many"),
    (LLAMA, layout_of(tp=8, dcp=2), "decode_context_over_heads: dcp=2 needs as many copies"),
    (LATENT, layout_of(tp=8, dcp=8), None),
    (LATENT, layout_of(tp=4, pcp=2, dcp=8), None),
    (
        LATENT,
        layout_of(tp=4, pcp=2, dcp=4),
        "decode_context_divides: dcp=4 is neither 1, pcp=2 nor tp*pcp=8; valid: 1, 2, 8",
    ),
    (TINY, layout_of(pcp=2), "prefill_context_supported: pcp=2 needs multi-head latent attention"),
    (TINY, layout_of(tp=2, ep=2), "experts_exist: ep needs a mixture of experts; tiny has"),
    (MIXTURE, layout_of(tp=4, ep=2), "experts_over_all_ranks: ep=2 is not the 4 ranks"),
    (MIXTURE, layout_of(tp=2, dp=2, ep=4), None),
    (MIXTURE, layout_of(tp=4, ep=4, moe_ep=2), "experts_named_once: ep=4 and moe_ep=2 name one"),
    (MIXTURE, layout_of(tp=4, moe_tp=4), None),
    (MIXTURE, layout_of(tp=4, moe_tp=1, ep=4), None),
    (
        MIXTURE,
        layout_of(tp=4, moe_tp=2),
        "experts_sharded_or_whole: moe_tp=2 with ep=1 does not share out the 4 ranks of "
        "tp*pcp*dp; valid: moe_tp=4 ep=1, moe_tp=1 ep=4",
    ),
    (
        replace(MIXTURE, moe_intermediate=90),
        layout_of(tp=4),
        "expert_width_divided: tp*pcp*dp=4 does not divide 90 columns of each expert",
    ),
    (replace(MIXTURE, moe_intermediate=90), layout_of(tp=4, ep=4), None),
]  # fmt: skip


@pytest.mark.parametrize(("model", "layout", "expected"), LAYOUTS, ids=str)
def test_layouts(model: ModelFacts | None, layout: ParallelLayout, expected: str | None) -> None:
    found = refused(model, layout=layout)
    assert found is None if expected is None else str(found).startswith(expected), found


@given(tp=st.integers(1, 64), heads=st.integers(1, 256))
def test_heads_rule_is_divisibility(tp: int, heads: int) -> None:
    broken = refused(ModelFacts("m", 1, 64, heads, heads, 64, 0, 64), layout=layout_of(tp=tp))
    assert (broken is None) == (heads % tp == 0)
    if broken:
        valid = [int(n) for n in broken.rpartition("valid: ")[2].split(", ")]
        assert valid
        assert all(heads % n == 0 for n in valid)


NODES: list[tuple[ParallelLayout, int, Mapping[str, Json], Mapping[str, Json], str | None]] = [
    (layout_of(tp=8, pp=2), 2, {}, {}, None),
    (layout_of(tp=2, dp=4), 2, {}, {}, None),
    (layout_of(tp=4, dp=2), 4, {}, {}, None),
    (layout_of(tp=2, dp=3), 2, {}, {}, "nodes_share_ranks: nodes=2 do not share 6 GPUs in 3"),
    (layout_of(tp=1), 2, {}, {}, "nodes_share_ranks: nodes=2 do not share 1 GPUs"),
    (
        layout_of(tp=2), 2, {"distributed-executor-backend": "ray"}, {},
        "executor_over_nodes: distributed-executor-backend=ray does not span nodes=2; valid: mp",
    ),
    (
        layout_of(tp=2), 2, {"data-parallel-backend": "ray"}, {},
        "executor_over_nodes: data-parallel-backend=ray does not go with nodes=2",
    ),
    (layout_of(tp=2), 2, {}, {"entrypoint": "module"}, "executor_over_nodes: nodes=2 need"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "nodes", "args", "options", "expected"), NODES, ids=str)
def test_nodes(
    layout: ParallelLayout,
    nodes: int,
    args: Mapping[str, Json],
    options: Mapping[str, Json],
    expected: str | None,
) -> None:
    found = refused(None, layout=layout, nodes=nodes, args=args, options=options)
    assert found is None if expected is None else str(found).startswith(expected), found


def test_every_rule_is_tried_here_and_named_as_its_function() -> None:
    told = [expected for _, _, expected in LAYOUTS] + [expected for *_, expected in NODES]
    told += [expected for _, expected in ARGUMENTS] + [expected for *_, expected in PRECISIONS]
    tried = {expected.partition(":")[0] for expected in told if expected}
    elsewhere = {
        "context_interleave", "scheduling_ahead", "transfer_over_contexts", "weights_fit",
    }  # fmt: skip
    assert tried | elsewhere == {rule.__name__ for rule in RULES}
