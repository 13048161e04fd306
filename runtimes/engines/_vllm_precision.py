"""Neutral precision in vLLM's words, and what of a command may cost accuracy."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.engines._vllm_args import as_json, roots
from runtimes.json_types import Json
from runtimes.quantization import LOSSLESS, Precision, Quantization

QUANTIZATION = "quantization"
QUANTIZATION_CONFIG = "quantization-config"
KV_CACHE = "kv-cache-dtype"
DTYPE = "dtype"
QUERY_IN_16_BITS = "attention-config.disable_flashinfer_q_quantization"

DTYPES: dict[Precision, str] = {"bf16": "bfloat16", "fp16": "float16"}
LINEAR: dict[Precision, str] = {
    "fp8": "fp8_per_tensor",
    "fp8_block": "fp8_per_block",
    "fp8_channel": "fp8_per_channel",
    "mxfp8": "mxfp8",
    "mxfp4": "mxfp4",
}
"""Names of weights quantised while loading (config/quantization.py, `_ONLINE_SHORTHANDS`)."""
_EXPERTS_ONLY: dict[Precision, str] = {
    "int8": "int8_per_channel_weight_only",
    "nvfp4": "nvfp4_per_token",
}
EXPERTS: dict[Precision, str] = {**LINEAR, **_EXPERTS_ONLY}
"""The same for experts."""
KV_CACHES: dict[Precision, str] = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp8": "fp8",
    "fp8_e5m2": "fp8_e5m2",
    "int8": "int8_per_token_head",
    "int4": "int4_per_token_head",
    "nvfp4": "nvfp4",
}
"""Names of KV-cache formats (config/cache.py, `CacheDType`)."""
ONLINE = frozenset({*EXPERTS.values(), "online"})
"""Methods that quantise a checkpoint of 16 bits while it loads."""

_WEIGHTS_IN_WORDS = {
    "fp8": "weights in fp8",
    "fp8_per_tensor": "weights in fp8",
    "fp8_per_block": "weights in fp8 by block",
    "fp8_per_channel": "weights in fp8 by channel",
    "mxfp8": "weights in mxfp8",
    "mxfp4": "weights in mxfp4",
    "int8_per_channel_weight_only": "experts in int8",
    "experts_int8": "experts in int8",
    "nvfp4_per_token": "experts in nvfp4",
    "fbgemm_fp8": "weights in fp8",
    "fp_quant": "weights in 4 bits",
}
"""What methods that work on a checkpoint of 16 bits do to it; the others need a quantised one."""


def precision_args(quantization: Quantization, args: Mapping[str, Json]) -> dict[str, Json]:
    """Arguments that say `quantization`, without those that `args` give.

    What vLLM has no word for is left out; the rules refuse it.
    """
    given = roots(args)
    made: dict[str, Json] = {}
    if quantization.gemm in DTYPES and DTYPE not in given:
        made[DTYPE] = DTYPES[quantization.gemm]
    if not given & {QUANTIZATION, QUANTIZATION_CONFIG}:
        made.update(_weights(quantization))
    if quantization.kv_cache in KV_CACHES and KV_CACHE not in given:
        made[KV_CACHE] = KV_CACHES[quantization.kv_cache]
    # Attention has no dtype of its own: FlashInfer quantises the query with an fp8 cache
    # (v1/attention/backends/flashinfer.py) unless told not to.
    wants_16_bits = quantization.attention in LOSSLESS
    cache = made.get(KV_CACHE, args.get(KV_CACHE))
    if wants_16_bits and is_fp8(cache) and not _says_query_precision(args):
        made[QUERY_IN_16_BITS] = True
    return made


def _says_query_precision(args: Mapping[str, Json]) -> bool:
    name, _, key = QUERY_IN_16_BITS.partition(".")
    whole = as_json(args.get(name))
    return QUERY_IN_16_BITS in args or (isinstance(whole, dict) and key in whole)


def _weights(quantization: Quantization) -> dict[str, Json]:
    linear = None if quantization.gemm is None else LINEAR.get(quantization.gemm)
    experts = None if quantization.moe is None else EXPERTS.get(quantization.moe)
    if linear and (quantization.moe is None or experts == linear):
        return {QUANTIZATION: linear}
    if not linear and experts in _EXPERTS_ONLY.values():
        return {QUANTIZATION: experts}
    parts: dict[str, Json] = {}
    if linear:
        parts["linear"] = linear
    if experts:
        parts["moe"] = experts
    return {QUANTIZATION: "online", QUANTIZATION_CONFIG: parts} if parts else {}


def is_fp8(kv_cache: Json) -> bool:
    """True for KV-cache dtypes of 8-bit floats."""
    return isinstance(kv_cache, str) and kv_cache.startswith("fp8")


def lossy(args: Mapping[str, Json]) -> tuple[str, ...]:
    """What of a whole command's `args` may cost accuracy, in words.

    Methods that only read what the checkpoint already is are left out.
    """
    found = [*_lossy_weights(args)]
    kv_cache = args.get(KV_CACHE)
    if isinstance(kv_cache, str) and kv_cache not in ("auto", *DTYPES.values()):
        found.append(f"KV cache in {kv_cache}")
    return tuple(found)


def _lossy_weights(args: Mapping[str, Json]) -> list[str]:
    method, config = args.get(QUANTIZATION), args.get(QUANTIZATION_CONFIG)
    if isinstance(config, dict) and method in (None, "online"):
        parts = {"linear": "linear layers", "moe": "experts"}
        told = [f"{words} in {config[name]}" for name, words in parts.items() if config.get(name)]
        return told or ["weights by quantization-config"]
    if method == "online" or any(name.startswith(f"{QUANTIZATION_CONFIG}.") for name in args):
        return ["weights by quantization-config"]
    words = _WEIGHTS_IN_WORDS.get(str(method))
    return [words] if words else []
