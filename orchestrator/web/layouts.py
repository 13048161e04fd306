"""From the degrees of a request to groups of layers, or why they do not divide the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.web.errors import RefusedRequestError
from runtimes.errors import Problem
from runtimes.model import ModelFacts
from search.perfmodel.layers import LayerGroup, LayerKind, layers_of

PARALLELISM: Mapping[str, tuple[str, ...]] = {
    "attention": ("tensor_parallel", "context_parallel"),
    "feedforward": ("tensor_parallel", "sequence_parallel"),
    "moe": ("tensor_parallel", "expert_parallel"),
    "norm": ("sequence_parallel",),
    "embedding": ("tensor_parallel",),
    "lm_head": ("tensor_parallel",),
}
"""Degrees that split something, by what requests call a layer."""


@dataclass(frozen=True, slots=True)
class Degrees:
    """How some layers lie over chips; the fields are those of `LayerGroup`."""

    tp: int = 1
    cp: int = 1
    sp: int = 1
    ep: int = 1

    def group(self, kind: LayerKind, count: int) -> LayerGroup:
        """`count` layers of `kind` that lie so; ranks that share a prompt share its cache."""
        return LayerGroup(
            kind=kind, count=count, tp=self.tp, cp=self.cp, sp=self.sp, ep=self.ep,
            kv_split=self.cp,
        )  # fmt: skip


def name_of(kind: LayerKind) -> str:
    """What requests call layers of `kind`."""
    return LayerKind.ATTENTION.value if kind.attends else kind.value


def named_layers(model: ModelFacts) -> dict[str, dict[LayerKind, int]]:
    """The kinds of `model` and their counts, by what requests call them."""
    named: dict[str, dict[LayerKind, int]] = {}
    for kind, count in layers_of(model).items():
        named.setdefault(name_of(kind), {})[kind] = count
    return named


def check_degrees(
    model: ModelFacts, asked: Sequence[tuple[LayerKind, Degrees, Mapping[str, str]]]
) -> None:
    """Each of `asked` is a kind of layer, its degrees, and where each stands in the request.

    Raises:
        RefusedRequestError: some degrees do not divide what they split.
    """
    problems = [
        Problem(places[field], message, str(getattr(degrees, field)), remedy)
        for kind, degrees, places in asked
        for field, message, remedy in _unfit(model, kind, degrees)
    ]
    if problems:
        raise RefusedRequestError(*dict.fromkeys(problems))


def _unfit(model: ModelFacts, kind: LayerKind, degrees: Degrees) -> Iterator[tuple[str, str, str]]:
    """Field of `Degrees`, what is wrong with it, and what would do."""
    for what, size in _split_by_tp(model, kind):
        if size % degrees.tp:
            yield "tp", f"does not divide the {size} {what} of {model.name}", _divisors(size)
    keys = model.kv_heads
    plain = kind in (LayerKind.ATTENTION, LayerKind.WINDOWED_ATTENTION)
    if plain and keys % degrees.tp and degrees.tp % keys:
        yield (
            "tp",
            f"neither divides the {keys} key-value heads of {model.name} nor is a multiple",
            "key-value heads are split evenly, or each is held by equally many chips",
        )
    if degrees.ep > 1 and kind is not LayerKind.MOE:
        yield "ep", f"{name_of(kind)} layers have no experts", "leave it out; only `moe` takes it"
    elif kind is LayerKind.MOE and model.experts % degrees.ep:
        yield (
            "ep",
            f"does not divide the {model.experts} experts of {model.name}",
            _divisors(model.experts),
        )


def _split_by_tp(model: ModelFacts, kind: LayerKind) -> Iterator[tuple[str, int]]:
    """What tensor parallelism splits evenly; a vocabulary is padded, so it takes any degree."""
    if kind is LayerKind.LINEAR_ATTENTION and model.linear is not None:
        yield "key heads of the linear layers", model.linear.key_heads
        yield "value heads of the linear layers", model.linear.value_heads
    elif kind.attends:
        yield "heads", model.heads
    elif kind is LayerKind.FEEDFORWARD:
        yield "columns of the MLP", model.intermediate
    elif kind is LayerKind.MOE:
        yield "columns of one expert", model.moe_intermediate


def _divisors(size: int) -> str:
    powers = [1 << power for power in range(11) if size % (1 << power) == 0]
    return f"of the powers of two, {', '.join(map(str, powers))} would do"


def decoder_kinds(model: ModelFacts) -> list[tuple[LayerKind, LayerKind]]:
    """Attention and MLP of each decoder layer, first to last.

    A model's facts hold counts, not places: full attention is taken to be spread evenly among
    windowed and linear layers, last in each stretch, and a mixture's dense layers to come first.
    """
    kinds = layers_of(model)
    full_kind = LayerKind.LATENT_ATTENTION if model.mla else LayerKind.ATTENTION
    full = kinds.get(full_kind, 0)
    others = [
        kind
        for kind in (LayerKind.LINEAR_ATTENTION, LayerKind.WINDOWED_ATTENTION)
        for _ in range(kinds.get(kind, 0))
    ]
    found = []
    for index in range(model.layers):
        is_full = (index + 1) * full // model.layers > index * full // model.layers
        attention = full_kind if is_full else others.pop()
        dense = index < kinds.get(LayerKind.FEEDFORWARD, 0)
        found.append((attention, LayerKind.FEEDFORWARD if dense else LayerKind.MOE))
    return found


def decoder_groups(model: ModelFacts, layers: Sequence[Degrees]) -> tuple[LayerGroup, ...]:
    """The groups of a model whose decoder layer `i` lies as `layers[i]` says.

    The embedding lies as the first of them, the last norm and the lm_head as the last.
    """
    counts: Counter[tuple[LayerKind, Degrees]] = Counter()
    for kinds, degrees in zip(decoder_kinds(model), layers, strict=True):
        counts.update((kind, degrees) for kind in kinds)
        counts[LayerKind.NORM, degrees] += 2
    counts[LayerKind.NORM, layers[-1]] += 1
    counts[LayerKind.EMBEDDING, layers[0]] += 1
    counts[LayerKind.LM_HEAD, layers[-1]] += 1
    return tuple(degrees.group(kind, count) for (kind, degrees), count in counts.items())
