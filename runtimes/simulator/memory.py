"""What a GPU's memory is divided into, and vLLM's words when it does not suffice."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.fit import GIB
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout

MIB = 1 << 20
OTHER_BYTES = 3 * GIB
"""CUDA context, graphs and fragmentation: what fitted measured maximum throughputs of dense models
best (692 rows of NVIDIA's performance overview); a bare context takes 0.55 GiB."""
_ACTIVATION_FACTORS = {1: 11.0, 2: 6.5}
"""Live activation tensors per token in units of heads x head_dim, by tensor degree; 5 beyond
(aiconfigurator, dense Llama)."""
_NCCL_BYTES = {1: 0, 2: 342 * MIB}
"""Communicator buffers by tensor degree; 392 MiB beyond (aiconfigurator)."""
_LEAST_STEP_BYTES = 70 * MIB
"""Activations of the smallest step (aiconfigurator)."""


class StartupError(Exception):
    """The imitated engine would not start; the message is the traceback it would print."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """One GPU's memory.

    Attributes:
        weights, activations: bytes.
        kv_pool: bytes left for the cache; negative when there is no room.
        block_bytes: bytes of one KV block on one GPU.
    """

    weights: float
    activations: float
    kv_pool: float
    block_bytes: float

    @property
    def blocks(self) -> int:
        return max(0, int(self.kv_pool // self.block_bytes))


def weight_bytes(model: ModelFacts, quantization: str | None) -> float:
    """Bytes of all weights on the devices; 8-bit formats leave the embedding and head as is."""
    if quantization is None or "8" not in quantization:
        return model.weight_bytes
    kept = 2.0 * model.vocab * model.hidden * (1 if model.tied else 2)
    return kept + (model.weight_bytes - kept) / 2


def activation_bytes(
    model: ModelFacts, layout: ParallelLayout, *, max_num_seqs: int, max_num_batched_tokens: int
) -> float:
    """What one GPU keeps free beside weights and cache: the largest step, logits, buffers."""
    hidden = model.heads * model.head_dim
    step = 2.0 * max_num_batched_tokens * hidden * _ACTIVATION_FACTORS.get(layout.tp, 5.0)
    logits = 4.0 * max_num_seqs * model.vocab / layout.tp
    buffers = _NCCL_BYTES.get(layout.tp, 392 * MIB)
    return max(step, _LEAST_STEP_BYTES) + logits + buffers + OTHER_BYTES


def block_bytes(
    model: ModelFacts, layout: ParallelLayout, *, block_size: int, element_bytes: float
) -> float:
    """Bytes of one KV block on one GPU; ranks beyond the KV heads hold copies."""
    shards = min(layout.tp, model.kv_heads) * layout.pp
    return block_size * model.kv_bytes_per_token(element_bytes) / shards


def require_cache(plan: MemoryPlan, *, blocks: int, block_size: int, max_model_len: int) -> None:
    """Check that the cache holds one sequence of the longest length.

    Raises:
        StartupError: it does not, in the words of vLLM's `v1/core/kv_cache_utils.py`.
    """
    if blocks <= 0:
        raise StartupError(
            _engine_core_failed(
                "ValueError: No available memory for the cache blocks. Try increasing "
                "`gpu_memory_utilization` when initializing the engine."
            )
        )
    if blocks * block_size < max_model_len:
        needed = -(-max_model_len // block_size) * plan.block_bytes / GIB
        available = blocks * plan.block_bytes / GIB
        raise StartupError(
            _engine_core_failed(
                f"ValueError: To serve at least one request with the models's max seq len "
                f"({max_model_len}), ({needed:.2f} GiB KV cache is needed, which is larger than "
                f"the available KV cache memory ({available:.2f} GiB). Based on the available "
                f"memory, the estimated maximum model length is {blocks * block_size}. Try "
                "increasing `gpu_memory_utilization` or decreasing `max_model_len` when "
                "initializing the engine."
            )
        )


def out_of_memory_text(memory_bytes: int) -> str:
    """PyTorch's message for a device that filled up while the weights were loaded."""
    total = memory_bytes / GIB
    return _engine_core_failed(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has a "
        f"total capacity of {total:.2f} GiB of which 312.00 MiB is free."
    )


def _engine_core_failed(cause: str) -> str:
    """As vLLM prints it: the cause by the engine's process, a wrapper by the server's."""
    return (
        "EngineCore failed to start.\n"
        "Traceback (most recent call last):\n"
        f"{cause}\n"
        "Traceback (most recent call last):\n"
        "RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {}"
    )
