"""The search space: which parameters exist for which engine, and every point they make."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from runtimes.errors import UserError
from runtimes.json_types import Json
from search.constraints import Condition, Constraint
from search.domains import Choice, Domain, FloatRange, IntRange, TypeName, domain_values, holds
from search.trial import Params
from search.values import constraint_name, parameters_behind

__all__ = ["COUNTABLE", "Choice", "Dimension", "FloatRange", "IntRange", "SearchSpace"]

COUNTABLE = 200_000
"""Points up to which a space is enumerated whole: checking one costs about 0.1 ms, so counting
this many takes seconds. Two unstepped integer ranges easily make hundreds of millions."""

Known: TypeAlias = Callable[[Params], Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched parameter.

    Attributes:
        name: as in `Params.values`.
        domain: its values.
        engine: the engine it belongs to; None for every engine.
        when: it is searched only where this holds, and else absent from the point.
        replaced_by: a parameter before it whose values other than null stand for this one too,
            as a preset does; the dimension is then absent.
    """

    name: str
    domain: Domain
    engine: str | None = None
    when: Condition | None = None
    replaced_by: str = ""

    @property
    def conditional(self) -> bool:
        """True when it may be absent from a point."""
        return self.when is not None or bool(self.replaced_by)


def chosen_values(params: Params) -> dict[str, Json]:
    """What conditions may read of a point when nothing else is known of it."""
    values = {constraint_name(name): value for name, value in params.values.items()}
    return {**values, "engine": params.engine}


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The engines, what is searched for each, and the rules that cut points out.

    The engine is itself searched. `constraints` are kept here and applied by `Admission`;
    `size` and `points` count without them.

    Attributes:
        combinations: points of their own, which come first; they need not be in the product.
        product: False leaves the combinations alone.
        known: what conditions read of a point that is chosen as far as the dimension that asks:
            values by name (`search.values.PointValues`).

    Raises:
        ValueError: no engine, a repeated one, a dimension of an engine that is not there, two
            dimensions of one name for one engine, or a condition that reads a later dimension.
    """

    engines: tuple[str, ...]
    dimensions: tuple[Dimension, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    combinations: tuple[Params, ...] = ()
    product: bool = True
    known: Known = field(default=chosen_values, compare=False, repr=False)
    _sizes: list[int | None] = field(default_factory=list, init=False, compare=False, repr=False)

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
            _check_order(engine, self.for_engine(engine))

    def for_engine(self, engine: str) -> tuple[Dimension, ...]:
        """What is searched for `engine`, in declared order."""
        return tuple(item for item in self.dimensions if item.engine in (None, engine))

    @property
    def size(self) -> int | None:
        """Points in all; None when a float range without a step makes them endless.

        Exact, but where the parameters that conditions read have more than `COUNTABLE`
        combinations: then as many as if every condition held.
        """
        if not self._sizes:
            self._sizes.append(self._size())
        return self._sizes[0]

    def _size(self) -> int | None:
        total = len(self.combinations)
        for engine in self.engines if self.product else ():
            count = self._product_size(engine)
            if count is None:
                return None
            total += count
        return total

    @property
    def countable(self) -> bool:
        """True when the space is finite and small enough to be walked through whole."""
        return self.size is not None and self.size <= COUNTABLE

    def points(self) -> Iterator[Params]:
        """Every point, one at a time: the combinations, then the product, engines outermost, the
        last dimension fastest. A combination that is a point of the product comes twice.

        Raises:
            ValueError: the space is endless (on the first value asked for).
            UserError: a condition has no truth value.
        """
        yield from self.combinations
        for engine in self.engines if self.product else ():
            for values in self._choices(engine, self.for_engine(engine), {}):
                yield Params(engine, values)

    def point(self, engine: str, choose: Callable[[Dimension], Json]) -> Params:
        """The point of the product whose value of each dimension that is searched `choose` says.

        Raises:
            UserError: a condition has no truth value.
        """
        values: dict[str, Json] = {}
        for item in self.for_engine(engine):
            if self._is_searched(item, engine, values):
                values[item.name] = choose(item)
        return Params(engine, values)

    def holds(self, params: Params) -> bool:
        """True for a whole point of this space: of its product, or one of the combinations."""
        return self.product_holds(params) or params in self.combinations

    def product_holds(self, params: Params) -> bool:
        """True for a point of the product: every dimension that is searched there, each with one
        of its values, and nothing else.
        """
        if params.engine not in self.engines or not self.product:
            return False
        values: dict[str, Json] = {}
        for item in self.for_engine(params.engine):
            if not self._is_searched(item, params.engine, values):
                continue
            if item.name not in params.values or not holds(item.domain, params.values[item.name]):
                return False
            values[item.name] = params.values[item.name]
        return values.keys() == params.values.keys()

    def parameter_types(self) -> Mapping[str, TypeName]:
        """By parameter name over all engines, the type of a column that holds its values.

        Integers and floats together are `float`; any other mixture is `json`. `null` fits all.
        """
        types: dict[str, set[TypeName]] = {}
        for dimension in self.dimensions:
            types.setdefault(dimension.name, set()).update(dimension.domain.type_names)
        for combination in self.combinations:
            for name, value in combination.values.items():
                types.setdefault(name, set()).update(Choice((value,)).type_names)
        return {name: _common_type(names) for name, names in types.items()}

    def _is_searched(self, item: Dimension, engine: str, values: Mapping[str, Json]) -> bool:
        if item.replaced_by and values.get(item.replaced_by) is not None:
            return False
        if item.when is None:
            return True
        try:
            return item.when.holds(self.known(Params(engine, dict(values))))
        except ValueError as error:
            raise UserError(f"{item.name}: {error}") from None

    def _choices(
        self, engine: str, dimensions: tuple[Dimension, ...], chosen: Mapping[str, Json]
    ) -> Iterator[dict[str, Json]]:
        if not dimensions:
            yield dict(chosen)
            return
        first, rest = dimensions[0], dimensions[1:]
        if not self._is_searched(first, engine, chosen):
            yield from self._choices(engine, rest, chosen)
            return
        for value in domain_values(first.domain):
            yield from self._choices(engine, rest, {**chosen, first.name: value})

    def _product_size(self, engine: str) -> int | None:
        """Points of one engine: what conditions read is enumerated, all else multiplied."""
        dimensions = self.for_engine(engine)
        if any(item.domain.count is None for item in dimensions):
            return None
        every = [item.name for item in dimensions]
        names = {name for item in dimensions for name in behind(item, every)}
        read = tuple(item for item in dimensions if item.name in names)
        waiting = [item for item in dimensions if item.conditional and item.name not in names]
        free = math.prod(
            item.domain.count or 0
            for item in dimensions
            if not item.conditional and item.name not in names
        )
        total = 0
        for seen, values in enumerate(self._choices(engine, read, {})):
            if seen == COUNTABLE:
                return math.prod(item.domain.count or 0 for item in dimensions)
            total += math.prod(
                item.domain.count or 0
                for item in waiting
                if self._is_searched(item, engine, values)
            )
        return total * free


def behind(item: Dimension, names: Iterable[str]) -> set[str]:
    """Of the parameters `names`, those on whose values it depends whether `item` is searched."""
    found = {item.replaced_by} & set(names)
    for name in item.when.names if item.when is not None else ():
        found |= parameters_behind(name, names)
    return found


def _check_order(engine: str, dimensions: tuple[Dimension, ...]) -> None:
    names = [item.name for item in dimensions]
    for index, item in enumerate(dimensions):
        for later in sorted(behind(item, names) & set(names[index:])):
            raise ValueError(f"{engine}: {item.name} waits for {later}, which comes later")


def _common_type(names: set[TypeName]) -> TypeName:
    if names == {"int", "float"}:
        return "float"
    return next(iter(names)) if len(names) == 1 else "json"
