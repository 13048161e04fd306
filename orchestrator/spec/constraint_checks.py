"""Whether the constraints of an experiment can be decided, before any point is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.refusal import suggestion
from runtimes.errors import Problem
from runtimes.json_types import Json
from runtimes.secrets import is_secret_argument, is_secret_name
from search.constraints import Constraint, constraint_name
from search.materialize import ENV_PREFIX
from search.space import Choice
from search.trial import LAYOUT_NAMES

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
    known = {name for sample in samples for name in sample}
    known |= {constraint_name(_parameter(place)) for place in places if len(place) >= _NAMED}
    lacking_engines = any(len(place) < _NAMED for place in places)
    for index, text in enumerate(spec.constraints):
        path = f"constraints[{index}]"
        constraint = Constraint.parse(text)
        unknown = [] if lacking_engines else [n for n in constraint.names if n not in known]
        for name in unknown:
            remedy = suggestion(name, sorted(known))
            yield Problem(path, f"{name!r} is neither set nor searched", repr(text), remedy)
        for sample in samples:
            if constraint.applies(sample) and (words := _undecidable(constraint, sample)):
                yield Problem(path, words)
                break


def _parameter(place: Sequence[str | int]) -> str:
    prefix = ENV_PREFIX if place[2] == "env" else ""
    return f"{prefix}{place[3]}"


def _sample(spec: ExperimentSpec, engine: str) -> dict[str, Json]:
    """Values of one point, the first of each domain, as a constraint spells their names."""
    section = spec.engines[engine]
    degrees = {name: getattr(spec.parallel, name)[0] for name in LAYOUT_NAMES}
    fixed = {name: value for name, value in section.args.items() if not is_secret_argument(name)}
    values: dict[str, Json] = {**fixed, **_variables(section)}
    for name, domain in section.search.items():
        values[name] = domain.values[0] if isinstance(domain, Choice) else domain.low
    spelled = {constraint_name(name): value for name, value in values.items()}
    return {**spelled, **degrees, "gpus": math.prod(degrees.values()), "engine": engine}


def _variables(section: EngineSpec) -> dict[str, Json]:
    return {
        f"{ENV_PREFIX}{name}": value[0] if isinstance(value, list) else value
        for name, value in section.env.items()
        if isinstance(value, str | list) and not is_secret_name(name)
    }


def _undecidable(constraint: Constraint, sample: dict[str, Json]) -> str:
    try:
        constraint.evaluate(sample)
    except ValueError as error:
        return str(error)
    return ""
