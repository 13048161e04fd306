"""Facts of models: counts and sizes, never times.

Read from a `config.json` or a GGUF header, in a folder or in the Hub's cache, or from the
built-in catalogue so that planning needs no download. Prediction and simulation may share this
module because nothing in it says how long anything takes.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from runtimes._catalogue import CATALOGUE
from runtimes._hub_cache import cached_snapshot, is_hub_id
from runtimes._model_config import UnsizedModelError, read_config
from runtimes._shape import (
    BYTES_PER_WEIGHT,
    LinearShape,
    MlaShape,
    ModelFacts,
    WeightCounts,
)
from runtimes.errors import UserError
from runtimes.gguf import gguf_file, read_gguf
from runtimes.quantization import CheckpointQuantization, Precision

__all__ = [
    "BYTES_PER_WEIGHT",
    "LinearShape",
    "MlaShape",
    "ModelFacts",
    "WeightCounts",
    "closest_model",
    "find_model",
    "find_named_model",
    "is_hub_id",
    "known_models",
    "read_config",
]

_logger = logging.getLogger(__name__)

_OTHER_SHAPE = frozenset({
    "adapter", "distill", "draft", "eagle", "eagle3", "embedding", "lora", "mini", "moe", "mtp",
    "pruned", "random", "reap", "reranker", "slim", "speculator", "tiny", "vision", "vl",
})  # fmt: skip
"""Words in the name of a derived model that is no fine-tune of the same shape."""
_SIZE = re.compile(r"\d+[bm]")
_SAME_CONTEXT = frozenset({"chat", "hf", "instruct", "it"})
"""Words after which a fine-tune still has the context of the model it is named after."""

_NAMED: tuple[tuple[str, str, Precision | None], ...] = (
    ("gguf", "gguf", None),
    ("awq", "awq", "int4"),
    ("gptq", "gptq", "int4"),
    ("bnb", "bitsandbytes", "int4"),
    ("nvfp4", "modelopt_fp4", "nvfp4"),
    ("mxfp4", "mxfp4", "mxfp4"),
    ("fp4", "modelopt_fp4", "nvfp4"),
    ("mxfp8", "mxfp8", "mxfp8"),
    ("w4afp8", "w4afp8", "int4"),
    ("w4a16", "compressed-tensors", "int4"),
    ("w8a16", "compressed-tensors", "int8"),
    ("w8a8", "compressed-tensors", "int8"),
    ("fp8", "fp8", "fp8"),
    ("int4", "compressed-tensors", "int4"),
    ("int8", "compressed-tensors", "int8"),
)
"""Word in a model's name → method and format that such checkpoints use; the first that fits."""


def find_model(model: str, revision: str | None = None) -> ModelFacts | None:
    """Facts of a local folder or GGUF file, of a cached Hub model, or of a catalogued id.

    A fine-tune that only adds a suffix to a catalogued id (`…-Instruct`) has its shape; what its
    name says of quantisation (`…-AWQ`) counts. Of publishers that the catalogue has nothing of,
    and without one, the name alone decides. None when nothing is known.

    Args:
        model: path or Hub id.
        revision: of the Hub id, to find its cached files; the default branch without.

    Raises:
        UserError: `model` is a folder or a file from which its shape cannot be read.
    """
    path = Path(model)
    if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
        return _from_path(path)
    return find_named_model(model, revision)


def find_named_model(model: str, revision: str | None = None) -> ModelFacts | None:
    """As `find_model`, for a name that is never taken for a path."""
    return _from_cache(model, revision) or _by_name(model)


def known_models() -> list[str]:
    """Ids of the built-in catalogue."""
    return [model.name for model in CATALOGUE]


def closest_model(name: str) -> str | None:
    """The id of the catalogue that `name`, publishers aside, is most like; None for none."""
    known = {_bare(each).lower(): each for each in known_models()}
    close = get_close_matches(_bare(name).lower(), list(known), n=1, cutoff=0.6)
    return known[close[0]] if close else None


def _bare(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _from_path(path: Path) -> ModelFacts | None:
    if not (path / "config.json").is_file():
        weights = gguf_file(path)
        if weights is not None:
            return read_gguf(weights)
    try:
        return read_config(path / "config.json")
    except UnsizedModelError as error:
        _logger.info("%s; rules that need its size are skipped", error)
        return None


def _from_cache(model: str, revision: str | None) -> ModelFacts | None:
    folder = cached_snapshot(model, revision)
    if folder is None or not (folder / "config.json").is_file():
        return None
    try:
        return replace(read_config(folder / "config.json"), name=model)
    except UserError as error:
        _logger.warning("the cached configuration of %s is not used: %s", model, error)
        return None


def _by_name(model: str) -> ModelFacts | None:
    for lowered in _published(model):
        matches = [known for known in CATALOGUE if _is_named_after(lowered, known.name.lower())]
        if matches:
            return _named(model, lowered, max(matches, key=lambda each: len(each.name)))
    return None


def _published(model: str) -> list[str]:
    """Names, in lower case, by which the catalogue may have what `model` is a copy of.

    Someone else's copy keeps the name behind the publisher's.
    """
    lowered = model.lower()
    publisher, _, bare = lowered.rpartition("/")
    publishers = dict.fromkeys(each.name.lower().partition("/")[0] for each in CATALOGUE)
    if publisher in publishers:
        return [lowered]
    return [] if "/" in publisher or not bare else [f"{each}/{bare}" for each in publishers]


def _named(model: str, lowered: str, known: ModelFacts) -> ModelFacts:
    """`known` as its fine-tune `model` is, which is called `lowered` where it comes from."""
    words = _words(lowered[len(known.name) :])
    if not words:
        return known
    context = known.max_context if _SAME_CONTEXT.issuperset(words - _QUANTIZED) else 0
    return replace(
        known, name=model, max_context=context, quantization=_named_quantization(words, known)
    )


def _is_named_after(model: str, known: str) -> bool:
    if not model.startswith(known):
        return False
    suffix = model[len(known) :]
    if not suffix:
        return True
    words = _words(suffix)
    other = bool(words & _OTHER_SHAPE) or any(_SIZE.fullmatch(word) for word in words)
    return suffix[0] in "-_" and not other


def _words(suffix: str) -> set[str]:
    return {word for word in re.split(r"[-_.]", suffix) if word}


def _named_quantization(words: set[str], known: ModelFacts) -> CheckpointQuantization | None:
    if words & {"bf16", "fp16"}:
        return None
    for word, method, weights in _NAMED:
        if word in words:
            eight = method == "gptq" and words & {"int8", "8bit"}
            return CheckpointQuantization(
                method, "int8" if eight else weights, source="the model's name"
            )
    return known.quantization


_QUANTIZED = frozenset({word for word, _, _ in _NAMED} | {"bf16", "fp16", "4bit", "8bit"})
