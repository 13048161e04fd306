"""The search space: which parameters exist for which engine, and every point they make."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtimes.json_types import Json
from search.constraints import Constraint
from search.domains import Choice, Domain, FloatRange, IntRange, TypeName, domain_values, holds
from search.trial import Params

__all__ = ["COUNTABLE", "Choice", "Dimension", "FloatRange", "IntRange", "SearchSpace"]

COUNTABLE = 200_000
"""Points up to which a space is enumerated whole: checking one costs about 0.1 ms, so counting
this many takes seconds. Two unstepped integer ranges easily make hundreds of millions."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched parameter.

    Attributes:
        name: `tp`, `pp`, `dp`, an engine argument's long name, or `env.NAME`.
        domain: its values.
        engine: the engine it belongs to; None for every engine.
    """

    name: str
    domain: Domain
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The engines, what is searched for each, and the rules that cut points out.

    The engine is itself searched. `constraints` are kept here and applied by `Admission`;
    `size` and `points` count without them.

    Raises:
        ValueError: no engine, a repeated one, a dimension of an engine that is not there, or two
            dimensions of one name for one engine.
    """

    engines: tuple[str, ...]
    dimensions: tuple[Dimension, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if not self.engines or len(set(self.engines)) != len(self.engines):
            raise ValueError(f"a space needs engines, each named once, got {list(self.engines)}")
        for dimension in self.dimensions:
            if dimension.engine is not None and dimension.engine not in self.engines:
                raise ValueError(
                    f"{dimension.name} belongs to engine {dimension.engine!r}, which is not one "
                    f"of {', '.join(self.engines)}"
                )
        for engine in self.engines:
            names = Counter(dimension.name for dimension in self.for_engine(engine))
            twice = [name for name, count in names.items() if count > 1]
            if twice:
                raise ValueError(f"{engine}: searched twice: {', '.join(twice)}")

    def for_engine(self, engine: str) -> tuple[Dimension, ...]:
        """What is searched for `engine`, in declared order."""
        return tuple(item for item in self.dimensions if item.engine in (None, engine))

    @property
    def size(self) -> int | None:
        """Points in all; None when a float range without a step makes them endless."""
        total = 0
        for engine in self.engines:
            counts = [dimension.domain.count for dimension in self.for_engine(engine)]
            finite = [count for count in counts if count is not None]
            if len(finite) < len(counts):
                return None
            total += math.prod(finite)
        return total

    @property
    def countable(self) -> bool:
        """True when the space is finite and small enough to be walked through whole."""
        return self.size is not None and self.size <= COUNTABLE

    def points(self) -> Iterator[Params]:
        """Every point, one at a time: engines outermost, the last dimension fastest.

        Raises:
            ValueError: the space is endless (on the first value asked for).
        """
        for engine in self.engines:
            for values in _combinations(self.for_engine(engine)):
                yield Params(engine, values)

    def holds(self, params: Params) -> bool:
        """True for a whole point of this space: every searched parameter, each in its domain."""
        if params.engine not in self.engines:
            return False
        domains = {item.name: item.domain for item in self.for_engine(params.engine)}
        return domains.keys() == params.values.keys() and all(
            holds(domain, params.values[name]) for name, domain in domains.items()
        )

    def parameter_types(self) -> Mapping[str, TypeName]:
        """By parameter name over all engines, the type of a column that holds its values.

        Integers and floats together are `float`; any other mixture is `json`. `null` fits all.
        """
        types: dict[str, set[TypeName]] = {}
        for dimension in self.dimensions:
            types.setdefault(dimension.name, set()).update(dimension.domain.type_names)
        return {name: _common_type(names) for name, names in types.items()}


def _combinations(dimensions: tuple[Dimension, ...]) -> Iterator[dict[str, Json]]:
    if not dimensions:
        yield {}
        return
    first, rest = dimensions[0], dimensions[1:]
    for value in domain_values(first.domain):
        for others in _combinations(rest):
            yield {first.name: value, **others}


def _common_type(names: set[TypeName]) -> TypeName:
    if names == {"int", "float"}:
        return "float"
    return next(iter(names)) if len(names) == 1 else "json"
