"""What a table's word for a precision means for the weights and the KV cache of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.quantization import CheckpointQuantization, Precision, Quantization

_BLOCK_SCALED = ("qwen/", "deepseek-ai/", "moonshotai/", "minimaxai/", "zai-org/")
"""Publishers whose own fp8 checkpoints have one scale per block of 128 by 128."""
_EXPERTS_ONLY = (
    "deepseek-ai/", "moonshotai/", "minimaxai/", "zai-org/", "openai/", "qwen/qwen3.5",
)  # fmt: skip
"""Beginnings of names whose 4-bit checkpoints leave attention as it was. Source: the lists of
excluded modules of the NVFP4 and MXFP4 checkpoints that NVIDIA, AMD and their makers publish."""

_WORDS: tuple[tuple[str, Precision | None], ...] = (
    ("mxfp4", "mxfp4"), ("nvfp4", "nvfp4"), ("w4a8", "int4"), ("w4a16", "int4"), ("int4", "int4"),
    ("uint4", "int4"), ("awq", "int4"), ("gptq", "int4"), ("fp4", "nvfp4"), ("int8", "int8"),
    ("w8a8", "int8"), ("mxfp8", "mxfp8"), ("fp8", "fp8"), ("bf16", None), ("fp16", None),
)  # fmt: skip
"""Word in the `quant` column → format of the weights; None for 16 bits. The first that fits."""


@dataclass(frozen=True, slots=True)
class RowFormats:
    """A model as the row's engine loaded it, and what the engine was told to make of it."""

    model: ModelFacts
    quantization: Quantization
    caveat: str = ""


class UnknownFormatError(ValueError):
    """A word for a precision that nothing here knows; the message says so, as issue text."""


def row_formats(
    model: ModelFacts, quant: str, *, accelerator: Accelerator, modelopt: bool, kv_fp8: bool
) -> RowFormats:
    """What `quant` says of `model`.

    Args:
        model: as its name says it is.
        quant: the row's word (`fp8`, `bf16?`, `w4a8`); an empty one leaves the checkpoint alone.
        accelerator: decides between the makers' formats of 4 bits.
        modelopt: True for checkpoints of NVIDIA's Model Optimizer: fp8 has one scale per tensor,
            whoever made the model.
        kv_fp8: True where an 8- or 4-bit checkpoint is run with a KV cache in fp8.

    Raises:
        UnknownFormatError: `quant` is no known word.
    """
    word = re.sub(r"[\s?]", "", quant.lower())
    if not word or word == "unset":
        told = "" if word == "" and model.quantization else "the row names no precision"
        return RowFormats(model, Quantization(), told)
    known = next((each for each, _ in _WORDS if each in word), None)
    if known is None:
        raise UnknownFormatError(f"unknown precision {quant!r}")
    weights = dict(_WORDS)[known]
    if weights is None:
        return RowFormats(replace(model, quantization=None), Quantization())
    stored = _stored(model, weights, accelerator, modelopt=modelopt)
    return RowFormats(
        replace(model, quantization=stored, checkpoint_bytes=0),
        Quantization(kv_cache="fp8") if kv_fp8 else Quantization(),
    )


def _stored(
    model: ModelFacts, weights: Precision, accelerator: Accelerator, *, modelopt: bool
) -> CheckpointQuantization:
    name, own = model.name.lower(), model.quantization
    if name.startswith("openai/gpt-oss"):  # one checkpoint whatever the rest computes in
        return CheckpointQuantization("mxfp4", "mxfp4", experts_only=True)
    if weights == "fp8":
        if own is not None and own.weights == "fp8_block":
            return own
        blocks = name.startswith(_BLOCK_SCALED) and not modelopt
        return CheckpointQuantization("fp8", "fp8_block" if blocks else "fp8")
    if weights == "nvfp4" and accelerator.vendor == "amd":
        weights = "mxfp4"
    method = {"nvfp4": "modelopt_fp4", "mxfp4": "mxfp4"}.get(weights, "compressed-tensors")
    if own is not None and own.weights == weights and own.experts_only:
        return own
    experts_only = model.is_moe and name.startswith(_EXPERTS_ONLY)
    return CheckpointQuantization(method, weights, experts_only=experts_only)
