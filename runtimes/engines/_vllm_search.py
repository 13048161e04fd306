"""What is worth searching in vLLM 0.32 and 0.33; defaults are those of its own arguments."""

from __future__ import annotations

from collections.abc import Iterator

from runtimes.engines._search import SearchHint
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts

_BACKENDS = {
    8: ["FLASH_ATTN", "FLASHINFER"],
    9: ["FLASH_ATTN", "FLASHINFER"],
    10: ["FLASHINFER", "FLASH_ATTN"],
    12: ["FLASH_ATTN", "FLASHINFER"],
}
"""Attention backends by the first figure of the compute capability; those of plain attention."""


def search_hints(
    model: ModelFacts | None, accelerator: Accelerator | None
) -> tuple[SearchHint, ...]:
    """Arguments worth searching, the most telling first."""
    return (
        *_of_scheduling(),
        *_of_cache(model, accelerator),
        *_of_experts(model),
        *_of_start(),
        *_of_attention(model, accelerator),
        *_of_prefixes(),
        *_of_speculation(model),
        *_of_the_front(),
    )


def _of_scheduling() -> Iterator[SearchHint]:
    yield SearchHint(
        "max-num-seqs",
        [32, 64, 128, 256, 512, 1024],
        "Requests in a step: more of them raise throughput and the time per token.",
    )
    yield SearchHint(
        "max-num-batched-tokens",
        [2048, 4096, 8192, 16384],
        "Tokens in a step: larger steps shorten prefill and hold up the decoding beside it.",
    )
    yield SearchHint(
        "long-prefill-token-threshold",
        [0, 1024, 2048, 4096],
        "Prompts longer than this share a step; 0 lets one take all of it.",
        advanced=True,
    )
    yield SearchHint(
        "scheduler-reserve-full-isl",
        [True, False],
        "Whether a request starts only when its whole prompt has room in the KV cache.",
        advanced=True,
    )


def _of_cache(model: ModelFacts | None, accelerator: Accelerator | None) -> Iterator[SearchHint]:
    stored = model.quantization if model is not None else None
    scaled = stored is not None and stored.kv_cache == "fp8"  # `auto` takes these scales
    known_not = accelerator is not None and accelerator.supports("fp8") is False
    if not scaled and not known_not:
        yield SearchHint(
            "kv-cache-dtype",
            ["auto", "fp8"],
            "Twice the tokens in the KV cache; may cost accuracy.",
        )
    yield SearchHint(
        "gpu-memory-utilization",
        {"float": [0.86, 0.95], "step": 0.03},
        "Share of the GPU's memory; above 0.95 the start runs out of it.",
        advanced=True,
    )
    yield SearchHint(
        "kv-offloading-size",
        [16, 64],
        "GiB of host memory for prefixes that the GPU has no room for.",
        advanced=True,
    )


def _of_experts(model: ModelFacts | None) -> Iterator[SearchHint]:
    if model is None or not model.is_moe:
        return
    yield SearchHint(
        "all2all-backend",
        ["allgather_reducescatter", "deepep_high_throughput", "deepep_low_latency"],
        "How tokens reach their experts; DeepEP has to be installed.",
        when="ep > 1 and dp > 1",
        advanced=True,
    )
    yield SearchHint(
        "enable-dbo",
        [False, True],
        "Computes one half of a batch while the other half's tokens travel.",
        when="all2all_backend in ('deepep_high_throughput', 'deepep_low_latency')",
        advanced=True,
    )
    yield SearchHint(
        "enable-eplb",
        [False, True],
        "Moves experts between ranks as their load changes.",
        when="ep > 1",
        advanced=True,
    )
    yield SearchHint(
        "moe-backend",
        ["auto", "triton", "flashinfer_cutlass"],
        "Kernels of the experts; which is fastest depends on the GPU and the format.",
        advanced=True,
    )


def _of_start() -> Iterator[SearchHint]:
    yield SearchHint(
        "max-cudagraph-capture-size",
        [128, 256, 512],
        "Largest batch that runs as a CUDA graph; larger ones take memory and start-up time.",
        advanced=True,
    )
    yield SearchHint(
        "optimization-level",
        [2, 3],
        "How much is compiled and tuned before the first request.",
        advanced=True,
    )
    yield SearchHint(
        "async-scheduling",
        [True, False],
        "Plans the next step while this one runs.",
        when="pp == 1",
        advanced=True,
    )


def _of_attention(
    model: ModelFacts | None, accelerator: Accelerator | None
) -> Iterator[SearchHint]:
    """Latent attention has backends of its own, among which vLLM chooses well."""
    capability = accelerator.capability if accelerator is not None else None
    if capability is None or capability[0] not in _BACKENDS:
        return
    if model is not None and model.mla is not None:
        return
    yield SearchHint(
        "attention-backend",
        [*_BACKENDS[capability[0]]],
        "Kernels of the attention; without it vLLM chooses by hardware and model.",
        advanced=True,
    )


def _of_prefixes() -> Iterator[SearchHint]:
    yield SearchHint(
        "enable-prefix-caching",
        [True, False],
        "Keeps prefixes for later requests; where no prompts share one it only costs.",
        advanced=True,
    )


def _of_speculation(model: ModelFacts | None) -> Iterator[SearchHint]:
    """Drafts that need no second model; what is not accepted is computed in vain."""
    drafts: list[dict[str, object]] = [
        {"method": "ngram", "num_speculative_tokens": tokens, "prompt_lookup_max": 4}
        for tokens in (3, 5)
    ]
    if model is not None and model.mtp_layers:
        drafts += [{"method": "mtp", "num_speculative_tokens": tokens} for tokens in (1, 3)]
    yield SearchHint(
        "speculative-config",
        [None, *drafts],  # type: ignore[list-item]  # all of it is JSON
        "Guesses tokens and checks several at once: lower latency while batches are small.",
        advanced=True,
    )


def _of_the_front() -> Iterator[SearchHint]:
    yield SearchHint(
        "api-server-count",
        [1, 2, 4],
        "Processes that take requests; one can be too slow for many replicas.",
        when="dp > 1",
        advanced=True,
    )
    yield SearchHint(
        "stream-interval",
        [1, 4, 8],
        "Tokens per streamed piece: fewer pieces cost the front end less.",
        advanced=True,
    )
