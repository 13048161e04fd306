"""What limits SGLang's batches and memory: its arguments, and what it has without them.

Defaults are those of server_args.py, `_handle_gpu_memory_settings`.
"""

from __future__ import annotations

from runtimes.engines._sglang_case import Case
from runtimes.serving_limits import ServingLimits

_MIB = 1 << 20
_TIERS = (
    (20, 2048, 8, 8),
    (35, 2048, 24, 80),
    (60, 4096, 32, 160),
    (160, 8192, 256, 512),
)
"""GiB below which: prefill chunk, largest captured batch below four ranks and from four on."""
_LARGEST = (16384, 512)
_UNKNOWN = (4096, 160)
_UNKNOWN_FRACTION = 0.88
_MAX_PREFILL_TOKENS = 16384
_WINDOW_POOL = 0.8
"""`--swa-full-tokens-ratio`."""
_LARGE_MIB = 60 * 1024
_MOST_REQUESTS = 4096
"""What it takes at most by itself; it is less where the KV cache holds less."""
_GUIDED = ("NGRAM",)
"""Drafters without weights of their own."""


def serving_limits(case: Case) -> ServingLimits:
    """Limits of one attention group, or of one replica without such groups."""
    settings, model = case.settings, case.model
    chunk, _ = _batch(case)
    prefill = settings.integer("max-prefill-tokens", _MAX_PREFILL_TOKENS) or _MAX_PREFILL_TOKENS
    groups = case.attention_dp
    longest = settings.integer("context-length") or (model.max_context if model else 0)
    return ServingLimits(
        max_num_seqs=max(1, (settings.integer("max-running-requests") or _MOST_REQUESTS) // groups),
        max_num_batched_tokens=max(1, chunk // groups) if chunk > 0 else prefill,
        memory_fraction=_memory_fraction(case),
        fraction_of="static",
        max_model_len=longest,
        chunked_prefill=chunk > 0,
        prefix_caching=not settings.on("disable-radix-cache"),
        block_size=case.page_size,
        compiled_graphs=_graphs(case),
        kv_cache_tokens=settings.integer("max-total-tokens") or 0,
        window_pool=_window_pool(case),
        draft_tokens=_drafts(case),
    )


def _batch(case: Case) -> tuple[int, int]:
    """Prefill chunk (-1 for none) and largest captured batch, by the accelerator's memory."""
    chunk, captured = _UNKNOWN if case.accelerator is None else _LARGEST
    if case.accelerator is not None:
        for below, tokens, few, many in _TIERS:
            if case.accelerator.memory_bytes < below * 1024 * _MIB:
                chunk, captured = tokens, few if case.tp < 4 else many
                break
    settings = case.settings
    given = settings.integer("chunked-prefill-size", chunk)
    graphs = settings.integer("cuda-graph-max-bs-decode", captured)
    return given or chunk, graphs or captured


def _memory_fraction(case: Case) -> float:
    """`--mem-fraction-static`, or what is left beside what SGLang reserves."""
    given = case.settings.number("mem-fraction-static")
    if given is not None:
        return given
    if case.accelerator is None:
        return _UNKNOWN_FRACTION
    memory = case.accelerator.memory_bytes / _MIB
    chunk, graphs = _batch(case)
    if chunk <= 0:
        chunk = case.settings.integer("max-prefill-tokens") or _MAX_PREFILL_TOKENS
    reserved = 512 + 1.5 * max(chunk, 2048) + 2.0 * graphs + 128 * case.tp * case.pp
    if case.attention_dp > 1:
        reserved += graphs * case.attention_dp * (3.0 if graphs <= 300 else 4.5)
    if memory > _LARGE_MIB:
        reserved = max(reserved, 10 * 1024)
    reserved += _reserved_for_drafts(case)
    return round((memory - reserved) / memory, 3)


def _reserved_for_drafts(case: Case) -> int:
    algorithm = case.settings.text("speculative-algorithm").upper()
    if not algorithm or algorithm in _GUIDED:
        return 0
    return (6 if algorithm == "STANDALONE" else 2) * 1024


def _graphs(case: Case) -> bool:
    settings = case.settings
    off = settings.text("cuda-graph-backend-decode") == "disabled"
    return not (off or settings.on("disable-cuda-graph"))


def _window_pool(case: Case) -> float:
    if case.model is None or not case.model.windowed_layers:
        return 0.0
    if case.settings.on("disable-hybrid-swa-memory"):
        return 1.0
    given = case.settings.number("swa-full-tokens-ratio")
    return _WINDOW_POOL if given is None else given


def _drafts(case: Case) -> int:
    """Tokens checked per step beyond the one that is always right."""
    settings = case.settings
    if not settings.text("speculative-algorithm"):
        return 0
    verified = settings.integer("speculative-num-draft-tokens")
    steps = settings.integer("speculative-num-steps")
    if steps is not None:
        return steps
    return max(1, verified - 1) if verified is not None else 3
