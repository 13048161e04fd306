"""What TensorRT-LLM can store and compute in, given the checkpoint and the GPU.

It quantises nothing itself: weights come quantised, by ModelOpt (`hf_quant_config.json`) or as a
checkpoint that `_torch/model_config.py` reads. Only the KV cache has a setting.
"""

from __future__ import annotations

from runtimes.engines.base import Refusal
from runtimes.fit import GIB, model_weights_per_gpu
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig
from runtimes.quantization import LOSSLESS, Quantization

_KV = ("fp8", "nvfp4")
_UNREAD = frozenset({"awq", "gptq", "gguf", "bitsandbytes", "quark", "torchao", "experts_int8"})
"""Methods that `load_hf_quant_config` has no branch for."""
_CHECKPOINTS = ("fp8", "fp8_block", "fp8_channel", "nvfp4")
"""Formats that it has no slower kernels for, other than those of the tensor cores."""


def broken_rule(
    config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
) -> Refusal | None:
    """The first rule that the precision of `config` breaks; None when it breaks none."""
    wanted = config.quantization
    found = (
        nvidia_only(accelerator)
        or attention_not_settable(wanted)
        or kv_format(wanted)
        or kv_on_hardware(config, accelerator)
        or experts_as_the_rest(wanted, model)
        or weights_as_checkpoint(wanted, model)
    )
    if found is not None or model is None:
        return found
    return (
        checkpoint_read(model)
        or checkpoint_on_hardware(model, accelerator)
        or kv_of_checkpoint(wanted, model)
        or weights_do_not_fit(config, model, accelerator)
    )


def nvidia_only(accelerator: Accelerator | None) -> Refusal | None:
    """It is made of CUDA kernels."""
    if accelerator is None or accelerator.vendor == "nvidia":
        return None
    return Refusal(
        "nvidia_only", f"TensorRT-LLM runs on NVIDIA GPUs only, not on {accelerator.name}"
    )


def attention_not_settable(wanted: Quantization) -> Refusal | None:
    """The attention computes in what the KV cache stands in."""
    natural = LOSSLESS if wanted.kv_cache not in _KV else {wanted.kv_cache}
    if wanted.attention is None or wanted.attention in natural:
        return None
    return Refusal(
        "attention_not_settable",
        f"attention={wanted.attention}: TensorRT-LLM has no setting for it, the KV cache "
        f"({wanted.kv_cache or 'as the checkpoint'}) decides; valid: leave it out",
    )


def kv_format(wanted: Quantization) -> Refusal | None:
    """Formats of `kv_cache_config.dtype` (16 bits are `auto`)."""
    if wanted.kv_cache is None or wanted.kv_cache in (*LOSSLESS, *_KV):
        return None
    return Refusal(
        "kv_format",
        f"kv_cache={wanted.kv_cache} is none of TensorRT-LLM's; valid: bf16, fp16, fp8, nvfp4",
    )


def kv_on_hardware(config: EngineConfig, accelerator: Accelerator | None) -> Refusal | None:
    """Formats of the KV cache need tensor cores that know them."""
    wanted = config.quantization.kv_cache
    if wanted not in _KV or accelerator is None or accelerator.supports(wanted) is not False:
        return None
    return Refusal("kv_on_hardware", f"kv_cache={wanted}: {_unsupported(wanted, accelerator)}")


def experts_as_the_rest(wanted: Quantization, model: ModelFacts | None) -> Refusal | None:
    """Experts stand in what the checkpoint has them in."""
    if wanted.moe is None or wanted.moe == wanted.gemm:
        return None
    if model is not None and model.quantization is not None:
        if wanted.moe == model.quantization.weights:
            return None
    elif wanted.gemm is None and wanted.moe in LOSSLESS:
        return None
    return Refusal(
        "experts_as_the_rest",
        f"moe={wanted.moe}: TensorRT-LLM has no setting for the experts' format, the checkpoint "
        "decides; valid: leave it out",
    )


def weights_as_checkpoint(wanted: Quantization, model: ModelFacts | None) -> Refusal | None:
    """Weights are quantised offline only; those of a quantised checkpoint stay so."""
    if wanted.gemm is None:
        return None
    held = model.quantization if model is not None else None
    if held is not None and held.weights == wanted.gemm:
        return None
    if wanted.gemm in LOSSLESS and held is None:
        return None
    if wanted.gemm in LOSSLESS and held is not None:
        return Refusal(
            "weights_as_checkpoint",
            f"gemm={wanted.gemm}: the weights are quantised already ({held.method} by "
            f"{held.source}) and stay so; valid: leave it out, or name an unquantised model",
        )
    return Refusal(
        "weights_as_checkpoint",
        f"gemm={wanted.gemm}: TensorRT-LLM quantises no weights at start; valid: bf16, fp16, or "
        f"a checkpoint that ModelOpt has made {wanted.gemm} offline",
    )


def checkpoint_read(model: ModelFacts) -> Refusal | None:
    """Checkpoints of other tools' formats are not read."""
    held = model.quantization
    if held is None or held.method not in _UNREAD:
        return None
    return Refusal(
        "checkpoint_read",
        f"TensorRT-LLM does not read checkpoints quantised by {held.method} ({held.source}); "
        "valid: ModelOpt's, blockwise fp8, mxfp4, or unquantised ones",
    )


def checkpoint_on_hardware(model: ModelFacts, accelerator: Accelerator | None) -> Refusal | None:
    """Quantised weights need tensor cores that know their format."""
    held = model.quantization
    if held is None or held.weights not in _CHECKPOINTS or accelerator is None:
        return None
    if accelerator.supports(held.weights) is not False:
        return None
    return Refusal(
        "checkpoint_on_hardware",
        f"the checkpoint's weights are {held.weights}: {_unsupported(held.weights, accelerator)}",
    )


def kv_of_checkpoint(wanted: Quantization, model: ModelFacts) -> Refusal | None:
    """A KV cache in nvfp4 needs scales that calibration put into the checkpoint.

    One with scales has its cache in their format whenever the setting is `auto`.
    """
    scaled = model.quantization.kv_cache if model.quantization is not None else None
    if wanted.kv_cache == "nvfp4" and scaled != "nvfp4":
        return Refusal(
            "kv_of_checkpoint",
            f"kv_cache=nvfp4 needs a checkpoint calibrated for it, and {model.name} is not; "
            "valid: bf16, fp8",
        )
    if wanted.kv_cache in LOSSLESS and scaled is not None:
        return Refusal(
            "kv_of_checkpoint",
            f"kv_cache={wanted.kv_cache}: the checkpoint has scales for {scaled}, which it is "
            f"then stored in; valid: leave it out, or {scaled}",
        )
    return None


def weights_do_not_fit(
    config: EngineConfig, model: ModelFacts, accelerator: Accelerator | None
) -> Refusal | None:
    """The weights alone exceed a GPU. The KV cache's fraction is of what they leave free.

    Context parallel ranks share weights in part, so nothing is said of them.
    """
    layout = config.layout
    if accelerator is None or max(layout.cp, layout.pcp, layout.dcp) > 1:
        return None
    held = model.quantization
    if held is not None and held.weights is None and not model.checkpoint_bytes:
        return None
    weights = model_weights_per_gpu(model, layout)
    if weights <= accelerator.memory_bytes:
        return None
    return Refusal(
        "weights_do_not_fit",
        f"weights take {weights / GIB:.1f} GiB per GPU at tp={layout.tp} pp={layout.pp}, but "
        f"{accelerator.name} has {accelerator.memory_bytes / GIB:.1f} GiB",
    )


def _unsupported(precision: str, accelerator: Accelerator) -> str:
    since = "10.0" if precision == "nvfp4" else "8.9"
    have = ".".join(map(str, accelerator.capability or ()))
    return (
        f"{precision} needs compute capability {since}, and {accelerator.name} has {have}; valid: "
        f"bf16{', fp8' if precision == 'nvfp4' and accelerator.supports('fp8') else ''}"
    )
