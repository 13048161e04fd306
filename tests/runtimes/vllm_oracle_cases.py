"""Configurations that both our rules and the real vLLM judge, and the models they are of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Quantization

SEED = 20
GENERATED = 340
FIXED_SAMPLE = 25

MIXTURE: dict[str, Json] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "intermediate_size": 256,
    "moe_intermediate_size": 96,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 2048,
}
"""A mixture of eight experts in every layer."""
LATENT: dict[str, Json] = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "scoring_func": "softmax",
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": False,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 2048,
}
"""Multi-head latent attention, and experts but for the first layer."""
FP8: dict[str, Json] = {"quant_method": "fp8", "activation_scheme": "dynamic"}

MODELS = ("dense", "mixture", "latent", "fp8", "half")


@dataclass(frozen=True, slots=True)
class OracleCase:
    """One configuration.

    Attributes:
        model: one of `MODELS`.
        nodes: of which each is judged.
    """

    model: str
    layout: ParallelLayout
    quantization: Quantization
    args: tuple[tuple[str, Json], ...]
    nodes: int = 1

    def config(self, folder: Path, version: str | None = None) -> EngineConfig:
        """The configuration, with its model in `folder`, for a vLLM of `version`."""
        return EngineConfig(
            "vllm",
            str(folder / self.model),
            layout=self.layout,
            quantization=self.quantization,
            args={"enforce-eager": True, **dict(self.args)},
            environment=Environment(version=version),
            dummy_weights=True,
            nodes=self.nodes,
        )


def make_models(folder: Path) -> None:
    """The folders of all models: configuration and tokenizer, no weights."""
    examples = Path(__file__).parents[2] / "examples"
    dense = folder / "dense"
    subprocess.run([sys.executable, examples / "tiny_model.py", dense], check=True)
    shape: dict[str, Json] = json.loads((dense / "config.json").read_text(encoding="utf-8"))
    configs = {
        "mixture": MIXTURE,
        "latent": LATENT,
        "fp8": {**shape, "quantization_config": FP8},
        "half": {**shape, "torch_dtype": "float16"},
    }
    for name, config in configs.items():
        made = folder / name
        made.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (made / file).write_bytes((dense / file).read_bytes())
        (made / "config.json").write_text(json.dumps(config), encoding="utf-8")


_ARGS: tuple[dict[str, Json], ...] = (
    {},
    {},
    {},
    {"max-num-batched-tokens": 128, "max-num-seqs": 128},
    {"max-num-batched-tokens": 127, "max-num-seqs": 128},
    {"max-num-batched-tokens": "2k", "max-num-seqs": 2001},
    {"max-num-batched-tokens": "2K", "max-num-seqs": 2001},
    {"max-num-seqs": 0},
    {"max-num-batched-tokens": 0},
    {"max-num-seqs": 64, "max-num-active-seqs": 65},
    {"max-num-seqs": 64, "max-num-active-seqs": 64},
    {"max-model-len": 4096},
    {"max-model-len": 4097},
    {"max-model-len": -1},
    {"max-model-len": "auto"},
    {"max-num-batched-tokens": 4095, "enable-chunked-prefill": False},
    {"max-num-batched-tokens": 4096, "enable-chunked-prefill": False},
    {"max-num-batched-tokens": 512, "max-model-len": 512, "enable-chunked-prefill": False},
    {"long-prefill-token-threshold": 4097},
    {"long-prefill-token-threshold": 513, "max-model-len": 512},
    {"long-prefill-token-threshold": 512, "max-model-len": 512},
    {"gpu-memory-utilization": 0},
    {"gpu-memory-utilization": 1},
    {"gpu-memory-utilization": 1.01},
    {"stream-interval": 0},
    {"enable-expert-parallel": True},
    {"enable-expert-parallel": False},
    {"eplb-config.num_redundant_experts": 1},
    {"enable-elastic-ep": True},
    {"enable-dbo": True},
    {"enable-dbo": True, "all2all-backend": "deepep_low_latency"},
    {
        "enable-dbo": True,
        "all2all-backend": "deepep_low_latency",
        "dbo-decode-token-threshold": 1,
    },
    {"all2all-backend": "moonep", "dtype": "float16"},
    {"all2all-backend": "moonep"},
    {"kv-cache-dtype": "float16"},
    {"kv-cache-dtype": "bfloat16"},
    {"kv-cache-dtype": "bfloat16", "dtype": "bfloat16"},
    {"kv-cache-dtype": "fp8"},
    {"kv-cache-dtype": "nvfp4"},
    {"quantization": "awq"},
    {"quantization": "gptq_marlin"},
    {"quantization": "compressed-tensors"},
    {"quantization": "fp8"},
    {"quantization": "bitsandbytes"},
    {"quantization": "fbgemm_fp8"},
    {"quantization": "online"},
    {"quantization": "online", "quantization-config": {"linear": "fp8_per_block"}},
    {"quantization": "online", "quantization-config.linear": "mxfp8"},
    {"cp-kv-cache-interleave-size": 16, "block-size": 128},
    {"cp-kv-cache-interleave-size": 48, "block-size": 128},
    {"mamba-block-size": 64, "enable-prefix-caching": False},
    {"mamba-block-size": 64},
    {"speculative-config": {"method": "ngram", "num_speculative_tokens": 4}},
    {"speculative-config": {"method": "ngram"}},
    {"speculative-config": {"method": "ngram", "num_speculative_tokens": 0}},
    {
        "speculative-config": {
            "method": "ngram",
            "num_speculative_tokens": 2,
            "prompt_lookup_min": 4,
            "prompt_lookup_max": 3,
        }
    },
    {"speculative-config": {"method": "draft_model", "num_speculative_tokens": 2}},
    {"speculative-config": {"method": "eagle3", "num_speculative_tokens": 2}},
    {"speculative-config": {"method": "lookahead", "num_speculative_tokens": 2}},
    {
        "speculative-config": {
            "method": "ngram",
            "num_speculative_tokens": 2,
            "tensor_parallel_size": 2,
        }
    },
    {"kv-transfer-config": {"kv_connector": "NixlConnector"}},
    {"attention-backend": "TRITON_ATTN", "attention-config": {"backend": "FLASH_ATTN"}},
    {"optimization-level": 3, "performance-mode": "interactivity"},
    {"async-scheduling": False, "enable_prefix_caching": True, "no-enforce-eager": False},
)

_PRECISIONS = (
    *(Quantization(),) * 6,
    Quantization(gemm="fp8"),
    Quantization(gemm="fp8_block", kv_cache="fp8"),
    Quantization(gemm="fp8_channel"),
    Quantization(gemm="mxfp8"),
    Quantization(gemm="mxfp4"),
    Quantization(gemm="bf16"),
    Quantization(gemm="fp16", kv_cache="fp16"),
    Quantization(gemm="fp16", kv_cache="bf16"),
    Quantization(kv_cache="fp8"),
    Quantization(kv_cache="fp8", attention="bf16"),
    Quantization(kv_cache="bf16"),
    Quantization(moe="fp8"),
    Quantization(moe="int8"),
    Quantization(gemm="fp8", moe="mxfp4"),
)

_DENSE_PRECISIONS = tuple(each for each in _PRECISIONS if each.moe is None)

_EXPLICIT: tuple[tuple[str, dict[str, int], dict[str, Json], int], ...] = (
    ("dense", {"tp": 2}, {}, 1),
    ("dense", {"tp": 3}, {}, 1),
    ("dense", {"tp": 4, "dcp": 2}, {}, 1),
    ("dense", {"tp": 4, "dcp": 4}, {}, 1),
    ("dense", {"tp": 2, "dcp": 2}, {}, 1),
    ("dense", {"tp": 4, "dcp": 3}, {}, 1),
    ("latent", {"tp": 4, "dcp": 4}, {}, 1),
    ("latent", {"tp": 8, "dcp": 3}, {}, 1),
    ("mixture", {"tp": 8, "dcp": 4}, {}, 1),
    ("mixture", {"tp": 8, "dcp": 2}, {}, 1),
    ("dense", {"tp": 2, "ep": 2}, {}, 1),
    ("mixture", {"tp": 2, "ep": 2}, {}, 1),
    ("mixture", {"tp": 2, "dp": 2, "moe_ep": 4}, {}, 1),
    ("mixture", {"tp": 4, "attention_dp": 4, "ep": 4}, {}, 1),
    ("latent", {"tp": 2, "pp": 2, "dp": 2, "ep": 4}, {}, 1),
    ("dense", {"tp": 2}, {}, 2),
    ("dense", {"tp": 4, "pp": 2}, {}, 4),
    ("dense", {"tp": 1}, {}, 2),
    ("dense", {"tp": 2}, {"distributed-executor-backend": "ray"}, 2),
    ("mixture", {"tp": 2, "dp": 4, "ep": 8}, {}, 2),
    ("mixture", {"tp": 2, "dp": 2}, {}, 4),
    ("dense", {"tp": 2}, {"data-parallel-backend": "ray"}, 2),
    ("fp8", {"tp": 2}, {"quantization": "fp8_per_tensor"}, 1),
    ("fp8", {"tp": 1}, {"quantization": "awq"}, 1),
    ("half", {"tp": 1}, {"kv-cache-dtype": "float16"}, 1),
)


def explicit() -> list[OracleCase]:
    """One case at least for every rule that the CPU platform decides."""
    return [
        OracleCase(model, ParallelLayout(**degrees), Quantization(), tuple(args.items()), nodes)
        for model, degrees, args, nodes in _EXPLICIT
    ]


def generated() -> Iterator[OracleCase]:
    """`GENERATED` further ones, the same every time."""
    rng = Random(SEED)
    for number in range(GENERATED):
        model = rng.choice(MODELS)
        has_experts = model in ("mixture", "latent")
        yield OracleCase(
            model=model,
            layout=_layout(rng),
            quantization=rng.choice(_PRECISIONS if has_experts else _DENSE_PRECISIONS),
            args=tuple(_ARGS[number % len(_ARGS)].items()),
            nodes=rng.choice((1, 1, 1, 1, 2)),
        )


def _layout(rng: Random) -> ParallelLayout:
    tp = rng.choice((1, 1, 2, 2, 4, 8, 3))
    pp = rng.choice((1, 1, 1, 2))
    dp = rng.choice((1, 1, 1, 2, 4))
    dcp = rng.choice((1, 1, 1, 1, 2, 4))
    ep = rng.choice((1, 1, 1, tp * dp))
    return ParallelLayout(tp=tp, pp=pp, dp=dp, ep=ep, dcp=dcp)
