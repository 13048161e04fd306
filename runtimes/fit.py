"""Whether a model's weights fit on its GPUs: sizes only, the same for every engine."""

from __future__ import annotations

from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout

GIB = 1 << 30


def weights_per_gpu(weight_bytes: float, layout: ParallelLayout) -> float:
    """Bytes of weights on one GPU: tensor and pipeline degrees share them, replicas do not.

    Norms and the embedding of the first stage are spread evenly too: under 1 % of any model.
    """
    return weight_bytes / (layout.tp * layout.pp)


def does_not_fit(
    model: ModelFacts,
    accelerator: Accelerator,
    *,
    layout: ParallelLayout,
    memory_fraction: float,
) -> str | None:
    """Why the weights alone exceed the memory an engine may use; None when they fit.

    `memory_fraction` is the share of the accelerator's memory the engine is allowed. None
    promises nothing: KV cache and activations come on top.
    """
    weights = weights_per_gpu(model.weight_bytes, layout)
    allowed = memory_fraction * accelerator.memory_bytes
    if weights <= allowed:
        return None
    name = accelerator.name
    article = "an" if name[0] in "AEFHILMNORSX8" else "a"
    return (
        f"weights take {weights / GIB:.1f} GiB per GPU at tp={layout.tp} pp={layout.pp}, "
        f"but {memory_fraction:g} of {article} {name}'s {accelerator.memory_bytes / GIB:.1f} GiB "
        f"is {allowed / GIB:.1f} GiB"
    )
