"""What is worth searching in TensorRT-LLM; defaults in `_trtllm_settings`."""

from __future__ import annotations

from collections.abc import Iterator

from runtimes.engines._search import SearchHint
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts


def hints(model: ModelFacts | None, accelerator: Accelerator | None) -> tuple[SearchHint, ...]:
    """Arguments worth searching, the most telling first."""
    return (*_of_any(), *_of_precision(model, accelerator), *_of_experts(model), *_advanced())


def _of_any() -> Iterator[SearchHint]:
    yield SearchHint(
        "max_batch_size",
        [64, 128, 256, 512, 1024, 2048],
        "Requests in a step: more of them raise throughput and the time per token.",
    )
    yield SearchHint(
        "max_num_tokens",
        [2048, 4096, 8192, 16384],
        "Tokens in a step: larger steps shorten prefill and hold up the decoding beside it.",
    )
    yield SearchHint(
        "enable_chunked_prefill",
        [False, True],
        "Prompts in pieces, so that a long one holds up nobody else's tokens.",
    )
    yield SearchHint(
        "scheduler_config.capacity_scheduler_policy",
        ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION"],
        "Whether a request starts only if its whole answer has room in the KV cache.",
    )


def _of_precision(
    model: ModelFacts | None, accelerator: Accelerator | None
) -> Iterator[SearchHint]:
    scaled = model is not None and model.quantization is not None and model.quantization.kv_cache
    known_not = accelerator is not None and accelerator.supports("fp8") is False
    if not scaled and not known_not:
        yield SearchHint(
            "kv_cache_config.dtype",
            ["auto", "fp8"],
            "Twice the tokens in the KV cache; may cost accuracy.",
        )


def _of_experts(model: ModelFacts | None) -> Iterator[SearchHint]:
    if model is None or not model.experts:
        return
    yield SearchHint(
        "moe_config.backend",
        ["AUTO", "CUTLASS", "TRTLLM"],
        "Kernels of the experts; which is fastest depends on the GPU and the format.",
    )
    yield SearchHint(
        "attention_dp_config.enable_balance",
        [False, True],
        "Waits a few steps until all ranks have a prompt to work on.",
        when="attention_dp > 1",
        advanced=True,
    )


def _advanced() -> Iterator[SearchHint]:
    yield SearchHint(
        "kv_cache_config.free_gpu_memory_fraction",
        [0.8, 0.9, 0.95],
        "Share of the memory that the weights leave free; too much of it fails under load.",
        advanced=True,
    )
    yield SearchHint(
        "kv_cache_config.enable_block_reuse",
        [True, False],
        "Keeps prefixes for later requests; without shared prefixes it only costs.",
        advanced=True,
    )
    yield SearchHint(
        "cuda_graph_config.enable_padding",
        [False, True],
        "Rounds batches up to a size that has a CUDA graph.",
        advanced=True,
    )
    yield SearchHint(
        "cuda_graph_config.max_batch_size",
        [64, 128, 256, 512],
        "Largest batch with a CUDA graph; needs memory and start-up time for each.",
        advanced=True,
    )
