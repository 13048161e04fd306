"""From the `config.json` of a Hugging Face model to `ModelFacts`.

Each family spells the same shape its own way; the keys read here are those of the configuration
classes of transformers, and of the files of models that bring their own class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runtimes._json_config import Fields, JsonMapping, load_json
from runtimes._layer_kinds import dense_layers, linear_layers, sliding_window, windowed_layers
from runtimes._shape import LinearShape, MlaShape, ModelFacts
from runtimes.checkpoint import detect
from runtimes.errors import UserError

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
_SENSES = ("vision_config", "audio_config", "visual", "vision_tower", "speech_config")

_TIED_BY_DEFAULT = frozenset({
    "bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text",
    "gpt2", "gpt_bigcode", "opt", "starcoder2",
})  # fmt: skip
"""Model types whose class ties embedding and output projection unless the file says otherwise."""

_TWO_PROJECTIONS = frozenset({
    "bloom", "falcon", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "mpt", "nemotron", "opt", "phi",
    "starcoder2",
})  # fmt: skip
"""Model types whose MLP has no gate."""

_CLASS_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
}
"""Keys that files of a model type leave out, and what the class then takes."""

_SHARED_EXPERT_OF = frozenset({"llama4", "llama4_text"})
"""Model types with one shared expert that no key tells of."""


_OTHER_SHAPES = frozenset({
    "bamba", "falcon_h1", "falcon_mamba", "jamba", "mamba", "mamba2", "nemotron_h", "plamo2",
    "recurrent_gemma", "rwkv", "zamba", "zamba2",
})  # fmt: skip
"""Model types whose layers are none of ours: what is counted here would be wrong for them."""


class UnsizedModelError(UserError):
    """The model's shape is of a kind that `ModelFacts` cannot hold."""


def read_config(path: Path) -> ModelFacts:
    """Facts from a Hugging Face `config.json`, and from `hf_quant_config.json` beside it.

    Raises:
        UnsizedModelError: the model is of a type that cannot be sized.
        UserError: a file is absent, is not JSON, or holds a value that makes no sense.
    """
    config = load_json(path)
    text = _text_part(config)
    kind = Fields(str(path), text, {}).text("model_type")
    if kind in _OTHER_SHAPES:
        raise UnsizedModelError(f"{path}: nothing here sizes a model of type {kind!r}")
    fields = Fields(str(path), text, _CLASS_DEFAULTS.get(kind, {}))
    whole = Fields(str(path), config, {})
    facts = _facts(path.parent.resolve().name, fields, kind)
    return _with_whole(facts, whole, fields, kind, path)


def _text_part(config: JsonMapping) -> JsonMapping:
    """The language model's own part, however deep it is nested."""
    for key in _TEXT_PARTS:
        part = config.get(key)
        if isinstance(part, dict) and part:
            return _text_part(part)
    return config


def _facts(name: str, fields: Fields, kind: str) -> ModelFacts:
    layers = fields.positive("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    hidden = fields.positive("hidden_size", "n_embd", "d_model", "dim")
    heads = fields.positive("num_attention_heads", "n_head", "n_heads")
    mla = _mla(fields)
    experts = fields.count(
        "num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", default=0
    )
    width, dense_width = _widths(fields, hidden, experts)
    dense = dense_layers(fields, layers) if experts else 0
    head_dim = fields.positive("head_dim", default=max(1, hidden // heads))
    return ModelFacts(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads if mla is not None else _kv_heads(fields, heads),
        head_dim=head_dim if mla is None else mla.nope + mla.rope,
        intermediate=dense_width if dense or not experts else 0,
        vocab=fields.positive("vocab_size"),
        max_context=fields.count(
            "max_position_embeddings", "n_positions", "seq_length", "max_seq_len", default=0
        ),
        experts=experts,
        experts_per_token=_experts_per_token(fields, experts),
        shared_experts=_shared_experts(fields, width, kind) if experts else 0,
        moe_intermediate=width,
        dense_layers=dense,
        mla=mla,
        sliding_window=sliding_window(fields, kind),
        windowed_layers=windowed_layers(fields, layers, kind),
        linear_layers=linear_layers(fields, layers),
        mtp_layers=fields.count(
            "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", default=0
        ),
        linear=_linear(fields),
        output_gate=fields.flag("attn_output_gate", kind == "qwen3_next"),
        gated_mlp=kind not in _TWO_PROJECTIONS,
        source=fields.where,
    )


def _with_whole(
    facts: ModelFacts, whole: Fields, text: Fields, kind: str, path: Path
) -> ModelFacts:
    """`facts` with what a nested configuration states outside the language model's part."""
    tied = whole.flag("tie_word_embeddings", kind in _TIED_BY_DEFAULT)
    default = whole.text("dtype", "torch_dtype", default="bfloat16")
    architectures = whole.words("architectures") or [""]
    return replace(
        facts,
        tied=text.flag("tie_word_embeddings", tied),
        dtype=text.text("dtype", "torch_dtype", default=default).removeprefix("torch."),
        multimodal=any(whole.values.get(sense) for sense in _SENSES),
        architecture=architectures[0],
        quantization=detect(path.parent if path.name == "config.json" else whole.values),
    )


def _kv_heads(fields: Fields, heads: int) -> int:
    if fields.flag("multi_query") and not fields.flag("new_decoder_architecture"):
        return 1
    return fields.positive(
        "num_key_value_heads", "num_kv_heads", "multi_query_group_num", default=heads
    )


def _widths(fields: Fields, hidden: int, experts: int) -> tuple[int, int]:
    """Inner widths of one expert and of a dense MLP; 0 for what the model has not."""
    # llama4 names the experts' width `intermediate_size` and the dense one `…_mlp`.
    own = fields.count("moe_intermediate_size", "moe_ffn_hidden_size", default=0)
    common = fields.count(
        "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "ffn_hidden_dim",
        default=4 * hidden if not experts else 0,
    )  # fmt: skip
    if not experts:
        return 0, common
    width = own or common
    if not width:
        raise UserError(
            f"{fields.where}: lacks 'moe_intermediate_size', needed to size the experts"
        )
    return width, fields.count("intermediate_size_mlp", default=common if own else 0)


def _experts_per_token(fields: Fields, experts: int) -> int:
    if not experts:
        return 0
    chosen = fields.positive(
        "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk",
        "top_k_experts",
    )  # fmt: skip
    if chosen > experts:
        raise UserError(
            f"{fields.where}: {chosen} experts for each token, but there are {experts} in all"
        )
    return chosen


def _shared_experts(fields: Fields, width: int, kind: str) -> int:
    """Shared experts, counted in experts of the routed width."""
    inner = fields.count("shared_expert_intermediate_size", "shared_intermediate_size", default=0)
    if inner:
        return max(1, round(inner / width))
    default = 1 if kind in _SHARED_EXPERT_OF else 0
    return fields.count(
        "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts",
        default=default,
    )  # fmt: skip


def _mla(fields: Fields) -> MlaShape | None:
    if not fields.count("kv_lora_rank", default=0):
        return None
    return MlaShape(
        q_lora=fields.count("q_lora_rank", default=0),
        kv_lora=fields.positive("kv_lora_rank"),
        nope=fields.positive("qk_nope_head_dim"),
        rope=fields.count("qk_rope_head_dim"),
        value=fields.positive("v_head_dim"),
    )


def _linear(fields: Fields) -> LinearShape | None:
    if not fields.count("linear_num_value_heads", default=0):
        return None
    return LinearShape(
        key_heads=fields.positive("linear_num_key_heads"),
        value_heads=fields.positive("linear_num_value_heads"),
        key_dim=fields.positive("linear_key_head_dim"),
        value_dim=fields.positive("linear_value_head_dim"),
        kernel=fields.count("linear_conv_kernel_dim", default=4),
    )
