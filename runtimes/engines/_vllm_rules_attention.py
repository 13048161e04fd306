"""vLLM's rules of a pinned attention backend: block sizes, cache formats, kinds of attention."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_precision import KV_CACHE, is_fp8
from runtimes.engines.base import Refusal

_PLAIN = frozenset({"auto", "float16", "bfloat16"})
_FP8 = _PLAIN | {"fp8", "fp8_e4m3"}
_BLACKWELL = (10, 0)
_HOPPER = (9, 0)


@dataclass(frozen=True, slots=True)
class _Backend:
    """What one backend takes (v1/attention/backends of 0.33).

    Attributes:
        blocks: block sizes; of a single one that stands for its multiples, see `multiples`.
        caches: KV-cache dtypes.
        latent: True for backends of multi-head latent attention, which serve nothing else.
    """

    blocks: tuple[int, ...]
    caches: frozenset[str]
    latent: bool = False
    multiples: bool = False


_BACKENDS = {
    "FLASH_ATTN": _Backend((16,), _FP8, multiples=True),
    "FLASHINFER": _Backend((16, 32, 64), _FP8 | {"fp8_e5m2", "nvfp4", "nvfp4_4over6"}),
    "TRITON_ATTN": _Backend(
        (16,),
        _FP8 | {"fp8_e5m2", "int4_per_token_head", "int8_per_token_head", "fp8_per_token_head"},
        multiples=True,
    ),
    "FLASHMLA": _Backend((64,), _FP8, latent=True),
    "FLASHINFER_MLA": _Backend((32, 64), _FP8, latent=True),
    "CUTLASS_MLA": _Backend((128,), _FP8, latent=True),
    "TRITON_MLA": _Backend((16,), _FP8, latent=True, multiples=True),
    "FLASH_ATTN_MLA": _Backend((16,), _PLAIN, latent=True, multiples=True),
    "TOKENSPEED_MLA": _Backend((32, 64), _FP8 - _PLAIN, latent=True),
}


def _pinned(case: Case) -> tuple[str, _Backend] | None:
    name = case.text("attention-backend") or case.mapping("attention-config").get("backend")
    known = _BACKENDS.get(str(name).upper()) if name is not None else None
    return (str(name).upper(), known) if known else None


def backend_named_once(case: Case) -> Refusal | None:
    """The backend stands in one place (engine/arg_utils.py)."""
    inner = case.mapping("attention-config").get("backend")
    if case.text("attention-backend") is None or inner is None:
        return None
    words = f"attention-backend and attention-config.backend={inner} are one setting; keep one"
    return Refusal("backend_named_once", words)


def backend_serves_the_model(case: Case) -> Refusal | None:
    """Backends of latent attention serve it alone, the others never (platforms/cuda.py)."""
    pinned = _pinned(case)
    if pinned is None or case.model is None or pinned[1].latent == (case.model.mla is not None):
        return None
    valid = [name for name, backend in _BACKENDS.items() if backend.latent != pinned[1].latent]
    kind = "serves" if pinned[1].latent else "does not serve"
    only = " only" if pinned[1].latent else ""
    words = f"attention-backend={pinned[0]} {kind} multi-head latent attention{only}"
    return Refusal("backend_serves_the_model", f"{words}; valid: {', '.join(valid)}")


def backend_takes_the_block(case: Case) -> Refusal | None:
    """The cache's blocks have a size the backend has kernels for (platforms/cuda.py)."""
    pinned, block = _pinned(case), case.count("block-size")
    if pinned is None or block is None:
        return None
    name, backend = pinned
    if block in backend.blocks or (backend.multiples and block % backend.blocks[0] == 0):
        return None
    if name == "FLASHINFER" and _capability(case) >= _BLACKWELL:
        return None  # has kernels of larger blocks there
    sizes = ", ".join(map(str, backend.blocks))
    valid = f"multiples of {sizes}" if backend.multiples else sizes
    words = f"attention-backend={name} has no kernels for block-size={block}; valid: {valid}"
    return Refusal("backend_takes_the_block", words)


def backend_takes_the_cache(case: Case) -> Refusal | None:
    """The backend reads the cache's format (platforms/cuda.py)."""
    pinned, cache = _pinned(case), case.text(KV_CACHE) or "auto"
    if pinned is None:
        return None
    name, backend = pinned
    if cache not in backend.caches:
        valid = ", ".join(sorted(backend.caches))
        words = f"attention-backend={name} does not read {KV_CACHE}={cache}; valid: {valid}"
        return Refusal("backend_takes_the_cache", words)
    if name == "FLASH_ATTN" and is_fp8(cache) and (0, 0) < _capability(case) < _HOPPER:
        words = (
            f"attention-backend={name} reads {KV_CACHE}={cache} from compute capability 9.0 on; "
            f"valid: {', '.join(sorted(_PLAIN))}"
        )
        return Refusal("backend_takes_the_cache", words)
    return None


def _capability(case: Case) -> tuple[int, int]:
    """CUDA compute capability; Blackwell's for unknown hardware, so that nothing is refused."""
    if case.accelerator is None or case.accelerator.capability is None:
        return _BLACKWELL
    return case.accelerator.capability


RULES = (
    backend_named_once,
    backend_serves_the_model,
    backend_takes_the_block,
    backend_takes_the_cache,
)
