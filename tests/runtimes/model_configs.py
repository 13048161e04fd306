"""Configurations as the models' repositories hold them, cut to what sizes a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtimes.model import ModelFacts, find_model

TINY: dict[str, object] = {
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 256,
    "vocab_size": 2048,
}
"""The least that sizes a model."""


def forget_downloads(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An empty home of the Hub's library: what this machine has downloaded is left alone."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))


def known(name: str) -> ModelFacts:
    """Facts of a model that has to be known."""
    facts = find_model(name)
    assert facts is not None, name
    return facts


def written(folder: Path, config: Mapping[str, object] | str) -> Path:
    """`folder` with this `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def _dense(kind: str, *shape: int, **extra: object) -> dict[str, object]:
    layers, hidden, heads, kv_heads, intermediate, vocab = shape
    architecture = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}
    return {
        "architectures": [f"{architecture[kind]}ForCausalLM"],
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "torch_dtype": "bfloat16",
        **extra,
    }


def _mla(architecture: str, *shape: int, **extra: object) -> dict[str, object]:
    layers, hidden, heads, intermediate, vocab, experts, dense = shape
    return {
        "architectures": [architecture],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": intermediate,
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": dense,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "torch_dtype": "bfloat16",
        **extra,
    }


def _llama4(experts: int, step: int, context: int) -> dict[str, object]:
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "text_config": {
            "model_type": "llama4_text",
            "attention_chunk_size": 8192,
            "head_dim": 128,
            "hidden_size": 5120,
            "interleave_moe_layer_step": step,
            "intermediate_size": 8192,
            "intermediate_size_mlp": 16384,
            "max_position_embeddings": context,
            "num_attention_heads": 40,
            "num_experts_per_tok": 1,
            "num_hidden_layers": 48,
            "num_key_value_heads": 8,
            "num_local_experts": experts,
            "torch_dtype": "bfloat16",
            "vocab_size": 202048,
        },
        "torch_dtype": "bfloat16",
        "vision_config": {"hidden_size": 1408, "num_hidden_layers": 34},
    }


def _gpt_oss(layers: int, experts: int) -> dict[str, object]:
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "head_dim": 64,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "experts_per_token": 4,
        "num_experts_per_tok": 4,
        "num_local_experts": experts,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "max_position_embeddings": 131072,
        "num_attention_heads": 64,
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "sliding_window": 128,
        "tie_word_embeddings": False,
        "vocab_size": 201088,
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
        },
    }


def _gemma3(**text: object) -> dict[str, object]:
    """The files of Gemma 3 leave out what their class takes by default."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", "sliding_window": 1024, **text},
        "torch_dtype": "bfloat16",
        "vision_config": {"hidden_size": 1152},
    }


_FP8_BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}

CONFIGS: Mapping[str, Mapping[str, object]] = {
    "meta-llama/Llama-3.2-1B": _dense(
        "llama", 16, 2048, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True,
        max_position_embeddings=131072,
    ),
    "meta-llama/Llama-3.1-8B": _dense("llama", 32, 4096, 32, 8, 14336, 128256),
    "meta-llama/Llama-4-Scout-17B-16E": _llama4(16, 1, 10_485_760),
    "meta-llama/Llama-4-Maverick-17B-128E": _llama4(128, 2, 1_048_576),
    "Qwen/Qwen2.5-7B": _dense(
        "qwen2", 28, 3584, 28, 4, 18944, 152064, sliding_window=131072,
        use_sliding_window=False, max_window_layers=28, max_position_embeddings=131072,
    ),
    "Qwen/Qwen3-0.6B": _dense(
        "qwen3", 28, 1024, 16, 8, 3072, 151936, head_dim=128, tie_word_embeddings=True,
        sliding_window=None, use_sliding_window=False,
    ),
    "Qwen/Qwen3-30B-A3B": {
        **_dense("qwen3", 48, 2048, 32, 4, 6144, 151936, head_dim=128),
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    },
    "Qwen/Qwen3.5-397B-A17B": {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "model_type": "qwen3_5_moe",
        "text_config": {
            "model_type": "qwen3_5_moe_text",
            "attn_output_gate": True,
            "dtype": "bfloat16",
            "full_attention_interval": 4,
            "head_dim": 256,
            "hidden_size": 4096,
            "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 15,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 64,
            "linear_value_head_dim": 128,
            "max_position_embeddings": 262144,
            "moe_intermediate_size": 1024,
            "mtp_num_hidden_layers": 1,
            "num_attention_heads": 32,
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "num_hidden_layers": 60,
            "num_key_value_heads": 2,
            "shared_expert_intermediate_size": 1024,
            "vocab_size": 248320,
        },
        "tie_word_embeddings": False,
        "vision_config": {"depth": 27},
    },
    "mistralai/Mistral-7B-v0.1": _dense(
        "mistral", 32, 4096, 32, 8, 14336, 32000, sliding_window=4096,
        max_position_embeddings=32768,
    ),
    "mistralai/Mixtral-8x7B-v0.1": {
        **_dense("mistral", 32, 4096, 32, 8, 14336, 32000, sliding_window=None),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "deepseek-ai/DeepSeek-V3": _mla(
        "DeepseekV3ForCausalLM", 61, 7168, 128, 18432, 129280, 256, 3,
        num_nextn_predict_layers=1, quantization_config=_FP8_BLOCKS,
        max_position_embeddings=163840,
    ),
    "moonshotai/Kimi-K2": _mla(
        "DeepseekV3ForCausalLM", 61, 7168, 64, 18432, 163840, 384, 1,
        quantization_config=_FP8_BLOCKS, max_position_embeddings=131072,
    ),
    "zai-org/GLM-5": _mla(
        "GlmMoeDsaForCausalLM", 78, 6144, 64, 12288, 154880, 256, 3, head_dim=64,
        q_lora_rank=2048, qk_nope_head_dim=192, v_head_dim=256, max_position_embeddings=202752,
    ),
    "openai/gpt-oss-120b": _gpt_oss(36, 128),
    "openai/gpt-oss-20b": _gpt_oss(24, 32),
    "zai-org/GLM-4.5-Air": {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "num_hidden_layers": 46,
        "hidden_size": 4096,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
        "vocab_size": 151552,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    },
    "MiniMaxAI/MiniMax-M2.5": {
        "architectures": ["MiniMaxM2ForCausalLM"],
        "model_type": "minimax_m2",
        "attn_type_list": [1] * 62,
        "head_dim": 128,
        "hidden_size": 3072,
        "intermediate_size": 1536,
        "num_attention_heads": 48,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 62,
        "num_key_value_heads": 8,
        "num_local_experts": 256,
        "shared_intermediate_size": 0,
        "vocab_size": 200064,
        "quantization_config": _FP8_BLOCKS,
        "max_position_embeddings": 196608,
    },
    "google/gemma-3-4b": _gemma3(hidden_size=2560, intermediate_size=10240, num_hidden_layers=34),
    "google/gemma-3-27b": _gemma3(
        hidden_size=5376, intermediate_size=21504, num_hidden_layers=62, head_dim=128,
        num_attention_heads=32, num_key_value_heads=16,
    ),
}  # fmt: skip
"""By the id under which the catalogue knows the same shape."""
