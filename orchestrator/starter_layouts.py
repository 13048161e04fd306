"""Layouts to begin with: what a model needs, and what a node has."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.fit import GIB, does_not_fit
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout

_MEMORY_FRACTION = 0.8
"""What is asked of a first layout: weights in this share of the memory leave a cache to search."""
_MOST_STAGES = 8


@dataclass(frozen=True, slots=True)
class StarterLayouts:
    """Degrees to try.

    Attributes:
        tp, pp, dp: lists of degrees, ascending.
        presets: layouts by name beside them.
        gpus: GPUs that the largest of them may take.
        why: where the smallest degrees come from, in a sentence.
    """

    tp: tuple[int, ...]
    pp: tuple[int, ...]
    dp: tuple[int, ...]
    presets: tuple[str, ...]
    gpus: int
    why: str


def suggest(model: ModelFacts | None, accelerator: Accelerator | None, gpus: int) -> StarterLayouts:
    """Layouts for a node of `gpus` GPUs, or for several when the model does not fit one.

    Tensor-parallel degrees divide the attention's heads. Where the model or the accelerator is
    not known, whatever the node has room for.
    """
    degrees = _dividing(model, gpus)
    if model is None or accelerator is None:
        what = "model's shape" if model is None else "accelerator"
        why = f"The {what} is not known: nothing here says what fits."
        return StarterLayouts(degrees, (1,), _replicas(gpus), (), gpus, why)
    size = f"Weights: {model.weight_bytes / GIB:.0f} GiB"
    fitting = tuple(tp for tp in degrees if _fits(model, accelerator, tp, 1))
    if fitting:
        why = f"{size}; {fitting[0]} × {accelerator.name} can hold them."
        presets = ("moe-optimized",) if _suits_experts(model, accelerator, gpus) else ()
        return StarterLayouts(fitting, (1,), _replicas(gpus // fitting[0]), presets, gpus, why)
    return _over_nodes(model, accelerator, degrees[-1], gpus, size)


def _over_nodes(
    model: ModelFacts, accelerator: Accelerator, tp: int, gpus: int, size: str
) -> StarterLayouts:
    """Pipeline stages, each on a node of its own."""
    stages = next(
        (pp for pp in range(2, _MOST_STAGES + 1) if _fits(model, accelerator, tp, pp)), None
    )
    one_node = f"{size}; {gpus} × {accelerator.name} cannot hold them"
    if stages is None:
        why = f"{one_node}, nor can {_MOST_STAGES} such nodes: name a quantised checkpoint."
        return StarterLayouts((tp,), (1,), (1,), (), gpus, why)
    why = f"{one_node}, so that each of {stages} nodes holds a part of the layers."
    return StarterLayouts((tp,), (stages,), (1,), (), gpus * stages, why)


def _fits(model: ModelFacts, accelerator: Accelerator, tp: int, pp: int) -> bool:
    verdict = does_not_fit(
        model,
        accelerator,
        layout=ParallelLayout(tp=tp, pp=pp),
        memory_fraction=_MEMORY_FRACTION,
    )
    return verdict is None


def _suits_experts(model: ModelFacts, accelerator: Accelerator, gpus: int) -> bool:
    """Whether a node can hold experts spread over its GPUs and attention on each of them."""
    if not model.is_moe or gpus < 2:
        return False
    spread = ParallelLayout(tp=gpus, ep=gpus, attention_dp=gpus)
    return does_not_fit(model, accelerator, layout=spread, memory_fraction=_MEMORY_FRACTION) is None


def _dividing(model: ModelFacts | None, gpus: int) -> tuple[int, ...]:
    """Powers of two up to the node's GPUs, and these themselves, that divide the heads."""
    degrees = {*_powers_of_two(gpus), gpus}
    heads = model.heads if model is not None else 0
    return tuple(sorted(tp for tp in degrees if heads % tp == 0)) or (1,)


def _replicas(most: int) -> tuple[int, ...]:
    return tuple(_powers_of_two(max(1, most)))


def _powers_of_two(limit: int) -> list[int]:
    return [1 << power for power in range(limit.bit_length())]
