from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.quantization import CheckpointQuantization, Precision, Quantization
from tests.runtimes.vllm_refusals import AWQ, FP8, LATENT, LLAMA, MIXTURE, TINY, layout_of, refused


def _precision(**parts: Precision) -> Quantization:
    return Quantization(**parts)


PRECISIONS: list[tuple[ModelFacts | None, Quantization, str | None, str | None]] = [
    (TINY, _precision(gemm="fp8", kv_cache="fp8", attention="fp8"), "H100", None),
    (None, _precision(gemm="nvfp4"), None, "precision_has_words: vllm has no gemm nvfp4; valid"),
    (None, _precision(moe="int4"), None, "precision_has_words: vllm has no moe int4"),
    (None, _precision(kv_cache="mxfp8"), None, "precision_has_words: vllm has no kv_cache mxfp8"),
    (None, _precision(attention="int8"), None, "precision_has_words: vllm has no attention int8"),
    (None, _precision(gemm="bf16", moe="fp16"), None, "one_dtype: gemm bf16 and moe fp16"),
    (
        None, _precision(attention="fp8"), None,
        "attention_follows_cache: attention fp8 follows an fp8 KV cache, but kv-cache-dtype is",
    ),
    (None, _precision(attention="bf16"), None, None),
    (TINY, _precision(moe="fp8"), None, "experts_exist: moe fp8 needs a mixture of experts"),
    (MIXTURE, _precision(moe="fp8"), None, None),
    (
        FP8, _precision(gemm="fp8"), None,
        "checkpoint_matches: quantization=fp8_per_tensor: the checkpoint is quantised with fp8 "
        "already (config.json); valid: none, deepseek_v4_fp8, fp8",
    ),
    (FP8, _precision(gemm="bf16"), None, "checkpoint_kept: gemm bf16: the checkpoint is quantised"),
    (FP8, _precision(kv_cache="fp8"), None, None),
    (AWQ, _precision(gemm="mxfp4"), None, "checkpoint_matches: quantization=mxfp4"),
    (
        replace(TINY, quantization=CheckpointQuantization("gguf")), Quantization(), None,
        "checkpoint_readable: the checkpoint is quantised with gguf, which vLLM no longer reads",
    ),
    (TINY, _precision(kv_cache="fp16"), None, "cache_has_the_models_dtype: kv-cache-dtype=float16"),
    (TINY, _precision(gemm="fp16", kv_cache="fp16"), None, None),
    (LATENT, _precision(kv_cache="nvfp4"), None, "cache_of_latents: kv-cache-dtype=nvfp4 does not"),
    (
        TINY, _precision(gemm="fp8_block"), "A100-80GB",
        "hardware_computes: quantization=fp8_per_block needs hardware that computes in fp8_block "
        "(compute capability 8.9), which A100-80GB does not",
    ),
    (TINY, _precision(gemm="fp8"), "L4", None),
    (TINY, _precision(kv_cache="fp8"), "A100-80GB", "hardware_computes: kv-cache-dtype=fp8"),
    (TINY, _precision(gemm="mxfp8"), "H100", "hardware_computes: quantization=mxfp8 needs"),
    (TINY, _precision(gemm="mxfp4", kv_cache="nvfp4"), "B200", None),
    (
        MIXTURE, _precision(gemm="fp8", moe="nvfp4"), "H200",
        "hardware_computes: quantization-config.moe=nvfp4_per_token needs hardware",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "quantization", "accelerator", "expected"), PRECISIONS, ids=str)
def test_precisions(
    model: ModelFacts | None,
    quantization: Quantization,
    accelerator: str | None,
    expected: str | None,
) -> None:
    found = refused(model, quantization=quantization, accelerator=accelerator)
    assert found is None if expected is None else str(found).startswith(expected), found


@pytest.mark.parametrize(
    ("model", "method", "accepted"),
    [
        (AWQ, "awq_marlin", True),
        (AWQ, "gptq", False),
        (AWQ, "humming", True),
        (FP8, "fp8", True),
        (FP8, "compressed-tensors", False),
        (replace(LLAMA, source="the built-in catalogue"), "awq", True),
    ],
)
def test_methods_of_checkpoints(model: ModelFacts, method: str, accepted: bool) -> None:
    assert (refused(model, args={"quantization": method}) is None) is accepted


def test_the_caches_dtype_is_checked_since_0_33() -> None:
    args: dict[str, Json] = {"kv-cache-dtype": "float16"}
    assert refused(TINY, args=args, version="0.32.0") is None
    assert refused(TINY, args=args, version="0.33.0") is not None


def test_weights_must_fit_the_fraction_of_memory() -> None:
    message = str(refused(accelerator="H100"))
    assert message.startswith("weights_fit: weights take")
    assert "0.92" in message
    two = layout_of(tp=2)
    assert refused(accelerator="H100", layout=two) is None
    assert refused(accelerator="H100", layout=two, args={"gpu-memory-utilization": 0.5})
    assert refused(accelerator="H100", layout=two, args={"gpu-memory-utilization": "0.5"})


def test_weights_are_counted_in_the_precision_they_are_loaded_in() -> None:
    fp8 = _precision(gemm="fp8")
    assert refused(accelerator="H100", quantization=fp8) is None
    assert refused(accelerator="H100", args={"quantization": "fp8"}) is None
    assert refused(accelerator="L4", quantization=fp8) is not None
    assert refused(accelerator="H100", args={"quantization": "torchao"}) is None
    assert refused(accelerator="H100", args={"cpu-offload-gb": 80}) is None
    assert refused(None, accelerator="H100") is None


def test_experts_are_shared_by_replicas() -> None:
    large = replace(MIXTURE, layers=60, hidden=7168, heads=64, experts=128, moe_intermediate=2048)
    assert refused(large, accelerator="H200") is not None
    assert refused(large, accelerator="H200", layout=layout_of(dp=8)) is None
    assert refused(large, accelerator="H200", layout=layout_of(dp=8, ep=8)) is None
