"""Whether a model's weights fit on its GPUs: sizes only, the same for every engine."""

from __future__ import annotations

from math import ceil

from runtimes.hardware import Accelerator
from runtimes.model import BYTES_PER_WEIGHT, ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization

GIB = 1 << 30

_SHOWN = ("ep", "attention_dp", "moe_ep", "moe_tp")
"""Degrees that change what one GPU holds, besides `tp` and `pp`."""


def weights_per_gpu(weight_bytes: float, layout: ParallelLayout) -> float:
    """Bytes of weights on one GPU: tensor and pipeline degrees share them, replicas do not.

    Norms and the embedding of the first stage are spread evenly too: under 1 % of any model.
    """
    return weight_bytes / (layout.tp * layout.pp)


def model_weights_per_gpu(
    model: ModelFacts,
    layout: ParallelLayout,
    quantization: Quantization | None = None,
    *,
    expert_ranks: int | None = None,
) -> float:
    """Bytes of weights on one GPU of a pipeline stage of average size: at least so many.

    Attention is split over the ranks of its own group (`tp / attention_dp`), keys and values over
    at most as many as they have heads; latents, routers and norms stand on every rank. Context
    parallelism and data parallelism copy all of it.

    Args:
        model: its shape and what the checkpoint is stored in.
        layout: the degrees.
        quantization: what the engine turns the weights into as it loads them.
        expert_ranks: GPUs of one pipeline stage that share the experts, where an engine spreads
            them over replicas too; by default the tensor ranks, or the expert ranks if more.
    """
    if model.checkpoint_bytes:
        return weights_per_gpu(model.checkpoint_bytes, layout)
    weights = model.weights
    plain = BYTES_PER_WEIGHT.get(model.dtype, 2.0)
    linear, expert = model.bytes_per_weight(quantization)
    attention_ranks = max(1, layout.tp // layout.attention_dp)
    dense_ranks = layout.moe_dense_tp or layout.tp
    attention = weights.attention / attention_ranks + weights.latent
    attention += weights.key_value / min(attention_ranks, model.kv_heads)
    everywhere = weights.router + weights.norms
    held = linear * (attention + weights.dense / dense_ranks)
    held += plain * (everywhere + weights.embeddings / layout.tp)
    held += expert * weights.shared / layout.tp
    held += expert * _experts_held(model, layout, expert_ranks)
    return held / layout.pp


def _experts_held(model: ModelFacts, layout: ParallelLayout, ranks: int | None) -> float:
    """Weights of routed experts on one rank; whole experts where they are spread."""
    if not model.is_moe:
        return 0.0
    spread = layout.experts_over
    if ranks is None:
        ranks = max(layout.tp, spread * (layout.moe_tp or 1) * layout.moe_cluster)
    if spread <= 1 or ranks % spread:
        return model.weights.experts / ranks
    one = model.weights.experts / model.experts
    return ceil(model.experts / spread) * one / (ranks // spread)


def does_not_fit(
    model: ModelFacts,
    accelerator: Accelerator,
    *,
    layout: ParallelLayout,
    memory_fraction: float,
    quantization: Quantization | None = None,
    expert_ranks: int | None = None,
) -> str | None:
    """Why the weights alone exceed the memory an engine may use; None when they fit.

    `memory_fraction` is the share of the accelerator's memory the engine is allowed. None
    promises nothing: KV cache and activations come on top. None too when the checkpoint is
    quantised in a way that leaves its size open. The other arguments are those of
    `model_weights_per_gpu`.
    """
    stored = model.quantization
    if stored is not None and stored.weights is None and not model.checkpoint_bytes:
        return None
    weights = model_weights_per_gpu(model, layout, quantization, expert_ranks=expert_ranks)
    allowed = memory_fraction * accelerator.memory_bytes
    if weights <= allowed:
        return None
    name = accelerator.name
    article = "an" if name[0] in "AEFHILMNORSX8" else "a"
    return (
        f"weights take {weights / GIB:.1f} GiB per GPU at {_degrees(layout)}, "
        f"but {memory_fraction:g} of {article} {name}'s {accelerator.memory_bytes / GIB:.1f} GiB "
        f"is {allowed / GIB:.1f} GiB"
    )


def _degrees(layout: ParallelLayout) -> str:
    used = layout.used
    further = [f"{name}={used[name]}" for name in _SHOWN if name in used]
    return " ".join([f"tp={layout.tp} pp={layout.pp}", *further])
