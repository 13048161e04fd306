"""From arguments to what is simulated: defaults filled in, vLLM's own rules checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtimes.fit import GIB, model_weights_per_gpu, weights_per_gpu
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.simulator.arguments import EngineArguments
from runtimes.simulator.engine_model import Limits
from runtimes.simulator.memory import (
    MemoryPlan,
    StartupError,
    activation_bytes,
    block_bytes,
    out_of_memory_text,
    require_cache,
    weight_bytes,
)
from runtimes.simulator.timing import StepTimer

VLLM_VERSION = "0.33.0"
"""The version whose arguments, defaults and messages are imitated."""
_UNKNOWN_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Resolved:
    """One engine, ready to be simulated; every replica has the same limits."""

    arguments: EngineArguments
    limits: Limits
    timer: StepTimer
    memory: MemoryPlan

    @property
    def kv_tokens(self) -> int:
        """Tokens the KV cache of one replica holds."""
        return self.limits.blocks * self.limits.block_size

    @property
    def max_concurrency(self) -> float:
        """Sequences of the longest length one replica holds at once."""
        return self.kv_tokens / self.limits.max_model_len


def resolve(arguments: EngineArguments, model: ModelFacts, accelerator: Accelerator) -> Resolved:
    """Fill in vLLM's defaults and divide the memory.

    Raises:
        StartupError: vLLM would refuse the configuration or run out of memory.
    """
    seqs = arguments.max_num_seqs
    if seqs is None:
        seqs = _default_seqs(accelerator)
    tokens = arguments.max_num_batched_tokens
    if tokens is None:
        tokens = max(_default_tokens(accelerator), seqs)
    length = arguments.max_model_len or model.max_context or _UNKNOWN_CONTEXT
    _check(arguments, model, seqs=seqs, tokens=tokens, length=length)
    element = _kv_element_bytes(arguments.kv_cache_dtype)
    weights = weight_bytes(model, arguments.quantization)
    memory = _divide(
        arguments,
        accelerator,
        weights=_weights_per_gpu(weights, model, arguments.layout),
        activations=activation_bytes(
            model, arguments.layout, max_num_seqs=seqs, max_num_batched_tokens=tokens
        ),
        block=block_bytes(
            model, arguments.layout, block_size=arguments.block_size, element_bytes=element
        ),
    )
    blocks = arguments.num_gpu_blocks_override or memory.blocks
    require_cache(memory, blocks=blocks, block_size=arguments.block_size, max_model_len=length)
    limits = Limits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_model_len=length,
        blocks=blocks,
        block_size=arguments.block_size,
        prefix_caching=arguments.prefix_caching,
        stages=arguments.layout.pp,
    )
    timer = StepTimer(model, accelerator, arguments.layout, weights, element)
    return Resolved(arguments, limits, timer, memory)


def _weights_per_gpu(weights: float, model: ModelFacts, layout: ParallelLayout) -> float:
    """Bytes on one GPU; experts are shared by every rank of a stage, replicas included."""
    if not model.is_moe or not model.weight_bytes:
        return weights_per_gpu(weights, layout)
    span = layout.tp * layout.pcp * layout.dp
    held = model_weights_per_gpu(model, replace(layout, dp=1), expert_ranks=span)
    return weights * held / model.weight_bytes


def _divide(
    arguments: EngineArguments,
    accelerator: Accelerator,
    *,
    weights: float,
    activations: float,
    block: float,
) -> MemoryPlan:
    total = accelerator.memory_bytes
    if weights > total:
        raise StartupError(out_of_memory_text(total))
    pool = arguments.gpu_memory_utilization * total - weights - activations
    return MemoryPlan(weights, activations, pool, block)


def _default_seqs(accelerator: Accelerator) -> int:
    """By vLLM 0.33 `engine/arg_utils.py`: 1024 on large devices other than A100."""
    large = accelerator.memory_bytes >= 70 * GIB and not accelerator.name.startswith("A100")
    return 1024 if large else 256


def _default_tokens(accelerator: Accelerator) -> int:
    """By vLLM 0.33 `engine/arg_utils.py`, for a server."""
    if accelerator.memory_bytes >= 160 * GIB:
        return 16384
    return 8192 if accelerator.memory_bytes >= 70 * GIB else 2048


def _kv_element_bytes(dtype: str) -> float:
    if dtype.startswith(("fp8", "int8")):
        return 1.0
    return 0.5 if dtype.startswith(("int4", "nvfp4")) else 2.0


def _check(
    arguments: EngineArguments, model: ModelFacts, *, seqs: int, tokens: int, length: int
) -> None:
    """The rules of vLLM's configuration that a search meets, in its own words."""
    tp = arguments.layout.tp
    if model.heads % tp:
        raise config_error(
            f"Total number of attention heads ({model.heads}) must be divisible by "
            f"tensor parallel size ({tp})."
        )
    if not 0 < arguments.gpu_memory_utilization <= 1:
        raise config_error(
            f"gpu_memory_utilization must be in (0, 1], got {arguments.gpu_memory_utilization}."
        )
    if min(seqs, tokens, arguments.block_size) < 1:
        raise config_error(
            f"max_num_seqs ({seqs}), max_num_batched_tokens ({tokens}) and block_size "
            f"({arguments.block_size}) must be at least 1."
        )
    if tokens < seqs:
        raise config_error(
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to "
            f"max_num_seqs ({seqs})."
        )
    if model.max_context and length > model.max_context:
        raise config_error(
            f"User-specified max_model_len ({length}) is greater than the derived max_model_len "
            f"(max_position_embeddings={model.max_context} in model's config.json)."
        )


def config_error(rule: str) -> StartupError:
    """A broken rule as pydantic shows it."""
    return StartupError(
        "Traceback (most recent call last):\n"
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
        f"  Value error, {rule} [type=value_error]"
    )


def startup_lines(resolved: Resolved) -> list[str]:
    """What vLLM logs of itself while it starts, for the same configuration."""
    arguments, limits = resolved.arguments, resolved.limits
    config = {
        "model": repr(arguments.served_name),
        "max_seq_len": limits.max_model_len,
        "tensor_parallel_size": arguments.layout.tp,
        "pipeline_parallel_size": arguments.layout.pp,
        "data_parallel_size": arguments.layout.dp,
        "quantization": arguments.quantization,
        "kv_cache_dtype": arguments.kv_cache_dtype,
        "max_num_seqs": limits.max_num_seqs,
        "max_num_batched_tokens": limits.max_num_batched_tokens,
        "enable_prefix_caching": limits.prefix_caching,
        "enable_chunked_prefill": True,
    }
    shown = ", ".join(f"{key}={value}" for key, value in config.items())
    return [
        f"Initializing a V1 LLM engine (v{VLLM_VERSION}) with config: {shown}",
        f"Loading weights of {resolved.timer.model.name} onto simulated devices",
        f"Model loading took {resolved.memory.weights / GIB:.2f} GiB memory per GPU",
        f"GPU KV cache size: {resolved.kv_tokens:,} tokens",
        f"Maximum concurrency for {limits.max_model_len:,} tokens per request: "
        f"{resolved.max_concurrency:.2f}x",
        "Application startup complete.",
    ]
