"""Models known by name, so that planning needs no download.

Values are those of the models' own config.json files, taken from the collections that `source`
names. `max_context` is 0 where variants of one shape differ in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runtimes._shape import LinearShape, MlaShape, ModelFacts
from runtimes.quantization import CheckpointQuantization

_CONFIGURATOR = "aiconfigurator model_configs"
_FORMULA = "config.json; size checked against the published one"
_GENZ = "GenZ model definitions; size checked against the published one"
_FP8_BLOCK = CheckpointQuantization("fp8", "fp8_block")
_MXFP4_EXPERTS = CheckpointQuantization("mxfp4", "mxfp4", experts_only=True)
_INT4_EXPERTS = CheckpointQuantization("compressed-tensors", "int4", experts_only=True)
_LLAMA_CONTEXT = 131072

_LLAMA = (
    ModelFacts(
        "meta-llama/Llama-3.2-1B", 16, 2048, 32, 8, 64, 8192, 128256, _LLAMA_CONTEXT, tied=True,
        architecture="LlamaForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "meta-llama/Llama-3.2-3B", 28, 3072, 24, 8, 128, 8192, 128256, _LLAMA_CONTEXT, tied=True,
        architecture="LlamaForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "meta-llama/Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, _LLAMA_CONTEXT,
        architecture="LlamaForCausalLM", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "meta-llama/Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256, _LLAMA_CONTEXT,
        architecture="LlamaForCausalLM", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "meta-llama/Llama-3.1-405B", 126, 16384, 128, 8, 128, 53248, 128256, _LLAMA_CONTEXT,
        architecture="LlamaForCausalLM", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "meta-llama/Llama-4-Scout-17B-16E", 48, 5120, 40, 8, 128, 0, 202048, 10_485_760,
        experts=16, experts_per_token=1, shared_experts=1, moe_intermediate=8192,
        sliding_window=8192, windowed_layers=36, multimodal=True,
        architecture="Llama4ForConditionalGeneration", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "meta-llama/Llama-4-Maverick-17B-128E", 48, 5120, 40, 8, 128, 16384, 202048, 1_048_576,
        experts=128, experts_per_token=1, shared_experts=1, moe_intermediate=8192,
        dense_layers=24, sliding_window=8192, windowed_layers=36, multimodal=True,
        architecture="Llama4ForConditionalGeneration", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0", 22, 2048, 32, 4, 64, 5632, 32000, 2048,
        architecture="LlamaForCausalLM", source="gminneci/mantile; size checked",
    ),
)  # fmt: skip


def _llama_before_31(name: str, vocab: int, context: int, *shape: int) -> ModelFacts:
    layers, hidden, heads, kv_heads, intermediate = shape
    return ModelFacts(
        name, layers, hidden, heads, kv_heads, 128, intermediate, vocab, context,
        dtype="float16" if vocab == 32000 else "bfloat16", architecture="LlamaForCausalLM",
        source=_FORMULA,
    )  # fmt: skip


_LLAMA_BEFORE_31 = (
    _llama_before_31("huggyllama/llama-7b", 32000, 2048, 32, 4096, 32, 32, 11008),
    _llama_before_31("meta-llama/Llama-2-7b", 32000, 4096, 32, 4096, 32, 32, 11008),
    _llama_before_31("meta-llama/Llama-2-13b", 32000, 4096, 40, 5120, 40, 40, 13824),
    _llama_before_31("meta-llama/Llama-2-70b", 32000, 4096, 80, 8192, 64, 8, 28672),
    _llama_before_31("meta-llama/Meta-Llama-3-8B", 128256, 8192, 32, 4096, 32, 8, 14336),
    _llama_before_31("meta-llama/Meta-Llama-3-70B", 128256, 8192, 80, 8192, 64, 8, 28672),
)


def _qwen25(size: str, *shape: int, tied: bool = False) -> ModelFacts:
    """Base and instruct models differ in context, so none is stated."""
    layers, hidden, heads, kv_heads, head_dim, intermediate, vocab = shape
    return ModelFacts(
        f"Qwen/Qwen2.5-{size}", layers, hidden, heads, kv_heads, head_dim, intermediate, vocab,
        tied=tied, architecture="Qwen2ForCausalLM", source=_GENZ,
    )  # fmt: skip


def _qwen3(size: str, *shape: int, tied: bool = False) -> ModelFacts:
    layers, hidden, heads, kv_heads, head_dim, intermediate = shape
    return ModelFacts(
        f"Qwen/Qwen3-{size}", layers, hidden, heads, kv_heads, head_dim, intermediate, 151936,
        40960, tied=tied, architecture="Qwen3ForCausalLM", source=_CONFIGURATOR,
    )  # fmt: skip


def _qwen3_moe(name: str, context: int, experts: int, width: int, *shape: int) -> ModelFacts:
    layers, hidden, heads, kv_heads = shape
    return ModelFacts(
        name, layers, hidden, heads, kv_heads, 128, 0, 151936, context,
        experts=experts, experts_per_token=8, moe_intermediate=width,
        architecture="Qwen3MoeForCausalLM", source=_CONFIGURATOR,
    )  # fmt: skip


_QWEN = (
    _qwen25("0.5B", 24, 896, 14, 2, 64, 4864, 151936, tied=True),
    _qwen25("1.5B", 28, 1536, 12, 2, 128, 8960, 151936, tied=True),
    _qwen25("3B", 36, 2048, 16, 2, 128, 11008, 151936, tied=True),
    _qwen25("7B", 28, 3584, 28, 4, 128, 18944, 152064),
    _qwen25("14B", 48, 5120, 40, 8, 128, 13824, 152064),
    _qwen25("32B", 64, 5120, 40, 8, 128, 27648, 152064),
    _qwen25("72B", 80, 8192, 64, 8, 128, 29568, 152064),
    ModelFacts(
        "Qwen/Qwen1.5-7B", 32, 4096, 32, 32, 128, 11008, 151936, 32768,
        architecture="Qwen2ForCausalLM", source=_FORMULA,
    ),
    _qwen3("0.6B", 28, 1024, 16, 8, 128, 3072, tied=True),
    _qwen3("1.7B", 28, 2048, 16, 8, 128, 6144, tied=True),
    _qwen3("4B", 36, 2560, 32, 8, 128, 9728, tied=True),
    _qwen3("8B", 36, 4096, 32, 8, 128, 12288),
    _qwen3("14B", 40, 5120, 40, 8, 128, 17408),
    _qwen3("32B", 64, 5120, 64, 8, 128, 25600),
    _qwen3_moe("Qwen/Qwen3-30B-A3B", 40960, 128, 768, 48, 2048, 32, 4),
    _qwen3_moe("Qwen/Qwen3-235B-A22B", 40960, 128, 1536, 94, 4096, 64, 4),
    _qwen3_moe("Qwen/Qwen3-Coder-480B-A35B", 262144, 160, 2560, 62, 6144, 96, 8),
    ModelFacts(
        "Qwen/Qwen3.5-397B-A17B", 60, 4096, 32, 2, 256, 0, 248320, 262144,
        experts=512, experts_per_token=10, shared_experts=1, moe_intermediate=1024,
        linear_layers=45, linear=LinearShape(16, 64, 128, 128), output_gate=True, mtp_layers=1,
        multimodal=True, architecture="Qwen3_5MoeForConditionalGeneration", source=_CONFIGURATOR,
    ),
)  # fmt: skip

_MISTRAL_7B = ModelFacts(
    "mistralai/Mistral-7B-v0.1", 32, 4096, 32, 8, 128, 14336, 32000, 32768,
    sliding_window=4096, windowed_layers=32, architecture="MistralForCausalLM",
    source="gminneci/mantile; size checked against the published one",
)  # fmt: skip
_MISTRAL = (
    _MISTRAL_7B,
    ModelFacts(
        "mistralai/Mixtral-8x7B-v0.1", 32, 4096, 32, 8, 128, 0, 32000, 32768,
        experts=8, experts_per_token=2, moe_intermediate=14336,
        architecture="MixtralForCausalLM", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "mistralai/Mixtral-8x22B-v0.1", 56, 6144, 48, 8, 128, 0, 32000, 65536,
        experts=8, experts_per_token=2, moe_intermediate=16384,
        architecture="MixtralForCausalLM", source=_CONFIGURATOR,
    ),
)  # fmt: skip

_DEEPSEEK_MLA = MlaShape(q_lora=1536, kv_lora=512, nope=128, rope=64, value=128)
_MLA = (
    ModelFacts(
        "deepseek-ai/DeepSeek-V3", 61, 7168, 128, 128, 192, 18432, 129280, 163840,
        experts=256, experts_per_token=8, shared_experts=1, moe_intermediate=2048,
        dense_layers=3, mla=_DEEPSEEK_MLA, mtp_layers=1, quantization=_FP8_BLOCK,
        architecture="DeepseekV3ForCausalLM", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "moonshotai/Kimi-K2", 61, 7168, 64, 64, 192, 18432, 163840,
        experts=384, experts_per_token=8, shared_experts=1, moe_intermediate=2048,
        dense_layers=1, mla=_DEEPSEEK_MLA, quantization=_FP8_BLOCK,
        architecture="DeepseekV3ForCausalLM", source=_CONFIGURATOR,
    ),
    ModelFacts(
        "zai-org/GLM-5", 78, 6144, 64, 64, 256, 12288, 154880, 202752,
        experts=256, experts_per_token=8, shared_experts=1, moe_intermediate=2048,
        dense_layers=3, mla=MlaShape(q_lora=2048, kv_lora=512, nope=192, rope=64, value=256),
        architecture="GlmMoeDsaForCausalLM", source=_CONFIGURATOR,
    ),
)  # fmt: skip

_OTHERS = (
    ModelFacts(
        "openai/gpt-oss-120b", 36, 2880, 64, 8, 64, 0, 201088, 131072,
        experts=128, experts_per_token=4, moe_intermediate=2880, sliding_window=128,
        windowed_layers=18, quantization=_MXFP4_EXPERTS, architecture="GptOssForCausalLM",
        source=_CONFIGURATOR,
    ),
    ModelFacts(
        "openai/gpt-oss-20b", 24, 2880, 64, 8, 64, 0, 201088, 131072,
        experts=32, experts_per_token=4, moe_intermediate=2880, sliding_window=128,
        windowed_layers=12, quantization=_MXFP4_EXPERTS, architecture="GptOssForCausalLM",
        source=_CONFIGURATOR,
    ),
    ModelFacts(
        "zai-org/GLM-4.5", 92, 5120, 96, 8, 128, 12288, 151552, 131072,
        experts=160, experts_per_token=8, shared_experts=1, moe_intermediate=1536,
        dense_layers=3, mtp_layers=1, architecture="Glm4MoeForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "zai-org/GLM-4.5-Air", 46, 4096, 96, 8, 128, 10944, 151552, 131072,
        experts=128, experts_per_token=8, shared_experts=1, moe_intermediate=1408,
        dense_layers=1, mtp_layers=1, architecture="Glm4MoeForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "MiniMaxAI/MiniMax-M2.5", 62, 3072, 48, 8, 128, 0, 200064,
        experts=256, experts_per_token=8, moe_intermediate=1536, quantization=_FP8_BLOCK,
        architecture="MiniMaxM2ForCausalLM", source=_CONFIGURATOR,
    ),
)  # fmt: skip


def _gemma3(size: str, context: int, window: int, vocab: int, *shape: int) -> ModelFacts:
    """Every sixth layer attends to all tokens, the others within the window."""
    layers, hidden, heads, kv_heads, head_dim, intermediate = shape
    multimodal = size != "1b"
    kind = "Gemma3ForConditionalGeneration" if multimodal else "Gemma3ForCausalLM"
    return ModelFacts(
        f"google/gemma-3-{size}", layers, hidden, heads, kv_heads, head_dim, intermediate, vocab,
        context, tied=True, sliding_window=window, windowed_layers=layers - layers // 6,
        multimodal=multimodal, architecture=kind, source="keras-hub presets; MaxText; GenZ",
    )  # fmt: skip


_GEMMA = (
    _gemma3("1b", 32768, 512, 262144, 26, 1152, 4, 1, 256, 6912),
    _gemma3("4b", 131072, 1024, 262208, 34, 2560, 8, 4, 256, 10240),
    _gemma3("12b", 131072, 1024, 262208, 48, 3840, 16, 8, 256, 15360),
    _gemma3("27b", 131072, 1024, 262208, 62, 5376, 32, 16, 128, 21504),
)


def _like(name: str, model: str, **changes: object) -> ModelFacts:
    """Another id with the shape of a catalogued one."""
    known = next(facts for facts in _MODELS if facts.name == model)
    return replace(known, name=name, **changes)  # type: ignore[arg-type]  # names of fields


_PLAIN_MLP = (
    ModelFacts(
        "EleutherAI/gpt-j-6b", 28, 4096, 16, 16, 256, 16384, 50400, 2048, gated_mlp=False,
        dtype="float16", architecture="GPTJForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "bigscience/bloom", 70, 14336, 112, 112, 128, 57344, 250880, tied=True,
        gated_mlp=False, architecture="BloomForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "bigscience/bloom-7b1", 30, 4096, 32, 32, 128, 16384, 250880, tied=True,
        gated_mlp=False, dtype="float16", architecture="BloomForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "facebook/opt-6.7b", 32, 4096, 32, 32, 128, 16384, 50272, 2048, tied=True,
        gated_mlp=False, dtype="float16", architecture="OPTForCausalLM", source=_FORMULA,
    ),
    ModelFacts(
        "tiiuae/falcon-180B", 80, 14848, 232, 8, 64, 59392, 65024, 2048,
        gated_mlp=False, architecture="FalconForCausalLM", source=_FORMULA,
    ),
)  # fmt: skip

_MODELS = (
    *_LLAMA, *_LLAMA_BEFORE_31, *_QWEN, *_MISTRAL, *_MLA, *_OTHERS, *_GEMMA, *_PLAIN_MLP,
)  # fmt: skip
_FULL_ATTENTION: Mapping[str, object] = {"sliding_window": 0, "windowed_layers": 0}
_SAME = (
    _like("meta-llama/Llama-3.3-70B", "meta-llama/Llama-3.1-70B"),
    *(
        _like(f"meta-llama/Meta-Llama-3.1-{size}", f"meta-llama/Llama-3.1-{size}")
        for size in ("8B", "70B", "405B")
    ),
    *(
        _like(f"Qwen/Qwen2-{size}", f"Qwen/Qwen2.5-{size}")
        for size in ("0.5B", "1.5B", "7B", "72B")
    ),
    _like("MiniMaxAI/MiniMax-M2", "MiniMaxAI/MiniMax-M2.5"),
    _like("MiniMaxAI/MiniMax-M2.1", "MiniMaxAI/MiniMax-M2.5"),
    _like("mistralai/Mistral-7B-Instruct-v0.1", _MISTRAL_7B.name),
    _like("mistralai/Mistral-7B-Instruct-v0.2", _MISTRAL_7B.name, **_FULL_ATTENTION),
    _like("mistralai/Mistral-7B-v0.3", _MISTRAL_7B.name, vocab=32768, **_FULL_ATTENTION),
    _like("mistralai/Mistral-7B-Instruct-v0.3", _MISTRAL_7B.name, vocab=32768, **_FULL_ATTENTION),
    _like("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"),
    _like("mistralai/Mixtral-8x22B-Instruct-v0.1", "mistralai/Mixtral-8x22B-v0.1"),
    _like("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3"),
    _like("deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3"),
    *(  # fine-tunes of other publishers' models, for as many tokens (model cards, config.json)
        _like(f"deepseek-ai/DeepSeek-R1-Distill-{size}", base, max_context=131072)
        for size, base in (
            ("Llama-8B", "meta-llama/Llama-3.1-8B"),
            ("Llama-70B", "meta-llama/Llama-3.1-70B"),
            ("Qwen-14B", "Qwen/Qwen2.5-14B"),
            ("Qwen-32B", "Qwen/Qwen2.5-32B"),
        )
    ),
    _like(
        "moonshotai/Kimi-K2-Thinking",
        "moonshotai/Kimi-K2",
        max_context=262144,
        quantization=_INT4_EXPERTS,
    ),
    _like(
        "moonshotai/Kimi-K2.5",
        "moonshotai/Kimi-K2",
        max_context=262144,
        multimodal=True,
        quantization=_INT4_EXPERTS,
        architecture="KimiK25ForConditionalGeneration",
    ),
)

CATALOGUE = (*_MODELS, *_SAME)
"""Every known shape; ids of one shape stand each for itself."""
