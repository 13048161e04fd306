"""What is worth searching in SGLang 0.5.23; defaults and ranges from its own argument handling."""

from __future__ import annotations

from runtimes.engines._search import SearchHint
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts

DEFAULT_SEARCH: tuple[SearchHint, ...] = (
    SearchHint(
        "chunked-prefill-size",
        [2048, 4096, 8192, 16384],
        "Tokens of a prompt in one step: larger chunks shorten prefill and hold up decoding.",
    ),
    SearchHint(
        "mem-fraction-static",
        [0.8, 0.85, 0.9],
        "Share of the memory for weights and KV cache; too much leaves none for activations.",
    ),
    SearchHint(
        "max-running-requests",
        [64, 128, 256, 512, 1024, 2048],
        "Requests computed at a time; the engine takes what the KV cache holds by default.",
    ),
    SearchHint(
        "schedule-policy",
        ["fcfs", "lpm"],
        "Which waiting request goes first; lpm takes the longest cached prefix.",
    ),
    SearchHint(
        "schedule-conservativeness",
        [0.3, 0.6, 1.0, 1.3],
        "How much room is kept for answers: low values start more and retract more often.",
        advanced=True,
    ),
    SearchHint(
        "cuda-graph-max-bs-decode",
        [160, 256, 512],
        "Largest decode batch that runs as a CUDA graph; larger ones take memory and start-up.",
    ),
    SearchHint(
        "attention-backend",
        ["flashinfer", "triton"],
        "Kernels of the attention; without it SGLang chooses by hardware and model.",
        advanced=True,
    ),
    SearchHint(
        "page-size",
        [1, 16, 32, 64],
        "Tokens per page of the KV cache: larger pages read faster and share fewer prefixes.",
        advanced=True,
    ),
    SearchHint(
        "max-prefill-tokens",
        [8192, 16384, 32768],
        "Prompt tokens that one step takes from all requests together.",
        advanced=True,
    ),
    SearchHint(
        "enable-mixed-chunk",
        [False, True],
        "Prefill and decode in one step: steadier tokens, slower prefill.",
        advanced=True,
    ),
    SearchHint(
        "num-continuous-decode-steps",
        [1, 2, 4],
        "Decode steps between two rounds of scheduling: less overhead, later first tokens.",
        advanced=True,
    ),
    SearchHint(
        "stream-interval",
        [1, 4, 8],
        "Tokens per streamed piece: fewer pieces cost the front end less.",
        advanced=True,
    ),
    SearchHint(
        "disable-radix-cache",
        [False, True],
        "Leaves the prefix cache out, which only costs where no prompts share a beginning.",
        when="schedule_policy != 'lpm'",
        advanced=True,
    ),
    SearchHint(
        "radix-eviction-policy",
        ["lru", "lfu"],
        "Which cached prefixes go first when the KV cache is full.",
        advanced=True,
    ),
    SearchHint(
        "enable-hierarchical-cache",
        [False, True],
        "Keeps evicted prefixes in the host's memory; pays where many prompts share beginnings.",
        advanced=True,
    ),
    SearchHint(
        "hicache-ratio",
        [1.5, 2.0, 3.0],
        "Size of the host's tier as a multiple of the GPU's.",
        when="enable_hierarchical_cache",
        advanced=True,
    ),
    SearchHint(
        "speculative-algorithm",
        [None, "NGRAM"],
        "Drafts tokens from the prompt's own phrases: faster answers where they repeat it.",
        when="pp == 1",
        advanced=True,
    ),
    SearchHint(
        "speculative-num-draft-tokens",
        [4, 8, 12],
        "Tokens drafted at a time: more of them pay only when most are accepted.",
        when="speculative_algorithm == 'NGRAM'",
        advanced=True,
    ),
)
"""For every model and accelerator, the most telling first."""

_FP8_CACHE = SearchHint(
    "kv-cache-dtype",
    ["auto", "fp8_e4m3"],
    "Twice the tokens in the KV cache; may cost accuracy.",
)
_OF_EXPERTS = (
    SearchHint(
        "moe-runner-backend",
        ["auto", "triton", "deep_gemm"],
        "Kernels of the experts.",
        advanced=True,
    ),
    SearchHint(
        "moe-a2a-backend",
        ["none", "deepep"],
        "How tokens reach their experts; deepep spreads whole experts over all ranks.",
        when="tp > 1",
        advanced=True,
    ),
    SearchHint(
        "enable-two-batch-overlap",
        [False, True],
        "Computes one half of a batch while the other half's tokens travel.",
        when="attention_dp > 1",
        advanced=True,
    ),
)
_OF_WINDOWS = SearchHint(
    "swa-full-tokens-ratio",
    {"float": [0.4, 1.0], "step": 0.2},
    "Tokens kept for windowed layers per token of full ones.",
    advanced=True,
)
_OF_HOPPER = SearchHint(
    "attention-backend",
    ["fa3", "flashinfer", "triton"],
    "Kernels of the attention; without it SGLang chooses by hardware and model.",
    advanced=True,
)
_OF_BLACKWELL = SearchHint(
    "attention-backend",
    ["trtllm_mha", "flashinfer", "triton"],
    "Kernels of the attention; without it SGLang chooses by hardware and model.",
    advanced=True,
)


def search_hints(
    model: ModelFacts | None, accelerator: Accelerator | None
) -> tuple[SearchHint, ...]:
    """Those of `DEFAULT_SEARCH` that suit model and accelerator, and what is theirs alone."""
    hints = [_of_device(hint, model, accelerator) for hint in DEFAULT_SEARCH]
    if not _cache_is_fp8(model) and (accelerator is None or accelerator.supports("fp8")):
        hints.insert(1, _FP8_CACHE)
    if model is not None and model.experts:
        hints.extend(_OF_EXPERTS)
    if model is not None and model.windowed_layers:
        hints.append(_OF_WINDOWS)
    return tuple(hints)


def _cache_is_fp8(model: ModelFacts | None) -> bool:
    """`auto` takes the scales of such a checkpoint, so that nothing is left to search."""
    stored = model.quantization if model else None
    return stored is not None and stored.kv_cache == "fp8"


def _of_device(
    hint: SearchHint, model: ModelFacts | None, accelerator: Accelerator | None
) -> SearchHint:
    """Attention backends are those of the GPU's generation; latent attention has its own."""
    known = accelerator.capability if accelerator else None
    if hint.name != "attention-backend" or known is None or (model and model.mla):
        return hint
    return {9: _OF_HOPPER, 10: _OF_BLACKWELL}.get(known[0], hint)
