"""The values one parameter may take.

Every domain numbers its values: `count` of them (None when there is no end of them), `at(index)`
in order, and `index_of(value)` back. Samplers that want numbers work on indices and never have
to know what a value is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias, TypeGuard

from runtimes.json_types import Json, canonical_json

TypeName: TypeAlias = Literal["int", "float", "bool", "string", "json"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the listed values, in the order given; a single value is fixed.

    Raises:
        ValueError: nothing is listed.
    """

    values: tuple[Json, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a choice needs at least one value, got an empty list")

    @property
    def count(self) -> int:
        return len(self.values)

    def at(self, index: int) -> Json:
        return self.values[index]

    def index_of(self, value: Json) -> int | None:
        """Index of the first value spelt like `value`; None when there is none (1 is not true)."""
        wanted = canonical_json(value)
        for index, known in enumerate(self.values):
            if canonical_json(known) == wanted:
                return index
        return None

    @property
    def ordered(self) -> bool:
        """True for at least three rising or falling numbers: neighbours then resemble another."""
        numbers = [value for value in self.values if is_number(value)]
        if len(numbers) < max(3, len(self.values)):
            return False
        rising = sorted(set(numbers))
        return numbers in (rising, rising[::-1])

    @property
    def type_names(self) -> set[TypeName]:
        """Types of the values; none for `null`, which every column may hold."""
        return {_type_name(value) for value in self.values if value is not None}


@dataclass(frozen=True, slots=True)
class IntRange:
    """Integers from `low` to at most `high`, both included, `step` apart.

    `log` spreads samples evenly over orders of magnitude; enumeration is not affected.

    Raises:
        ValueError: the range is empty, a log range holds 0 or less, or has a step.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        if self.step < 1:
            raise ValueError(f"step must be at least 1, got {self.step}")
        if self.log and self.step != 1:
            raise ValueError(f"a log range takes no step, got step {self.step}")

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> int:
        return self.low + index * self.step

    def index_of(self, value: Json) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        index, rest = divmod(value - self.low, self.step)
        return index if rest == 0 and 0 <= index < self.count else None

    def values(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1, self.step))

    @property
    def type_names(self) -> set[TypeName]:
        return {"int"}


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Numbers from `low` to at most `high`, both included; endless without a `step`.

    Stepped values are exact in decimal: 0.1, 0.2, 0.3, never 0.30000000000000004.

    Raises:
        ValueError: the range is empty or not finite, a log range holds 0 or less, or has a step.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        if self.step is None:
            return
        if not (self.step > 0 and math.isfinite(self.step)):
            raise ValueError(f"step must be above 0, got {self.step:g}")
        if self.log:
            raise ValueError(f"a log range takes no step, got step {self.step:g}")

    @property
    def count(self) -> int | None:
        if self.step is None:
            return 1 if self.low == self.high else None
        span = Decimal(str(self.high)) - Decimal(str(self.low))
        return int(span // Decimal(str(self.step))) + 1

    def at(self, index: int) -> float:
        if self.step is None:
            return float(self.low)
        return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))

    def index_of(self, value: Json) -> int | None:
        """Index of a value of a finite range; None for a foreign value and in an endless range."""
        if self.count is None or not is_number(value):
            return None
        index = round((float(value) - self.low) / self.step) if self.step else 0
        return index if 0 <= index < self.count and self.at(index) == value else None

    def values(self) -> Iterator[float]:
        """All values of a finite range.

        Raises:
            ValueError: the range is endless.
        """
        if self.count is None:
            raise ValueError(
                f"a float range without a step is endless: {self.low:g}..{self.high:g}"
            )
        return (self.at(index) for index in range(self.count))

    @property
    def type_names(self) -> set[TypeName]:
        return {"float"}


Domain: TypeAlias = Choice | IntRange | FloatRange


def domain_values(domain: Domain) -> Iterator[Json]:
    """All values of a finite domain, in order.

    Raises:
        ValueError: the domain is endless.
    """
    return iter(domain.values) if isinstance(domain, Choice) else iter(domain.values())


def holds(domain: Domain, value: Json) -> bool:
    """True when `value` is one of the domain's."""
    if domain.count is None:
        return is_number(value) and domain.low <= value <= domain.high
    return domain.index_of(value) is not None


def is_number(value: object) -> TypeGuard[int | float]:
    """True for integers and floats; a bool is not a number here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_bounds(low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"bounds must be finite, got {low:g} and {high:g}")
    if low > high:
        raise ValueError(f"the lower bound {low:g} is above the upper bound {high:g}")
    if log and low <= 0:
        raise ValueError(f"a log range starts above 0, got {low:g}")


def _type_name(value: Json) -> TypeName:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else "json"
