"""Whether constraints and conditions can be decided, before any point is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.refusal import suggestion
from orchestrator.spec.searched import (
    condition_of,
    domain_of,
    engine_dimensions,
    fixed_arguments,
    shared_dimensions,
)
from runtimes.errors import Problem
from runtimes.json_types import Json
from runtimes.parallel import DEGREES
from runtimes.secrets import is_secret_argument, is_secret_name
from search.constraints import Condition, Constraint
from search.materialize import ENV_PREFIX
from search.space import Choice, Dimension
from search.values import COMMON_NAMES, constraint_name

_NAMED = 4
"""Parts of a location that name an argument or a variable: engines, engine, section, name."""


def constraint_problems(
    spec: ExperimentSpec, broken: Sequence[tuple[str | int, ...]]
) -> Iterator[Problem]:
    """Constraints that read what no engine has, or that give neither true nor false.

    `broken` are places left out of `spec`; what stood there may be read all the same.
    """
    places = [place for place in broken if place[:1] == ("engines",)]
    samples = [_sample(spec, engine) for engine in spec.engines]
    known = COMMON_NAMES | {name for sample in samples for name in sample}
    known |= {constraint_name(_parameter(place)) for place in places if len(place) >= _NAMED}
    known |= {constraint_name(name) for written in spec.combinations for name in written}
    lacking_engines = any(len(place) < _NAMED for place in places)
    for index, text in enumerate(spec.constraints):
        path = f"constraints[{index}]"
        constraint = Constraint.parse(text)
        unknown = [] if lacking_engines else [n for n in constraint.names if n not in known]
        for name in unknown:
            remedy = suggestion(name, sorted(known))
            yield Problem(path, f"{name!r} is neither set nor searched", repr(text), remedy)
        for sample in samples:
            if constraint.applies(sample) and (words := _undecidable(constraint.evaluate, sample)):
                yield Problem(path, words)
                break


def condition_problems(
    spec: ExperimentSpec, broken: Sequence[tuple[str | int, ...]]
) -> Iterator[Problem]:
    """Conditions that read what their engine does not have, wait for each other, or give neither
    true nor false; `broken` as for `constraint_problems`.
    """
    for engine, section in spec.engines.items():
        path = f"engines.{engine}.search"
        places = [place for place in broken if place[:2] == ("engines", engine)]
        sample = _sample(spec, engine)
        known = COMMON_NAMES | set(sample)
        known |= {constraint_name(_parameter(place)) for place in places if len(place) >= _NAMED}
        lacking = any(len(place) < _NAMED for place in places)
        for argument, searched in section.search.items():
            condition = condition_of(searched)
            if condition is None:
                continue
            for name in condition.names:
                if name not in known and not lacking:
                    yield _unread(f"{path}.{argument}", name, condition, sorted(known))
            if words := _undecidable(condition.holds, sample):
                yield Problem(f"{path}.{argument}", f"`when`: {words}")
        circle = engine_dimensions(spec, engine).circle
        if circle:
            yield _circle(path, circle)


def _unread(path: str, name: str, condition: Condition, known: Sequence[str]) -> Problem:
    return Problem(
        path, f"`when` reads {name!r}, which is neither set nor searched for this engine",
        repr(condition.text), suggestion(name, known),
    )  # fmt: skip


def _circle(path: str, circle: Sequence[Dimension]) -> Problem:
    names = ", ".join(item.name for item in circle)
    words = "waits for itself" if len(circle) == 1 else f"{names} wait for each other"
    return Problem(
        f"{path}.{circle[0].name}", f"`when`: {words}",
        remedy="let a condition read only what is searched without it",
    )  # fmt: skip


def _parameter(place: Sequence[str | int]) -> str:
    prefix = ENV_PREFIX if place[2] == "env" else ""
    return f"{prefix}{place[3]}"


def _sample(spec: ExperimentSpec, engine: str) -> dict[str, Json]:
    """Values of one point, the first of each domain, as a constraint spells their names."""
    section = spec.engines[engine]
    fixed = {
        name: value
        for name, value in fixed_arguments(spec, engine).items()
        if not is_secret_argument(name)
    }
    values: dict[str, Json] = {**fixed, **_variables(section)}
    for name, searched in section.search.items():
        domain = domain_of(searched, spec)
        values[name] = domain.values[0] if isinstance(domain, Choice) else domain.low
    for item in shared_dimensions(spec):
        values[item.name] = next(_values(item), None)
    spelled = {constraint_name(name): value for name, value in values.items()}
    degrees = {name: listed[0] for name, listed in spec.parallel.degrees.items()}
    usual = dict.fromkeys((name for name in DEGREES if name not in _OPTIONAL), 1)
    gpus = math.prod(degrees.get(name, 1) for name in ("tp", "pp", "dp"))
    return {**spelled, **usual, **degrees, "gpus": gpus, "engine": engine}


_OPTIONAL = frozenset({"moe_tp", "moe_ep", "moe_dense_tp"})
"""Degrees that the engine decides unless the file does."""


def _values(item: Dimension) -> Iterator[Json]:
    """Values of a choice that say something."""
    listed = item.domain.values if isinstance(item.domain, Choice) else ()
    return (value for value in listed if value is not None)


def _variables(section: EngineSpec) -> dict[str, Json]:
    return {
        f"{ENV_PREFIX}{name}": value[0] if isinstance(value, list) else value
        for name, value in section.env.items()
        if isinstance(value, str | list) and not is_secret_name(name)
    }


def _undecidable(decide: Callable[[Mapping[str, Json]], bool], sample: dict[str, Json]) -> str:
    try:
        decide(sample)
    except ValueError as error:
        return str(error)
    return ""
