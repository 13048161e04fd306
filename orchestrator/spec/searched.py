"""What an experiment searches and fixes, in the terms of `search`; nothing but the file is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.spec.combinations import ENGINE
from orchestrator.spec.dimensions import Conditional, Searched
from orchestrator.spec.models import ExperimentSpec
from orchestrator.spec.refusal import RefusedValueError
from orchestrator.spec.ties import Tie, parse_tie, tied_value
from runtimes.errors import InternalError
from runtimes.json_types import Json
from runtimes.secrets import is_secret_name
from search.constraints import Condition
from search.domains import Domain
from search.materialize import ENV_PREFIX
from search.space import Choice, Dimension, behind
from search.trial import LAYOUT_NAMES, LAYOUT_PRESET, PRECISION_NAMES, PRECISION_PRESET, Params


@dataclass(frozen=True, slots=True)
class Ordered:
    """Dimensions, each behind what it waits for, and those that wait for each other."""

    dimensions: tuple[Dimension, ...]
    circle: tuple[Dimension, ...] = ()


def shared_dimensions(spec: ExperimentSpec) -> tuple[Dimension, ...]:
    """Layouts and precisions, which every engine is tried with."""
    parallel, quantization = spec.parallel, spec.quantization
    listed = {f"quantization.{part}": words for part, words in quantization.parts.items()}
    return (
        *_with_presets(LAYOUT_PRESET, parallel.presets, parallel.degrees),
        *_with_presets(PRECISION_PRESET, quantization.presets, listed),
    )


def _with_presets(
    name: str,
    presets: Sequence[str] | None,
    listed: dict[str, list[int]] | dict[str, list[str | None]],
) -> Iterator[Dimension]:
    if presets is not None:
        yield Dimension(name, Choice((*presets, *([None] if listed else []))))
    replaced_by = "" if presets is None else name
    for parameter, values in listed.items():
        yield Dimension(parameter, Choice(tuple(values)), replaced_by=replaced_by)


def engine_dimensions(spec: ExperimentSpec, engine: str) -> Ordered:
    """Arguments and variables that are searched for `engine`, in the order of the file as far as
    their conditions allow.

    A value that is tied to what the workload does not have stands as null.
    """
    section = spec.engines[engine]
    written = [
        *(
            Dimension(name, domain_of(searched, spec), engine, condition_of(searched))
            for name, searched in section.search.items()
        ),
        *(
            Dimension(f"{ENV_PREFIX}{name}", Choice(tuple(value)), engine)
            for name, value in section.env.items()
            if isinstance(value, list)
        ),
    ]
    return in_order(written)


def in_order(dimensions: Sequence[Dimension]) -> Ordered:
    """`dimensions`, each moved behind those that its condition reads and no further."""
    placed: list[Dimension] = []
    left = list(dimensions)
    while left:
        names = [item.name for item in left]
        ready = next((item for item in left if not behind(item, names)), None)
        if ready is None:
            return Ordered(tuple(placed), tuple(left))
        placed.append(ready)
        left.remove(ready)
    return Ordered(tuple(placed))


def domain_of(searched: Searched, spec: ExperimentSpec) -> Domain:
    """The values of `searched`; null where it is tied to what the workload does not have."""
    domain = searched.domain if isinstance(searched, Conditional) else searched
    if not isinstance(domain, Tie):
        return domain
    try:
        return Choice((tied_value(domain, spec.workload),))
    except RefusedValueError:
        return Choice((None,))


def condition_of(searched: Searched) -> Condition | None:
    """When `searched` is; None for always."""
    return searched.when if isinstance(searched, Conditional) else None


def fixed_value(value: Json, spec: ExperimentSpec) -> Json:
    """`value` as a fixed argument has it: `{equals: …}` is the workload's number.

    What cannot be tied stands as null.
    """
    try:
        tie = parse_tie(value)
        return value if tie is None else tied_value(tie, spec.workload)
    except RefusedValueError:
        return None


def fixed_arguments(spec: ExperimentSpec, engine: str) -> dict[str, Json]:
    """The fixed arguments of `engine`."""
    return {name: fixed_value(value, spec) for name, value in spec.engines[engine].args.items()}


def fixed_variables(spec: ExperimentSpec, engine: str) -> dict[str, str]:
    """The fixed variables of `engine` that are no secrets."""
    return {
        name: value
        for name, value in spec.engines[engine].env.items()
        if isinstance(value, str) and not is_secret_name(name)
    }


def combinations(spec: ExperimentSpec) -> tuple[Params, ...]:
    """The combinations, with what has a single value beside them.

    Raises:
        InternalError: one names no engine where there are several; `combination_checks` says so.
    """
    return tuple(_combination(spec, written) for written in spec.combinations)


def combined_engine(spec: ExperimentSpec, written: dict[str, Json]) -> str | None:
    """The engine that a combination is of: the one it names, or the only one."""
    named = written.get(ENGINE)
    if named is None and len(spec.engines) == 1:
        return next(iter(spec.engines))
    return named if isinstance(named, str) and named in spec.engines else None


def only_combinations(spec: ExperimentSpec) -> bool:
    """True when nothing beside the combinations has more than one value."""
    every = [*shared_dimensions(spec)]
    for engine in spec.engines:
        every += engine_dimensions(spec, engine).dimensions
    return bool(spec.combinations) and all(item.domain.count == 1 for item in every)


def _combination(spec: ExperimentSpec, written: dict[str, Json]) -> Params:
    engine = combined_engine(spec, written)
    if engine is None:
        raise InternalError(f"a combination of no engine: {written}")
    values = {name: fixed_value(value, spec) for name, value in written.items() if name != ENGINE}
    fixed: dict[str, Json] = {}
    for item in (*shared_dimensions(spec), *engine_dimensions(spec, engine).dimensions):
        if item.domain.count == 1 and item.when is None and not _said(item.name, values):
            fixed[item.name] = item.domain.at(0)
    return Params(engine, {**fixed, **values})


def _said(name: str, values: dict[str, Json]) -> bool:
    """Whether a combination leaves no room for `name`: a layout is taken whole where it names a
    preset, and a preset gives way to any degree.
    """
    for preset, names in ((LAYOUT_PRESET, LAYOUT_NAMES), (PRECISION_PRESET, PRECISION_NAMES)):
        if name == preset and values.keys() & set(names):
            return True
        if name in names and preset in values:
            return True
    return name in values
