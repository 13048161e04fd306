from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from runtimes.json_types import Json
from runtimes.model import ModelFacts
from tests.runtimes.vllm_refusals import LATENT, MIXTURE, TINY, layout_of, refused


def _drafts(**config: Json) -> dict[str, Json]:
    return {"speculative-config": config}


DBO: dict[str, Json] = {"enable-dbo": True, "all2all-backend": "nixl_ep"}
NIXL: dict[str, Json] = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
ARGUMENTS: list[tuple[Mapping[str, Json], str | None]] = [
    ({"max-num-seqs": 0}, "counts_positive: max-num-seqs=0 is below 1; valid: 1 or more"),
    (
        {"decode-context-parallel-size": 0},
        "decode_context_divides: dcp=0 does not divide 1 tensor ranks (tp); valid: 1",
    ),
    ({"max-num-batched-tokens": 64, "max-num-seqs": 64}, None),
    ({"max-num-batched-tokens": "2k", "max-num-seqs": 2000}, None),
    ({"max-num-batched-tokens": "2K", "max-num-seqs": 2048}, None),
    ({"max-num-seqs": 9999}, None),
    (
        {"max-num-batched-tokens": 64, "max-num-seqs": 128},
        "tokens_for_every_sequence: max-num-batched-tokens=64 is below max-num-seqs=128; "
        "valid: max-num-batched-tokens ≥ 128 or max-num-seqs ≤ 64",
    ),
    (
        {"max-num-batched-tokens": 2048, "enable-chunked-prefill": False},
        "tokens_for_the_longest: max-num-batched-tokens=2048 is below max-model-len=4096 while "
        "enable-chunked-prefill is false; valid: max-num-batched-tokens ≥ 4096",
    ),
    (
        {"max-num-batched-tokens": 64, "no-enable-chunked-prefill": True, "max-model-len": 64},
        None,
    ),
    (
        {"max-num-active-seqs": 9, "max-num-seqs": 8},
        "active_among_running: max-num-active-seqs=9 exceeds max-num-seqs=8; valid: 1 to 8",
    ),
    (
        {"long-prefill-token-threshold": 4097},
        "long_prompts_within_context: long-prefill-token-threshold=4097 exceeds",
    ),
    ({"max-model-len": 4096}, None),
    ({"max-model-len": "auto"}, None),
    ({"max-model-len": -1}, None),
    ({"max-model-len": 4097, "hf-overrides": {"rope_scaling": {}}}, None),
    (
        {"max-model-len": 4097},
        "context_within_positions: max-model-len=4097 exceeds the 4096 positions of tiny; "
        "valid: up to 4096",
    ),
    ({"gpu-memory-utilization": 1.2}, "memory_fraction: gpu-memory-utilization=1.2 is not"),
    ({"gpu-memory-utilization": 1}, None),
    (
        {"mamba-block-size": 64, "enable-prefix-caching": False},
        "state_blocks_cached: mamba-block-size=64 needs enable-prefix-caching",
    ),
    (
        {"cudagraph-capture-sizes": [1, 2, 8], "max-cudagraph-capture-size": 4},
        "graphs_consistent: max-cudagraph-capture-size=4 is not the largest of "
        "cudagraph-capture-sizes (8); valid: 8",
    ),
    (
        {"compilation-config.cudagraph_capture_sizes": [1, 4], "max-cudagraph-capture-size": 4},
        None,
    ),
    ({"kv-transfer-config": NIXL}, None),
    (
        {"kv-transfer-config": {"kv_connector": "NixlConnector"}},
        "transfer_has_a_role: kv-transfer-config with kv_connector=NixlConnector lacks kv_role",
    ),
    (_drafts(method="ngram", num_speculative_tokens=4, prompt_lookup_max=3), None),
    (_drafts(method="ngram"), "tokens_drafted: the drafter ngram lacks num_speculative_tokens"),
    (_drafts(method="mtp", num_speculative_tokens=0), "tokens_drafted: num_speculative_tokens=0"),
    (
        _drafts(method="ngram", num_speculative_tokens=2, prompt_lookup_min=4, prompt_lookup_max=3),
        "lookup_in_order: prompt_lookup_min=4 exceeds prompt_lookup_max=3; valid: 1 to 3",
    ),
    (_drafts(method="eagle3", num_speculative_tokens=2), "drafter_has_a_model: the drafter eagle3"),
    (_drafts(method="lookahead", num_speculative_tokens=2), "method_known: speculative-config"),
    (
        _drafts(model="small", num_speculative_tokens=2, draft_tensor_parallel_size=2),
        "drafter_ranks: draft_tensor_parallel_size=2 is neither 1 nor tp=1; valid: 1",
    ),
    (_drafts(method="mtp", tensor_parallel_size=1), "drafter_ranks: speculative-config.tensor"),
    (
        {
            "enable-lora": True,
            "max-num-seqs": 64,
            "max-num-batched-tokens": 128,
            **_drafts(method="ngram", num_speculative_tokens=2),
        },
        "drafts_fit_the_batch: max-num-batched-tokens=128 is below max-num-seqs=64 times 3 "
        "drafted tokens; valid: max-num-batched-tokens ≥ 192",
    ),
    (
        {"async-scheduling": True, **_drafts(method="suffix")},
        "drafts_scheduled_ahead: async-scheduling does not go with the drafter suffix",
    ),
    ({"enable-eplb": True}, "experts_balanced: enable-eplb needs expert parallelism; valid: ep=1"),
    (
        {"eplb-config.num_redundant_experts": 2},
        "experts_balanced: eplb-config.num_redundant_experts=2 needs enable-eplb",
    ),
    ({"enable-elastic-ep": True}, "elastic_experts: enable-elastic-ep needs enable-eplb true"),
    ({"enable-dbo": True}, "microbatches_exchanged: microbatches need all2all-backend to be one"),
    (
        {**DBO, "dbo-decode-token-threshold": 1},
        "microbatches_exchanged: dbo-decode-token",
    ),
    (DBO, None),
    (
        {"all2all-backend": "moonep", "dtype": "float16"},
        "moonep_plain: all2all-backend=moonep does not go with dtype=float16",
    ),
    (
        {"attention-backend": "FLASHINFER", "attention-config.backend": "FLASH_ATTN"},
        "backend_named_once: attention-backend and attention-config.backend=FLASH_ATTN are one",
    ),
    (
        {"attention-backend": "FLASHMLA"},
        "backend_serves_the_model: attention-backend=FLASHMLA serves multi-head latent attention "
        "only; valid: FLASH_ATTN, FLASHINFER, TRITON_ATTN",
    ),
    (
        {"attention-backend": "flash_attn", "block-size": 24},
        "backend_takes_the_block: attention-backend=FLASH_ATTN has no kernels for block-size=24; "
        "valid: multiples of 16",
    ),
    (
        {"attention-config.backend": "FLASH_ATTN", "kv-cache-dtype": "fp8_e5m2"},
        "backend_takes_the_cache: attention-backend=FLASH_ATTN does not read",
    ),
    ({"attention-backend": "FLASHINFER", "block-size": 32, "kv-cache-dtype": "fp8_e5m2"}, None),
    ({"quantization": "bitsandbytes"}, "method_alive: quantization=bitsandbytes was removed"),
    ({"quantization": "fp_quant"}, "method_alive: quantization=fp_quant is deprecated"),
    ({"quantization": "fp_quant", "allow-deprecated-quantization": True}, None),
    ({"quantization": "awq"}, "checkpoint_is_quantized: quantization=awq reads a quantised"),
    ({"quantization": "online"}, "online_says_what: quantization=online needs quantization-config"),
    ({"quantization": "online", "quantization-config.linear": "mxfp8"}, None),
    (
        {"kv-cache-dtype": "float16"},
        "cache_has_the_models_dtype: kv-cache-dtype=float16 is not the model's dtype bfloat16; "
        "valid: auto, bfloat16",
    ),
    ({"kv-cache-dtype": "float16", "dtype": "half"}, None),
]


@pytest.mark.parametrize(("args", "expected"), ARGUMENTS, ids=str)
def test_arguments(args: Mapping[str, Json], expected: str | None) -> None:
    found = refused(TINY, args=args)
    assert found is None if expected is None else str(found).startswith(expected), found


def test_what_the_environment_lifts_and_takes_away() -> None:
    long: dict[str, Json] = {"max-model-len": 4097}
    assert refused(TINY, args=long, env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}) is None
    assert refused(None, args=long) is None
    older = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
    pipeline = layout_of(pp=2)
    ahead: dict[str, Json] = {"async-scheduling": True}
    assert refused(TINY, layout=pipeline, args=ahead) is None
    assert str(refused(TINY, layout=pipeline, args=ahead, env=older)).startswith("scheduling_ahead")
    assert refused(LATENT, layout=layout_of(pcp=2)) is None
    prefill = refused(LATENT, layout=layout_of(pcp=2), env=older)
    assert str(prefill).startswith("prefill_context_supported: pcp=2 needs the V2 model runner")
    segments = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    moved = refused(TINY, args={"kv-transfer-config": NIXL}, env=segments)
    assert str(moved).startswith("transfer_over_contexts")


@pytest.mark.parametrize(
    ("model", "args", "expected"),
    [
        (LATENT, {"enable-lora": True}, "prefill_context_supported: pcp=2 does not go with"),
        (LATENT, _drafts(method="ngram", num_speculative_tokens=2), "prefill_context_supported"),
        (LATENT, _drafts(method="mtp", num_speculative_tokens=2), "None"),
        (replace(LATENT, multimodal=True), {}, "prefill_context_supported: pcp=2 is not made for"),
    ],
)
def test_prefill_context(model: ModelFacts, args: Mapping[str, Json], expected: str) -> None:
    assert str(refused(model, layout=layout_of(pcp=2), args=args)).startswith(expected)


def test_arguments_count_for_the_layout_they_overrule() -> None:
    off: dict[str, Json] = {"enable-expert-parallel": False}
    assert refused(TINY, layout=layout_of(tp=2, ep=2), args=off) is None
    assert refused(MIXTURE, layout=layout_of(tp=4, ep=2), args=off) is None
    on = refused(TINY, args={"enable-expert-parallel": True})
    assert str(on).startswith("experts_exist: enable-expert-parallel needs a mixture")
    spread: dict[str, Json] = {"decode-context-parallel-size": 3}
    assert str(refused(LATENT, layout=layout_of(tp=4), args=spread)).startswith("decode_context")
    interleaved: dict[str, Json] = {"block-size": 64, "cp-kv-cache-interleave-size": 48}
    assert refused(LATENT, args=interleaved) is None
    found = refused(LATENT, layout=layout_of(tp=4, dcp=2), args=interleaved)
    assert str(found).startswith("context_interleave")
    moved: dict[str, Json] = {"kv-transfer-config": NIXL}
    assert refused(LATENT, layout=layout_of(tp=4, dcp=4), args=moved) is None
    found = refused(LATENT, layout=layout_of(tp=4, dcp=2), args=moved)
    assert str(found).endswith("valid: 1, 4")
