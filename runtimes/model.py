"""Facts of models: counts and sizes, never times.

Read from a `config.json`, or from the built-in catalogue so that planning needs no download.
Prediction and simulation may share this module because nothing in it says how long anything takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import UserError
from runtimes.quantization import CheckpointQuantization

BYTES_PER_WEIGHT = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}


@dataclass(frozen=True, slots=True)
class MlaShape:
    """Widths of multi-head latent attention.

    Attributes:
        q_lora: rank of the query's projection; 0 when it has none.
        kv_lora: rank of the latent that is cached.
        nope, rope: head dimensions without and with rotary embedding.
        value: head dimension of the values.
    """

    q_lora: int
    kv_lora: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Shape of a decoder-only transformer.

    Attributes:
        layers, hidden, intermediate, vocab: widths and counts; `intermediate` is that of dense
            MLPs, 0 when every layer has experts.
        heads, kv_heads, head_dim: attention shape.
        max_context: positions the model was made for, in tokens; 0 when unknown.
        tied: True when the output projection shares the embedding's weights.
        dtype: dtype of the checkpoint's weights that are not quantised.
        experts, experts_per_token, shared_experts: 0 for a dense model.
        moe_intermediate: inner width of one expert.
        dense_layers: layers of a mixture of experts that have a dense MLP instead.
        mla: shape of multi-head latent attention; None for any other.
        sliding_window: tokens that windowed layers attend to; 0 without.
        windowed_layers: layers with that window.
        linear_layers: layers without a KV cache (linear attention, state space).
        mtp_layers: layers that predict further tokens; not among `layers`.
        multimodal: True when the checkpoint also takes images or sound.
        architecture: class name in `config.json`; empty when unknown.
        quantization: what the checkpoint is quantised with; None when it is not.
        source: where the facts come from.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_context: int = 0
    tied: bool = False
    dtype: str = "bfloat16"
    experts: int = 0
    experts_per_token: int = 0
    shared_experts: int = 0
    moe_intermediate: int = 0
    dense_layers: int = 0
    mla: MlaShape | None = None
    sliding_window: int = 0
    windowed_layers: int = 0
    linear_layers: int = 0
    mtp_layers: int = 0
    multimodal: bool = False
    architecture: str = ""
    quantization: CheckpointQuantization | None = None
    source: str = ""

    @property
    def parameters(self) -> int:
        """Weights in all: attention, gated MLP, two norms a layer, embedding, lm_head."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + embeddings + self.hidden

    @property
    def weight_bytes(self) -> int:
        """Bytes of the checkpoint's weights in its own dtype."""
        return int(self.parameters * BYTES_PER_WEIGHT.get(self.dtype, 2.0))

    def kv_bytes_per_token(self, bytes_per_element: float = 2.0) -> int:
        """Bytes of KV cache one token takes over all layers and all shards."""
        return int(2 * self.layers * self.kv_heads * self.head_dim * bytes_per_element)


# Values: the models' own config.json files, as collected by aiconfigurator (model_configs).
_CATALOGUE = (
    ModelFacts("meta-llama/Llama-3.2-1B", 16, 2048, 32, 8, 64, 8192, 128256, 131072, tied=True),
    ModelFacts("meta-llama/Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, 131072),
    ModelFacts("meta-llama/Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256, 131072),
    ModelFacts("meta-llama/Llama-3.3-70B", 80, 8192, 64, 8, 128, 28672, 128256, 131072),
    ModelFacts("meta-llama/Llama-3.1-405B", 126, 16384, 128, 8, 128, 53248, 128256, 131072),
    ModelFacts("mistralai/Mistral-7B-v0.1", 32, 4096, 32, 8, 128, 14336, 32000, 32768),
    ModelFacts("Qwen/Qwen3-0.6B", 28, 1024, 16, 8, 128, 3072, 151936, 40960, tied=True),
    ModelFacts("Qwen/Qwen3-8B", 36, 4096, 32, 8, 128, 12288, 151936, 40960),
    ModelFacts("Qwen/Qwen3-32B", 64, 5120, 64, 8, 128, 25600, 151936, 40960),
)


def find_model(model: str) -> ModelFacts | None:
    """Facts of a local folder's `config.json` or of a catalogued Hub id; None when unknown.

    A fine-tune that only adds a suffix to a catalogued id (`…-Instruct`) has its shape.

    Raises:
        UserError: `model` is a folder whose config.json cannot be read.
    """
    folder = Path(model)
    if folder.is_dir():
        return read_config(folder / "config.json")
    lowered = model.lower()
    matches = [known for known in _CATALOGUE if lowered.startswith(known.name.lower())]
    return max(matches, key=lambda known: len(known.name)) if matches else None


def read_config(path: Path) -> ModelFacts:
    """Facts from a Hugging Face `config.json`.

    Raises:
        UserError: the file is absent, is not JSON, or lacks a field.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. A model folder holds config.json; "
            "name the folder itself or a Hub id."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
    text = config.get("text_config", config)
    try:
        return _from_config(path.parent.name, text)
    except KeyError as error:
        raise UserError(f"{path}: lacks {error.args[0]!r}, needed to size the model") from None


def _from_config(name: str, config: Mapping[str, object]) -> ModelFacts:
    def integer(key: str, default: int | None = None) -> int:
        value = config.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int):
            raise KeyError(key)
        return value

    heads = integer("num_attention_heads")
    hidden = integer("hidden_size")
    dtype = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return ModelFacts(
        name=name,
        layers=integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=integer("num_key_value_heads", heads),
        head_dim=integer("head_dim", hidden // heads),
        intermediate=integer("intermediate_size"),
        vocab=integer("vocab_size"),
        max_context=integer("max_position_embeddings", 0),
        tied=bool(config.get("tie_word_embeddings", False)),
        dtype=str(dtype),
    )
