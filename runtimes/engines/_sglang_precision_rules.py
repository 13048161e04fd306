"""What SGLang would refuse of a precision, or has no word for."""

from __future__ import annotations

from runtimes.engines._sglang_case import Case, Rule
from runtimes.engines._sglang_settings import GEMM_FLAGS, KV_FLAGS, MIXED_EXPERTS, made_of
from runtimes.engines.base import Refusal
from runtimes.quantization import LOSSLESS

# configs/model_config.py: methods that take a checkpoint of another method than their own.
_TAKES = {
    "modelopt_fp8": ("modelopt",),
    "modelopt_fp4": ("modelopt", "fp8"),
    "modelopt_mixed": ("modelopt",),
    "nvfp4_online": ("fp8", "modelopt_fp8"),
    "petit_nvfp4": ("modelopt",),
    "w8a8_int8": ("compressed-tensors",),
    "w8a8_fp8": ("compressed-tensors",),
    "auto-round-int8": ("compressed-tensors",),
    # layers/quantization: kernels of their own for the same checkpoints.
    "awq_marlin": ("awq",),
    "gptq_marlin": ("gptq",),
    "moe_wna16": ("awq", "gptq"),
    "w4afp8": ("modelopt",),
}
_TAKES_ALL = frozenset({"quark_mxfp4", "humming", "unquant"})
# Methods that make their weights of a 16-bit checkpoint; all others read theirs from it.
_MAKES = frozenset(
    {
        "bitsandbytes", "fp8", "humming", "mlx_q4", "mlx_q8", "mxfp8", "nvfp4_online",
        "quark_int4fp8_moe", "quark_mxfp4", "unquant", "w8a8_fp8", "w8a8_int8",
    }
)  # fmt: skip
# layers/quantization: least compute capability of methods that no precision of ours stands for.
_LEAST_CAPABILITY = {"w4afp8": (9, 0), "petit_nvfp4": (9, 0), "modelopt_fp8": (8, 9)}
_MADE_HERE = tuple(value for name, value in GEMM_FLAGS.values() if name == "quantization")
_BLACKWELL = (10, 12)


def weights_expressible(case: Case) -> Refusal | None:
    """SGLang makes weights of that format, and the user's arguments leave it to us."""
    gemm, rule = case.config.quantization.gemm, "weights_expressible"
    if gemm is None or gemm in GEMM_FLAGS or "quantization" in case.config.args:
        return None
    checkpoint = case.model.quantization if case.model else None
    if checkpoint is not None and checkpoint.weights == gemm:
        return Refusal(rule, f"gemm={gemm} is what the checkpoint has already; leave gemm out")
    return Refusal(
        rule,
        f"gemm={gemm}: SGLang reads such weights from a checkpoint and makes none as it loads; "
        f"valid: {', '.join(GEMM_FLAGS)}, or a checkpoint quantised so",
    )


def experts_expressible(case: Case) -> Refusal | None:
    """One method quantises all weights; only w4afp8 tells experts apart."""
    wanted = case.config.quantization
    if wanted.moe in (None, wanted.gemm) or "quantization" in case.config.args:
        return None
    if (wanted.gemm, wanted.moe) == (MIXED_EXPERTS.gemm, MIXED_EXPERTS.moe):
        return None
    gemm = wanted.gemm or "unset"
    return Refusal(
        "experts_expressible",
        f"moe={wanted.moe} beside gemm={gemm}: SGLang quantises experts as all other weights; "
        f"valid: both {wanted.moe}, or gemm=fp8 moe=int4 from a w4afp8 checkpoint",
    )


def attention_expressible(case: Case) -> Refusal | None:
    """The attention backend and the KV cache decide what attention computes in."""
    attention = case.config.quantization.attention
    if attention is None:
        return None
    return Refusal(
        "attention_expressible",
        f"attention={attention}: SGLang has no argument for it, it follows kv_cache and "
        "attention-backend; leave attention out",
    )


def kv_cache_expressible(case: Case) -> Refusal | None:
    """`--kv-cache-dtype` has a word for it (server_args.py)."""
    kv_cache = case.config.quantization.kv_cache
    if kv_cache is None or kv_cache in KV_FLAGS or "kv-cache-dtype" in case.config.args:
        return None
    valid = ", ".join(KV_FLAGS)
    return Refusal("kv_cache_expressible", f"SGLang has no kv_cache={kv_cache}; valid: {valid}")


def checkpoint_is_sixteen_bits(case: Case) -> Refusal | None:
    """16-bit weights cannot be had of a checkpoint that is quantised."""
    gemm = case.config.quantization.gemm
    checkpoint = case.model.quantization if case.model else None
    if checkpoint is None or gemm not in LOSSLESS:
        return None
    return Refusal(
        "checkpoint_is_sixteen_bits",
        f"gemm={gemm}, but the checkpoint is quantised ({checkpoint.method}, says "
        f"{checkpoint.source}); leave gemm out, or name the 16-bit checkpoint",
    )


def method_fits_checkpoint(case: Case) -> Refusal | None:
    """A quantised checkpoint is served by its own method (configs/model_config.py)."""
    checkpoint = case.model.quantization if case.model else None
    if checkpoint is None or case.method in (None, checkpoint.method, *_TAKES_ALL):
        return None
    if case.method and checkpoint.method in _TAKES.get(case.method, ()):
        return None
    return Refusal(
        "method_fits_checkpoint",
        f"quantization={case.method}, but the checkpoint is {checkpoint.method} "
        f"({checkpoint.source}); leave it out: the checkpoint's own is used",
    )


def method_has_checkpoint(case: Case) -> Refusal | None:
    """Methods that make no weights read them from a quantised checkpoint (model_loader)."""
    model, method = case.model, case.method
    if model is None or model.quantization is not None or method in (None, *_MAKES):
        return None
    return Refusal(
        "method_has_checkpoint",
        f"quantization={method} reads a checkpoint quantised so, and {model.name} is not "
        f"quantised; valid: {', '.join(_MADE_HERE)}",
    )


def hardware_multiplies(case: Case) -> Refusal | None:
    """The accelerator computes in the format of the weights (layers/quantization)."""
    device, method, rule = case.accelerator, case.method, "hardware_multiplies"
    if device is None or method is None:
        return None
    if method == "quark_mxfp4" and device.vendor != "amd":
        return Refusal(rule, f"gemm=mxfp4 is made on AMD GPUs only, and {device.name} is none")
    if method == "nvfp4_online" and case.generation != 10:
        return Refusal(rule, f"gemm=nvfp4 needs compute capability 10.0, and {_has(case)}")
    least = _LEAST_CAPABILITY.get(method)
    if least is not None and device.capability is not None and device.capability < least:
        needed = ".".join(map(str, least))
        return Refusal(
            rule, f"quantization={method} needs compute capability {needed}, and {_has(case)}"
        )
    precision = made_of(method)
    if precision is None or device.supports(precision) is not False:
        return None
    return Refusal(
        rule, f"quantization={method} needs a GPU that multiplies in {precision}, and {_has(case)}"
    )


def hardware_stores(case: Case) -> Refusal | None:
    """Block-scaled KV caches are Blackwell's (arg_groups/kv_cache_hook.py)."""
    kv_cache = case.settings.text("kv-cache-dtype", "auto")
    if kv_cache not in ("nvfp4", "mxfp8") or case.accelerator is None:
        return None
    if case.generation in _BLACKWELL:
        return None
    return Refusal(
        "hardware_stores",
        f"kv-cache-dtype={kv_cache} needs compute capability 10.0 or 12.0, and {_has(case)}; "
        "valid: fp8_e4m3, fp8_e5m2, bf16, auto",
    )


def backend_reads_cache(case: Case) -> Refusal | None:
    """Some attention backends read some KV caches (overrides.py, kv_cache_hook.py)."""
    kv_cache, rule = case.settings.text("kv-cache-dtype", "auto"), "backend_reads_cache"
    for backend in ("trtllm_mla", "cutedsl_mla"):
        if backend in case.backends and kv_cache not in ("fp8_e4m3", "bf16", "bfloat16", "auto"):
            return Refusal(
                rule,
                f"attention backend {backend} with kv-cache-dtype={kv_cache}; "
                "valid: fp8_e4m3, bf16, auto",
            )
    decode = case.settings.text("decode-attention-backend")
    if kv_cache == "nvfp4" and decode not in ("", "trtllm_mha"):
        return Refusal(
            rule, f"kv-cache-dtype=nvfp4 with decode-attention-backend={decode}; valid: trtllm_mha"
        )
    tiers = ("enable-hierarchical-cache", "enable-lmcache", "enable-unified-memory")
    for tier in tiers:
        if kv_cache == "nvfp4" and case.settings.on(tier):
            return Refusal(rule, f"kv-cache-dtype=nvfp4 does not go with {tier}; give one")
    return None


def hardware_has_backend(case: Case) -> Refusal | None:
    """Attention backends of one generation of GPUs (arg_groups/attention_hook.py)."""
    if case.accelerator is None:
        return None
    for backend, generations in _BACKEND_GENERATIONS.items():
        if backend in case.backends and case.generation not in generations:
            needed = ", ".join(f"{n}.0" for n in generations)
            return Refusal(
                "hardware_has_backend",
                f"attention backend {backend} needs compute capability {needed}, and {_has(case)}",
            )
    return None


_BACKEND_GENERATIONS = {
    "trtllm_mla": _BLACKWELL,
    "cutedsl_mla": (10,),
    "trtllm_mha": (9, 10, 12),
}


def _has(case: Case) -> str:
    """`A100-80GB has 8.0`."""
    if case.accelerator is None:
        return "none is known"
    known = case.accelerator.capability
    return f"{case.accelerator.name} has {'.'.join(map(str, known)) if known else 'none'}"


PRECISION_RULES: tuple[Rule, ...] = (
    weights_expressible,
    experts_expressible,
    attention_expressible,
    kv_cache_expressible,
    checkpoint_is_sixteen_bits,
    method_fits_checkpoint,
    method_has_checkpoint,
    hardware_multiplies,
    hardware_stores,
    backend_reads_cache,
    hardware_has_backend,
)
