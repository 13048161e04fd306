"""Settings that are a number or a distribution: token lengths, turns, seconds.

A number is constant. A mapping has a `distribution`, `normal` where it names none:

    {mean: 1024, stddev: 256, min: 16, max: 4096}                       (bounds may be left out)
    {distribution: lognormal, mean: 1024, stddev: 900}                  (of the lengths themselves)
    {distribution: uniform, min: 128, max: 2048}
    {distribution: constant, value: 512}
    {distribution: empirical, values: [128, 2048], weights: [3, 1]}     (weights may be left out)
    {distribution: empirical, file: lengths.csv.gz, column: input_length}
    {distribution: mixture, components: [{weight: 3, mean: 200, stddev: 50}, {weight: 1, …}]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from runtimes.json_types import Json
from runtimes.workloads.draws import (
    DEFAULT_SPREAD,
    Constant,
    Draws,
    Empirical,
    Lognormal,
    Mixture,
    Normal,
    Uniform,
    of_logarithm,
)
from runtimes.workloads.files import lengths_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LARGEST = 2.0**31 - 1
"""Beyond every length and time that makes sense; draws stay well within 64 bits."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What the numbers of a setting are.

    Attributes:
        one, many: its name, for messages.
        whole: numbers are whole, so that draws are rounded.
        least: the smallest number that makes sense.
    """

    one: str
    many: str
    whole: bool
    least: float


TOKENS = Unit("token", "tokens", whole=True, least=1)
TURNS = Unit("turn", "turns", whole=True, least=1)
SECONDS = Unit("second", "seconds", whole=False, least=0)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Whole numbers, from 1 on, drawn from a distribution and rounded."""

    draws: Draws

    @classmethod
    def parse(cls, setting: str, value: Json, unit: Unit = TOKENS) -> Lengths:
        """Read what this module's docstring shows.

        Raises:
            ValueError: the value is no such thing; the message starts with `setting`.
        """
        return cls(_parse(setting, value, unit))

    @property
    def shortest(self) -> int:
        return round(self.draws.low)

    @property
    def longest(self) -> int:
        return round(self.draws.high)

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """`count` lengths; the first n of them are the same whatever `count` is."""
        return self.draws.draw(random, count).round().astype("int64")


@dataclass(frozen=True, slots=True)
class Seconds:
    """Times from 0 on, drawn from a distribution."""

    draws: Draws

    @classmethod
    def parse(cls, setting: str, value: Json) -> Seconds:
        """As `Lengths.parse`."""
        return cls(_parse(setting, value, SECONDS))

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        """`count` times; the first n of them are the same whatever `count` is."""
        return self.draws.draw(random, count)


def _parse(setting: str, value: Json, unit: Unit) -> Draws:
    if isinstance(value, dict):
        kind = value.get("distribution", "normal")
        if not isinstance(kind, str) or kind not in _KINDS:
            known = ", ".join(_KINDS)
            raise ValueError(f"{setting}.distribution: must be one of {known}, got {kind!r}")
        keys, parse = _KINDS[kind]
        unknown = [key for key in value if key not in keys and key != "distribution"]
        if unknown:
            raise ValueError(f"{setting}.{unknown[0]}: unknown; known: {', '.join(keys)}")
        return parse(setting, value, unit)
    if not _is_number(value) or (unit.whole and not isinstance(value, int)):
        number = f"a whole number of {unit.many}" if unit.whole else f"a number of {unit.many}"
        raise ValueError(
            f"{setting}: must be {number} or a mapping with a distribution "
            f"({', '.join(_KINDS)}), got {value!r}"
        )
    constant = _least(setting, value, unit)
    return Constant(constant, constant)


def _constant(setting: str, value: Mapping[str, Json], unit: Unit) -> Draws:
    constant = _drawn(f"{setting}.value", value.get("value"), unit)
    return Constant(constant, constant)


def _normal(setting: str, value: Mapping[str, Json], unit: Unit) -> Draws:
    mean, stddev = _moments(setting, value, unit)
    spread = DEFAULT_SPREAD * stddev
    low, high = _bounds(setting, value, unit, mean - spread, mean + spread)
    return Normal(mean, stddev, low, high)


def _lognormal(setting: str, value: Mapping[str, Json], unit: Unit) -> Draws:
    mean, stddev = _moments(setting, value, unit)
    if mean <= 0:
        raise ValueError(f"{setting}.mean: must be positive, got {mean:g}")
    mu, sigma = of_logarithm(mean, stddev)
    spread = DEFAULT_SPREAD * sigma
    low, high = _bounds(setting, value, unit, math.exp(mu - spread), math.exp(mu + spread))
    return Lognormal(mean, stddev, low, high)


def _uniform(setting: str, value: Mapping[str, Json], unit: Unit) -> Draws:
    low, high = (_drawn(f"{setting}.{key}", value.get(key), unit) for key in ("min", "max"))
    _ordered(setting, low, high)
    return Uniform(low, high, unit.whole)


def _empirical(setting: str, value: Mapping[str, Json], unit: Unit) -> Draws:
    if ("file" in value) == ("values" in value):
        raise ValueError(f"{setting}: must have either `file` or `values`, got {value!r}")
    if "file" in value:
        _goes_with(setting, value, "weights", "values")
        column = value.get("column")
        if column is not None and not isinstance(column, str):
            raise ValueError(f"{setting}.column: must be the name of a column, got {column!r}")
        if not unit.whole:
            raise ValueError(f"{setting}.file: files are for lengths; write `values` here")
        listed = lengths_in(f"{setting}.file", value["file"], column)
        return Empirical.of((number, 1.0) for number in listed)
    _goes_with(setting, value, "column", "file")
    values = [
        _drawn(f"{setting}.values[{place}]", item, unit)
        for place, item in enumerate(_items(f"{setting}.values", value["values"]))
    ]
    weights = [
        _weight(f"{setting}.weights[{place}]", item)
        for place, item in enumerate(
            _items(f"{setting}.weights", value.get("weights", [1] * len(values)))
        )
    ]
    if len(weights) != len(values):
        raise ValueError(
            f"{setting}.weights: must be as many as the {len(values)} values, got {len(weights)}"
        )
    return Empirical.of(zip(values, weights, strict=True))


def _goes_with(setting: str, value: Mapping[str, Json], key: str, other: str) -> None:
    if key in value:
        raise ValueError(f"{setting}.{key}: goes with `{other}`, got {value[key]!r}")


def _mixture(setting: str, value: Mapping[str, Json], unit: Unit) -> Draws:
    weighted: list[tuple[Draws, float]] = []
    for place, item in enumerate(_items(f"{setting}.components", value.get("components"))):
        where = f"{setting}.components[{place}]"
        if not isinstance(item, dict):
            raise ValueError(f"{where}: must be a mapping with a weight, got {item!r}")
        part = dict(item)
        weight = _weight(f"{where}.weight", part.pop("weight", None))
        weighted.append((_parse(where, part, unit), weight))
    return Mixture.of(weighted)


_KINDS: Mapping[str, tuple[tuple[str, ...], Callable[[str, Mapping[str, Json], Unit], Draws]]] = {
    "normal": (("mean", "stddev", "min", "max"), _normal),
    "lognormal": (("mean", "stddev", "min", "max"), _lognormal),
    "uniform": (("min", "max"), _uniform),
    "constant": (("value",), _constant),
    "empirical": (("values", "weights", "file", "column"), _empirical),
    "mixture": (("components",), _mixture),
}
"""Distributions by name: the keys each takes, and what reads them."""

DISTRIBUTIONS = tuple(_KINDS)


def _moments(setting: str, value: Mapping[str, Json], unit: Unit) -> tuple[float, float]:
    mean, stddev = (_number(f"{setting}.{key}", value.get(key), unit) for key in ("mean", "stddev"))
    _least(f"{setting}.mean", mean, unit)
    if stddev < 0:
        raise ValueError(f"{setting}.stddev: must not be negative, got {stddev:g}")
    return mean, stddev


def _bounds(
    setting: str, value: Mapping[str, Json], unit: Unit, low: float, high: float
) -> tuple[float, float]:
    """`min` and `max`; those left out are `low` and `high`, rounded outwards where need be."""
    if unit.whole:
        low, high = math.floor(low), math.ceil(min(high, _LARGEST))
    lowest = _drawn(f"{setting}.min", value.get("min", max(unit.least, low)), unit)
    highest = _drawn(f"{setting}.max", value.get("max", high), unit)
    _ordered(setting, lowest, highest)
    return lowest, highest


def _ordered(setting: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{setting}.max: {high:g} is below the minimum of {low:g}")


def _drawn(where: str, value: Json, unit: Unit) -> float:
    """A number that a draw may come to."""
    if unit.whole and (not _is_number(value) or value != int(value) or value < unit.least):
        raise ValueError(
            f"{where}: must be a whole number of at least {unit.least:g}, got {value!r}"
        )
    return _least(where, _number(where, value, unit), unit)


def _number(where: str, value: Json, unit: Unit) -> float:
    if not _is_number(value):
        raise ValueError(f"{where}: must be a number of {unit.many}, got {value!r}")
    return float(value)


def _least(where: str, number: float, unit: Unit) -> float:
    if number < unit.least:
        name = unit.one if unit.least == 1 else unit.many
        raise ValueError(f"{where}: must be at least {unit.least:g} {name}, got {number:g}")
    return number


def _weight(where: str, value: Json) -> float:
    if not _is_number(value) or value <= 0:
        raise ValueError(f"{where}: must be a positive number, got {value!r}")
    return float(value)


def _items(where: str, value: Json) -> list[Json]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: must be a list with something in it, got {value!r}")
    return value


def _is_number(value: Json) -> TypeGuard[int | float]:
    """A number that is finite and of a size that makes sense here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST <= value <= _LARGEST
