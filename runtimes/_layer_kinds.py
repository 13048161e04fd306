"""How many layers of a model are dense, windowed or linear, from its configuration."""

from __future__ import annotations

from runtimes._json_config import Fields

_WINDOWED = frozenset({"sliding_attention", "chunked_attention"})
_LINEAR = frozenset({"linear_attention", "mamba", "recurrent"})


def dense_layers(fields: Fields, layers: int) -> int:
    """Layers of a mixture of experts with a dense MLP instead.

    The keys: `mlp_layer_types` (a list), `moe_layer_freq` (a list, or every n-th after
    `first_k_dense_replace`), `interleave_moe_layer_step` (Llama 4), `decoder_sparse_step` with
    `mlp_only_layers` (Qwen).
    """
    types = fields.words("mlp_layer_types")
    if types is not None:
        return types.count("dense")
    frequencies = list(fields.items("moe_layer_freq"))
    if frequencies:
        return sum(1 for each in frequencies if not each)
    step = max(1, fields.count("interleave_moe_layer_step", default=1))
    if step > 1:
        return layers - layers // step
    first = fields.count("first_k_dense_replace", default=0)
    every = max(1, fields.count("moe_layer_freq", default=1))
    sparse = max(1, fields.count("decoder_sparse_step", default=1))
    only_dense = set(fields.items("mlp_only_layers"))
    return sum(
        index < first or index % every != 0 or index in only_dense or (index + 1) % sparse != 0
        for index in range(layers)
    )


def sliding_window(fields: Fields, kind: str) -> int:
    """Tokens that windowed layers attend to; 0 when the model uses no window."""
    if not fields.flag("use_sliding_window", True):
        return 0
    if kind in ("llama4", "llama4_text"):
        return fields.count("attention_chunk_size", default=0)
    return fields.count("sliding_window", "sliding_window_size", default=0)


def windowed_layers(fields: Fields, layers: int, kind: str) -> int:
    """Layers with that window: by `layer_types`, else by each family's own rule."""
    if not sliding_window(fields, kind):
        return 0
    types = fields.words("layer_types")
    if types is not None:
        return sum(1 for each in types if each in _WINDOWED)
    if kind in ("llama4", "llama4_text"):
        interval = max(1, fields.count("no_rope_layer_interval", default=4))
        return layers - layers // interval
    letters = fields.text("sliding_window_pattern")
    if letters:
        return sum(letters[index % len(letters)] == "L" for index in range(layers))
    pattern = fields.count("sliding_window_pattern", default=0)
    if pattern:
        return layers - layers // pattern
    if kind in ("gemma2", "gpt_oss"):
        return layers - layers // 2
    if fields.values.get("max_window_layers") is not None:
        return max(0, layers - fields.count("max_window_layers"))
    return layers


def linear_layers(fields: Fields, layers: int) -> int:
    """Layers without a KV cache.

    The keys: `layer_types`, `attn_type_list` (0 is linear), `linear_attn_config.kda_layers`,
    `full_attention_interval`.
    """
    types = fields.words("layer_types") or fields.words("layers_block_type")
    if types is not None:
        return sum(1 for each in types if each in _LINEAR)
    kinds = list(fields.items("attn_type_list"))
    if kinds:
        return kinds.count(0)
    nested = fields.nested("linear_attn_config")
    if nested is not None:
        return len(list(Fields(fields.where, nested, {}).items("kda_layers")))
    interval = fields.count("full_attention_interval", default=0)
    return layers - layers // interval if interval else 0
