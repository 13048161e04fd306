"""vLLM's rules of precision: methods, checkpoints, caches and what the hardware computes in."""

from __future__ import annotations

from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_precision import (
    DTYPE,
    DTYPES,
    EXPERTS,
    KV_CACHE,
    KV_CACHES,
    LINEAR,
    ONLINE,
    QUANTIZATION,
    QUANTIZATION_CONFIG,
    is_fp8,
)
from runtimes.engines.base import Refusal
from runtimes.quantization import LOSSLESS, CheckpointQuantization

_DEPRECATED = ("fbgemm_fp8", "fp_quant")
_REMOVED = ("bitsandbytes", "gguf")
_READ_AS: dict[str, frozenset[str]] = {
    "awq": frozenset({"awq", "auto_awq", "awq_marlin", "moe_wna16"}),
    "gptq": frozenset({"gptq", "auto_gptq", "gptq_marlin", "moe_wna16"}),
    "compressed-tensors": frozenset({"compressed-tensors"}),
    "fp8": frozenset({"fp8", "deepseek_v4_fp8"}),
    "quark": frozenset({"quark"}),
}
"""Checkpoint's method → methods that read it (`override_quantization_method` of each)."""
_ANY_CHECKPOINT = "humming"
_FORMATS = {
    **{name: precision for precision, name in EXPERTS.items()},
    "fp8": "fp8",
}
"""Method → the format it computes in."""


def precision_has_words(case: Case) -> Refusal | None:
    """Weights are quantised while loading into some formats only (config/quantization.py)."""
    quantization = case.config.quantization
    weights_given = bool({QUANTIZATION, QUANTIZATION_CONFIG} & set(case.given))
    asked = [
        ("gemm", quantization.gemm, {**DTYPES, **LINEAR}, weights_given),
        ("moe", quantization.moe, {**DTYPES, **EXPERTS}, weights_given),
        ("kv_cache", quantization.kv_cache, KV_CACHES, KV_CACHE in case.given),
        ("attention", quantization.attention, {**DTYPES, "fp8": "fp8"}, False),
    ]
    for part, precision, known, overruled in asked:
        if precision is not None and precision not in known and not overruled:
            words = f"vllm has no {part} {precision}; valid: {', '.join(known)}"
            return Refusal("precision_has_words", words)
    return None


def one_dtype(case: Case) -> Refusal | None:
    """Layers and experts that are not quantised have one dtype (config/model.py)."""
    gemm, moe = case.config.quantization.gemm, case.config.quantization.moe
    if gemm not in LOSSLESS or moe not in LOSSLESS or gemm == moe:
        return None
    return Refusal("one_dtype", f"gemm {gemm} and moe {moe} are one dtype in vLLM; valid: {gemm}")


def attention_follows_cache(case: Case) -> Refusal | None:
    """Attention computes in fp8 with an fp8 cache only (v1/attention/backends/flashinfer.py)."""
    cache = case.text(KV_CACHE) or "auto"
    if case.config.quantization.attention != "fp8" or is_fp8(cache):
        return None
    words = f"attention fp8 follows an fp8 KV cache, but {KV_CACHE} is {cache}; valid: kv_cache fp8"
    return Refusal("attention_follows_cache", words)


def method_alive(case: Case) -> Refusal | None:
    """Methods that vLLM deprecated need leave, those it removed are gone (config/model.py)."""
    method = case.text(QUANTIZATION)
    if method in _REMOVED:
        words = f"quantization={method} was removed from vLLM; valid: {', '.join(LINEAR.values())}"
        return Refusal("method_alive", words)
    if method in _DEPRECATED and not case.on("allow-deprecated-quantization"):
        words = (
            f"quantization={method} is deprecated; valid: {', '.join(LINEAR.values())}, "
            "or allow-deprecated-quantization true"
        )
        return Refusal("method_alive", words)
    return None


def checkpoint_readable(case: Case) -> Refusal | None:
    """Checkpoints of removed methods are read no more (config/model.py)."""
    checkpoint = case.model.quantization if case.model else None
    if checkpoint is None or checkpoint.method not in _REMOVED:
        return None
    words = f"the checkpoint is quantised with {checkpoint.method}, which vLLM no longer reads"
    return Refusal("checkpoint_readable", words)


def checkpoint_matches(case: Case) -> Refusal | None:
    """A method on a quantised checkpoint is the checkpoint's own (config/model.py)."""
    method = case.text(QUANTIZATION)
    checkpoint = case.model.quantization if case.model else None
    if checkpoint is None or method in (None, checkpoint.method, _ANY_CHECKPOINT):
        return None
    readers = _READ_AS.get(checkpoint.method)
    if method in ONLINE or (readers is not None and method not in readers):
        own = ", ".join(sorted(readers or {checkpoint.method}))
        words = f"quantization={method}: {_already(checkpoint)}; valid: none, {own}"
        return Refusal("checkpoint_matches", words)
    return None


def checkpoint_kept(case: Case) -> Refusal | None:
    """Weights of a quantised checkpoint are not turned back into 16 bits (model_loader)."""
    checkpoint = case.model.quantization if case.model else None
    gemm = case.config.quantization.gemm
    if checkpoint is None or gemm not in LOSSLESS or {QUANTIZATION, DTYPE} & set(case.given):
        return None
    words = f"gemm {gemm}: {_already(checkpoint)}, and vLLM does not undo it; valid: no gemm"
    return Refusal("checkpoint_kept", words)


def _already(checkpoint: CheckpointQuantization) -> str:
    return f"the checkpoint is quantised with {checkpoint.method} already ({checkpoint.source})"


def checkpoint_is_quantized(case: Case) -> Refusal | None:
    """Methods that read a quantised checkpoint need one (model_loader/weight_utils.py).

    Said only where the facts are the model's own: a catalogued model may stand for a quantised
    copy of it under a longer name.
    """
    method, model = case.text(QUANTIZATION), case.model
    if method is None or model is None or model.quantization is not None:
        return None
    readers = frozenset[str]().union(*_READ_AS.values()) - {"fp8"}
    if method not in readers or not model.source.endswith("config.json"):
        return None
    words = (
        f"quantization={method} reads a quantised checkpoint, which {model.name} is not; "
        f"valid: {', '.join(LINEAR.values())}"
    )
    return Refusal("checkpoint_is_quantized", words)


def online_says_what(case: Case) -> Refusal | None:
    """`--quantization online` names what it quantises (quantization/online/base.py)."""
    if case.text(QUANTIZATION) != "online":
        return None
    config = case.mapping(QUANTIZATION_CONFIG)
    if any(config.get(part) for part in ("linear", "moe", "targets")):
        return None
    words = f"quantization=online needs {QUANTIZATION_CONFIG} with linear, moe or targets"
    return Refusal("online_says_what", words)


def cache_has_the_models_dtype(case: Case) -> Refusal | None:
    """A cache of 16 bits has the model's own dtype (config/vllm.py, since 0.33)."""
    if case.table is not None and case.table.version == "0.32.0":
        return None
    cache, dtype = case.text(KV_CACHE), _dtype(case)
    if cache not in DTYPES.values() or dtype is None or cache == dtype:
        return None
    own = f"auto, {dtype}" if dtype in DTYPES.values() else "auto"
    words = f"{KV_CACHE}={cache} is not the model's dtype {dtype}; valid: {own}"
    return Refusal("cache_has_the_models_dtype", words)


def _dtype(case: Case) -> str | None:
    """What the model computes in; None when vLLM works it out from more than we know."""
    given = case.text(DTYPE)
    if given not in (None, "auto"):
        return given
    own = case.model.dtype.removeprefix("torch.") if case.model else None
    return own if own in DTYPES.values() else None


def cache_of_latents(case: Case) -> Refusal | None:
    """The plain nvfp4 cache is not laid out for latents (config/vllm.py)."""
    cache = case.text(KV_CACHE) or ""
    if case.model is None or case.model.mla is None or not cache.startswith("nvfp4"):
        return None
    if cache.endswith("_ds_mla"):
        return None
    words = f"{KV_CACHE}={cache} does not go with multi-head latent attention; valid: auto, fp8"
    return Refusal("cache_of_latents", words)


def hardware_computes(case: Case) -> Refusal | None:
    """The accelerator multiplies in the formats asked for (`get_min_capability` of each)."""
    accelerator = case.accelerator
    if accelerator is None:
        return None
    for name, value, precision in _formats(case):
        if accelerator.supports(precision) is False:
            words = f"{name}={value} needs hardware that computes in {precision}"
            since = _since(precision)
            return Refusal(
                "hardware_computes", f"{words}{since}, which {accelerator.name} does not"
            )
    return None


def _since(precision: str) -> str:
    capability = "8.9" if precision.startswith("fp8") else "10.0"
    return f" (compute capability {capability})"


def _formats(case: Case) -> list[tuple[str, str, str]]:
    """(argument, value, format) of all that the command quantises."""
    found: list[tuple[str, str, str]] = []
    method = case.text(QUANTIZATION)
    if method in _FORMATS:
        found.append((QUANTIZATION, method, _FORMATS[method]))
    for part in ("linear", "moe"):
        name = case.mapping(QUANTIZATION_CONFIG).get(part)
        if isinstance(name, str) and name in _FORMATS:
            found.append((f"{QUANTIZATION_CONFIG}.{part}", name, _FORMATS[name]))
    cache = case.text(KV_CACHE) or ""
    if is_fp8(cache):
        found.append((KV_CACHE, cache, "fp8"))
    elif cache.startswith("nvfp4"):
        found.append((KV_CACHE, cache, "nvfp4"))
    return found


RULES = (
    precision_has_words,
    one_dtype,
    attention_follows_cache,
    method_alive,
    checkpoint_readable,
    checkpoint_matches,
    checkpoint_kept,
    checkpoint_is_quantized,
    online_says_what,
    cache_has_the_models_dtype,
    cache_of_latents,
    hardware_computes,
)
