"""Every rule of SGLang: what it refuses and in which words, and the nearest thing it lets pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtimes.engines._sglang_rules import ALL_RULES
from runtimes.engines.sglang import SglangEngine
from runtimes.hardware import find_accelerator
from runtimes.model import MlaShape, ModelFacts
from runtimes.parallel import ParallelLayout as Layout
from runtimes.plan import EngineConfig
from runtimes.quantization import CheckpointQuantization, Quantization

ENGINE = SglangEngine()
LLAMA = ModelFacts(
    "llama", 80, 8192, 64, 8, 128, 28672, 128256, 131072, architecture="LlamaForCausalLM"
)
QWEN = ModelFacts(
    "qwen-moe", 48, 2048, 32, 4, 128, 0, 151936, 40960, experts=128, experts_per_token=8,
    moe_intermediate=768, architecture="Qwen3MoeForCausalLM",
)  # fmt: skip
DEEPSEEK = ModelFacts(
    "deepseek", 61, 7168, 128, 128, 128, 18432, 129280, 163840, experts=256, experts_per_token=8,
    shared_experts=1, moe_intermediate=2048, dense_layers=3, mla=MlaShape(1536, 512, 128, 64, 128),
    architecture="DeepseekV32ForCausalLM",
)  # fmt: skip
GPT_OSS = replace(QWEN, name="gpt-oss", architecture="GptOssForCausalLM", moe_intermediate=2880)
FP8 = replace(QWEN, quantization=CheckpointQuantization("fp8", "fp8_block"))
AWQ = replace(LLAMA, quantization=CheckpointQuantization("awq", "int4"))


def refused(
    model: ModelFacts | None = None, accelerator: str | None = None, **fields: Any
) -> tuple[str, str] | None:
    device = find_accelerator(accelerator) if accelerator else None
    config = EngineConfig("sglang", fields.pop("name", "m/x"), **fields)
    refusal = ENGINE.refuse(config, model, device)
    return (refusal.rule, refusal.message) if refusal else None


def args(**values: object) -> dict[str, Any]:
    return {"args": {name.replace("_", "-"): value for name, value in values.items()}}


def q(**values: Any) -> dict[str, Any]:
    return {"quantization": Quantization(**values)}


def layout(**degrees: int) -> dict[str, Any]:
    return {"layout": Layout(**degrees)}


# (fact, rule, what it says, what is refused, what passes)
CASES: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("-", "degree_supported", "SGLang has no moe_cluster (got moe_cluster=2)",
     layout(tp=4, moe_cluster=2), layout(tp=4)),
    ("-", "one_context_parallel", "cp=2 and pcp=4 name one thing",
     layout(tp=8, cp=2, pcp=4), layout(tp=8, cp=2, pcp=2)),
    ("S1", "attention_divides_tp", "attention_dp=3 does not divide tp=4; valid: 1, 2, 4",
     layout(tp=4, attention_dp=3), layout(tp=4, attention_dp=2)),
    ("S1", "replicas_without_attention_groups", "dp=2 does not go with attention_dp=2",
     layout(tp=4, dp=2, attention_dp=2), layout(tp=4, dp=2)),
    ("S2", "attention_divides_tp", "cp=3 does not divide tp=4; valid: 1, 2, 4",
     layout(tp=4, cp=3), layout(tp=4, cp=4)),
    ("S2", "attention_divides_tp", "attention_dp*cp=8 does not divide tp=4",
     layout(tp=4, attention_dp=4, cp=2), layout(tp=4, attention_dp=2, cp=2)),
    ("S3", "heads_divided", "tp=3 does not divide 64 attention heads; valid: 1, 2, 4, 8",
     {"model": LLAMA, **layout(tp=3)}, {"model": LLAMA, **layout(tp=4)}),
    ("S3", "heads_divided", "tp/attention_dp=64 does not divide 32 attention heads",
     {"model": QWEN, **layout(tp=128, attention_dp=2)},
     {"model": QWEN, **layout(tp=128, attention_dp=4, ep=128)}),
    ("S3", "heads_divided", "tp=128 does not divide 64 attention heads",
     {"model": LLAMA, **layout(tp=128, attention_dp=2)}, {"model": LLAMA, **layout(tp=64)}),
    ("S3", "kv_heads_shared", "tp=6 neither divides 4 KV heads nor is a multiple of them",
     {"model": replace(QWEN, heads=36), **layout(tp=6)},
     {"model": replace(QWEN, heads=36), **layout(tp=12, ep=4)}),
    ("W", "mlp_divided", "tp=64 does not divide 28704 columns of the MLP",
     {"model": replace(LLAMA, intermediate=28704), **layout(tp=64)},
     {"model": LLAMA, **layout(tp=64)}),
    ("W", "stages_have_layers", "pp=81 exceeds 80 layers; valid: 1 to 80",
     {"model": LLAMA, **layout(pp=81)}, {"model": LLAMA, **layout(pp=80)}),
    ("S4", "experts_divide_tp", "ep=3 does not divide tp=4; valid: 1, 2, 4",
     layout(tp=4, ep=3), layout(tp=4, ep=2)),
    ("S4", "expert_divided", "tp/ep=7 does not divide 768 columns of an expert",
     {"model": replace(QWEN, heads=28, kv_heads=28), **layout(tp=14, ep=2)},
     {"model": QWEN, **layout(tp=8, ep=2)}),
    ("S4", "moe_tp_implied", "moe_tp=4, but tp=8 over ep=4 leaves 2; valid: 2",
     layout(tp=8, ep=4, moe_tp=4), layout(tp=8, ep=4, moe_tp=2)),
    ("S4", "experts_named_once", "ep=4 and moe_ep=2 name one thing",
     layout(tp=8, ep=4, moe_ep=2), layout(tp=8, moe_ep=2)),
    ("-", "experts_needed", "ep=2, but llama has no experts; valid: 1",
     {"model": LLAMA, **layout(tp=4, ep=2)}, {"model": QWEN, **layout(tp=4, ep=2)}),
    ("S5", "moe_replicas", "moe-dp-size=2 does not go with pp=2",
     {**layout(tp=4, cp=2, pp=2), **args(moe_dp_size=2)},
     {**layout(tp=4, cp=2), **args(moe_dp_size=2)}),
    ("S5", "moe_replicas", "ep=2 times moe-dp-size=2 must be tp=8",
     {**layout(tp=8, cp=2, ep=2), **args(moe_dp_size=2)},
     {**layout(tp=8, cp=2, ep=4), **args(moe_dp_size=2)}),
    ("S5", "moe_replicas", "moe-dp-size=2 must be cp=4",
     {**layout(tp=8, cp=4), **args(moe_dp_size=2)}, {**layout(tp=8, cp=4), **args(moe_dp_size=4)}),
    ("S6", "experts_divided", "ep=12 does not divide 128 experts",
     {"model": replace(QWEN, heads=12), **layout(tp=12), **args(moe_a2a_backend="deepep")},
     {"model": QWEN, **layout(tp=16), **args(moe_a2a_backend="deepep")}),
    ("S7", "runner_spreads_whole",
     "moe-runner-backend=flashinfer_cutlass with ep=2; valid: ep 1, 4",
     {**layout(tp=4, ep=2), **args(moe_runner_backend="flashinfer_cutlass")},
     {**layout(tp=4, ep=4), **args(moe_runner_backend="flashinfer_cutlass")}),
    ("S7", "runner_spreads_whole", "moe-runner-backend=cutlass in fp8 with ep=4; valid: ep 1",
     {**layout(tp=4, ep=4), **q(gemm="fp8"), **args(moe_runner_backend="cutlass")},
     {**layout(tp=4), **q(gemm="fp8"), **args(moe_runner_backend="cutlass")}),
    ("S7", "runner_spreads_whole", "moe-runner-backend=triton_kernel with ep=4",
     {"model": GPT_OSS, **layout(tp=4, ep=4), **args(moe_runner_backend="triton_kernel")},
     {"model": GPT_OSS, **layout(tp=4), **args(moe_runner_backend="triton_kernel")}),
    ("S7", "runner_takes_method", "moe-runner-backend=flashinfer_trtllm with quantization=w8a8_fp8",
     {**q(gemm="fp8_channel"), **args(moe_runner_backend="flashinfer_trtllm")},
     {**q(gemm="fp8"), **args(moe_runner_backend="flashinfer_trtllm")}),
    ("S7", "all_to_all_groups",
     "moe-a2a-backend=flashinfer with attention_dp=2; valid: attention_dp 4",
     {**layout(tp=4, attention_dp=2), **args(moe_a2a_backend="flashinfer")},
     {**layout(tp=4, attention_dp=4), **args(moe_a2a_backend="flashinfer")}),
    ("S7", "all_to_all_groups", "moe-a2a-backend=pplx with attention_dp=1",
     {**layout(tp=4), **args(moe_a2a_backend="pplx")},
     {**layout(tp=4, attention_dp=2), **args(moe_a2a_backend="pplx")}),
    ("S8", "experts_divided", "ep=3 does not divide 128 experts; valid: 1, 2, 4, 8",
     {"model": replace(QWEN, heads=24, kv_heads=12), **layout(tp=3, ep=3)},
     {"model": QWEN, **layout(tp=4, ep=4)}),
    ("S9", "moe_dense_tp_valid", "moe_dense_tp=2 at tp=4; valid: 1, 4",
     layout(tp=4, moe_dense_tp=2), layout(tp=4, moe_dense_tp=1)),
    ("S10", "nodes_share_ranks", "nodes=3 does not divide 4 ranks (tp * pp); valid: 1, 2, 4",
     {**layout(tp=4), "nodes": 3}, {**layout(tp=2, pp=2), "nodes": 4}),
    ("S10", "replicas_on_one_node", "dp=2 does not go with nodes=2",
     {**layout(tp=4, dp=2), "nodes": 2}, {**layout(tp=4, attention_dp=2), "nodes": 2}),
    ("S11", "stages_alone", "speculative-algorithm=NGRAM does not go with pp=2",
     {**layout(pp=2), **args(speculative_algorithm="NGRAM")}, args(speculative_algorithm="NGRAM")),
    ("S11", "stages_alone", "speculative-algorithm=EAGLE does not go with pp=2",
     {**layout(pp=2), **args(speculative_algorithm="EAGLE")},
     {**layout(pp=2), **args(speculative_algorithm="EAGLE"),
      "env": {"SGLANG_ENABLE_PP_SPEC": "1"}}),
    ("S11", "stages_alone", "min-free-slots-delay does not go with pp=2",
     {**layout(pp=2), **args(min_free_slots_delay=3)}, args(min_free_slots_delay=3)),
    ("S12", "dcp_divides_tp", "dcp=3 does not divide tp=4; valid: 1, 2, 4",
     layout(tp=4, dcp=3), layout(tp=4, dcp=2)),
    ("S12", "dcp_without_prefill_cp", "dcp=2 does not go with cp=2",
     layout(tp=4, dcp=2, cp=2), layout(tp=4, dcp=2)),
    ("S12", "dcp_backend_fits", "dcp-comm-backend=a2a needs dcp above 1",
     {**layout(tp=4), **args(dcp_comm_backend="a2a")},
     {**layout(tp=4, dcp=2), **args(dcp_comm_backend="a2a")}),
    ("S12", "dcp_backend_fits", "dcp-comm-backend=fi_a2a needs NVIDIA GPUs",
     {"accelerator": "MI300X", **layout(tp=4, dcp=2), **args(dcp_comm_backend="fi_a2a")},
     {"accelerator": "B200", **layout(tp=4, dcp=2), **args(dcp_comm_backend="fi_a2a")}),
    ("S12", "dcp_backend_fits", "dcp-replicate-q-proj needs dcp-comm-backend a2a or fi_a2a",
     {**layout(tp=4, dcp=2), **args(dcp_replicate_q_proj=True, dcp_comm_backend="ag_rs")},
     {**layout(tp=4, dcp=2), **args(dcp_replicate_q_proj=True, dcp_comm_backend="a2a")}),
    ("S12", "tiers_hold_split_cache", "enable-hierarchical-cache with dcp=2",
     {"model": QWEN, **layout(tp=4, dcp=2), **args(enable_hierarchical_cache=True)},
     {"model": DEEPSEEK, **layout(tp=4, dcp=2), **args(enable_hierarchical_cache=True)}),
    ("S13", "prefill_cp_has_strategy",
     "with cp-strategy=none; valid: cp-strategy zigzag, interleave",
     {**layout(tp=4, cp=2), **args(cp_strategy=None)}, layout(tp=4, cp=2)),
    ("S13", "prefill_cp_has_strategy", "of DeepseekV32ForCausalLM with cp-strategy=zigzag",
     {"model": DEEPSEEK, **layout(tp=4, cp=2)},
     {"model": DEEPSEEK, **layout(tp=4, cp=2), **args(cp_strategy="interleave")}),
    ("S14", "chunk_fills_pages",
     "chunked-prefill-size=1000 is no multiple of page-size=64; valid: 896, 960, 1024, 1088",
     args(chunked_prefill_size=1000, page_size=64), args(chunked_prefill_size=1024, page_size=64)),
    ("S14", "chunk_fills_pages", "chunked-prefill-size=64 over attention_dp=2 is no multiple",
     {**layout(tp=2, attention_dp=2), **args(chunked_prefill_size=64, page_size=64)},
     {**layout(tp=2, attention_dp=2), **args(chunked_prefill_size=-1, page_size=64)}),
    ("S15", "chunk_fills_pages", "chunked-prefill-size=1000 is no multiple of page-size=64",
     args(chunked_prefill_size=1000, attention_backend="flashmla", page_size=8),
     args(chunked_prefill_size=1000, attention_backend="fa3", page_size=8)),
    ("S16", "head_split_fits",
     "enable-tp-lm-head-all-to-all needs attention_dp=4, got attention_dp=2",
     {**layout(tp=4, attention_dp=2), **args(enable_tp_lm_head_all_to_all=True)},
     {**layout(tp=4, attention_dp=4), **args(enable_tp_lm_head_all_to_all=True)}),
    ("S16", "head_split_fits", "does not go with enable-dp-lm-head",
     {**layout(tp=4, attention_dp=4),
      **args(enable_tp_lm_head_all_to_all=True, enable_dp_lm_head=True)},
     {**layout(tp=4, attention_dp=4), **args(enable_dp_lm_head=True)}),
    ("S17", "mixed_chunk_speculates", "does not go with speculative-algorithm=NGRAM",
     args(enable_mixed_chunk=True, speculative_algorithm="NGRAM"),
     args(enable_mixed_chunk=True, speculative_algorithm="EAGLE3")),
    ("S17", "priorities_have_policy", "with schedule-policy=lpm; valid: fcfs, lof",
     args(enable_priority_scheduling=True, schedule_policy="lpm"),
     args(enable_priority_scheduling=True)),
    ("S17", "priorities_have_policy", "retraction-policy=priority needs enable-priority-scheduling",
     args(retraction_policy="priority"),
     args(retraction_policy="priority", enable_priority_scheduling=True)),
    ("S17", "tiers_have_tree", "enable-hierarchical-cache and disable-radix-cache",
     args(enable_hicache=True, disable_radix_cache=True), args(enable_hicache=True)),
    ("S18", "overlap_has_traffic", "needs a moe-a2a-backend or attention_dp above 1",
     {**layout(tp=4), **args(enable_two_batch_overlap=True)},
     {**layout(tp=4, attention_dp=4), **args(enable_two_batch_overlap=True)}),
    ("S19", "hardware_stores",
     "kv-cache-dtype=nvfp4 needs compute capability 10.0 or 12.0, and H100 has 9.0",
     {"accelerator": "H100", **q(kv_cache="nvfp4")},
     {"accelerator": "B200", **q(kv_cache="nvfp4")}),
    ("S19", "backend_reads_cache",
     "kv-cache-dtype=nvfp4 does not go with enable-hierarchical-cache",
     {**q(kv_cache="nvfp4"), **args(enable_hierarchical_cache=True)}, q(kv_cache="nvfp4")),
    ("S19", "backend_reads_cache", "with decode-attention-backend=triton; valid: trtllm_mha",
     {**q(kv_cache="nvfp4"), **args(decode_attention_backend="triton")},
     {**q(kv_cache="nvfp4"), **args(decode_attention_backend="trtllm_mha")}),
    ("S19", "backend_reads_cache", "attention backend trtllm_mla with kv-cache-dtype=fp8_e5m2",
     {**q(kv_cache="fp8_e5m2"), **args(attention_backend="trtllm_mla")},
     {**q(kv_cache="fp8"), **args(attention_backend="trtllm_mla")}),
    ("S19", "hardware_has_backend",
     "trtllm_mha needs compute capability 9.0, 10.0, 12.0, and A100-80GB has 8.0",
     {"accelerator": "A100-80GB", **args(attention_backend="trtllm_mha")},
     {"accelerator": "H100", **args(attention_backend="trtllm_mha")}),
    ("-", "backend_reads_phase", "prefill-attention-backend=cutedsl_mla; it decodes only",
     args(prefill_attention_backend="cutedsl_mla"), args(decode_attention_backend="cutedsl_mla")),
    ("S20", "name_without_colon", "where SGLang takes no ':'",
     {"name": "/models/a:b"}, {"name": "s3://bucket/model"}),
    ("3", "weights_expressible", "gemm=int8: SGLang reads such weights from a checkpoint",
     q(gemm="int8"), q(gemm="fp8_channel")),
    ("3", "weights_expressible", "gemm=int4 is what the checkpoint has already; leave gemm out",
     {"model": AWQ, **q(gemm="int4")}, {"model": AWQ}),
    ("3", "experts_expressible", "moe=nvfp4 beside gemm=fp8", q(gemm="fp8", moe="nvfp4"),
     q(gemm="fp8", moe="int4")),
    ("3", "attention_expressible", "attention=fp8: SGLang has no argument for it",
     q(attention="fp8"), q(kv_cache="fp8")),
    ("3", "kv_cache_expressible",
     "SGLang has no kv_cache=int8; valid: bf16, fp8, fp8_e5m2, mxfp8, nvfp4",
     q(kv_cache="int8"), q(kv_cache="bf16")),
    ("3", "checkpoint_is_sixteen_bits",
     "gemm=bf16, but the checkpoint is quantised (awq, says config.json)",
     {"model": AWQ, **q(gemm="bf16")}, {"model": LLAMA, **q(gemm="bf16")}),
    ("3", "method_fits_checkpoint", "quantization=fp8, but the checkpoint is awq",
     {"model": AWQ, **q(gemm="fp8")}, {"model": FP8, **q(gemm="fp8")}),
    ("3", "method_has_checkpoint",
     "quantization=w4afp8 reads a checkpoint quantised so, and qwen-moe is not",
     {"model": QWEN, **q(gemm="fp8", moe="int4")},
     {"model": replace(QWEN, quantization=CheckpointQuantization("w4afp8")),
      **q(gemm="fp8", moe="int4")}),
    ("3", "hardware_multiplies", "needs a GPU that multiplies in fp8, and A100-80GB has 8.0",
     {"accelerator": "A100-80GB", **q(gemm="fp8")}, {"accelerator": "L4", **q(gemm="fp8")}),
    ("3", "hardware_multiplies", "gemm=nvfp4 needs compute capability 10.0, and H100 has 9.0",
     {"accelerator": "H100", **q(gemm="nvfp4")}, {"accelerator": "B200", **q(gemm="nvfp4")}),
    ("3", "hardware_multiplies", "gemm=mxfp4 is made on AMD GPUs only, and B200 is none",
     {"accelerator": "B200", **q(gemm="mxfp4")}, {"accelerator": "MI355X", **q(gemm="mxfp4")}),
    ("8", "context_within_positions", "context-length=200000 exceeds the 131072 positions of llama",
     {"model": LLAMA, **args(context_length="200k")},
     {"model": LLAMA, **args(context_length="200k"),
      "env": {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}}),
    ("6", "memory_share_valid", "mem-fraction-static=1.5; valid: above 0 and below 1",
     args(mem_fraction_static=1.5), args(mem_fraction_static=0.9)),
    ("6", "weights_fit", "weights take",
     {"model": LLAMA, "accelerator": "H100"},
     {"model": LLAMA, "accelerator": "H100", **layout(tp=4)}),
    ("6", "weights_fit", "weights take",
     {"model": LLAMA, "accelerator": "H100", **layout(tp=2), **args(mem_fraction_static=0.5)},
     {"model": LLAMA, "accelerator": "H100", **layout(tp=2), **q(gemm="fp8"),
      **args(mem_fraction_static=0.5)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "words", "wrong", "right"),
    [case[1:] for case in CASES],
    ids=[f"{fact} {rule} {n}" for n, (fact, rule, *_) in enumerate(CASES)],
)
def test_rule_refuses_and_lets_the_nearest_pass(
    rule: str, words: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    found = refused(**wrong)
    assert found is not None
    assert found[0] == rule
    assert words in found[1]
    assert refused(**right) is None


def test_every_rule_and_every_fact_is_tried() -> None:
    assert {rule.__name__ for rule in ALL_RULES} == {rule for _, rule, *_ in CASES}
    assert {f"S{n}" for n in range(1, 21)} <= {fact for fact, *_ in CASES}


def test_what_is_unknown_is_not_refused() -> None:
    assert refused(**layout(tp=7)) is None
    assert refused(**q(gemm="fp8", kv_cache="nvfp4")) is None
    assert refused(LLAMA, **q(gemm="nvfp4")) is None


def test_arguments_of_the_user_are_checked_in_place_of_the_layout() -> None:
    ok = {"args": {"expert-parallel-size": 4}, **layout(tp=8, ep=3)}
    assert refused(**ok) is None
    assert refused(args={"ep-size": 3}, **layout(tp=8, ep=4)) is not None
