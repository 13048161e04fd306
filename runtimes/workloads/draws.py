"""Distributions that lengths, turns and times are drawn from.

Every distribution has bounds that are known before anything is drawn, so that the longest request
is known, and gives the same first n draws however many are asked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_SPREAD = 4.0
"""Without bounds of their own, draws end so many standard deviations from the mean (0.006 % of
the draws are beyond); of the logarithm's mean where that is normal."""


class Draws(ABC):
    """A distribution of numbers between `low` and `high`, both included; a frozen value."""

    __slots__ = ()
    low: float
    high: float

    @abstractmethod
    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        """`count` numbers; the first n of them are the same whatever `count` is.

        Takes the generator for itself: it is left in a state that depends on `count`.
        """


@dataclass(frozen=True, slots=True)
class Constant(Draws):
    """Always `low`, which is `high`."""

    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        import numpy as np  # here, because workloads are also made where nothing is ever drawn

        return np.full(count, self.low, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Normal(Draws):
    """Normal, clipped to [`low`, `high`]."""

    mean: float
    stddev: float
    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        drawn = self.mean + self.stddev * random.standard_normal(count)
        return drawn.clip(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Lognormal(Draws):
    """Lognormal with the given mean and standard deviation of the numbers themselves, clipped."""

    mean: float
    stddev: float
    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        import numpy as np

        mu, sigma = of_logarithm(self.mean, self.stddev)
        drawn = np.exp(mu + sigma * random.standard_normal(count))
        return drawn.clip(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Uniform(Draws):
    """Even between the bounds; of whole numbers only when `whole`."""

    low: float
    high: float
    whole: bool

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        import numpy as np

        drawn = random.random(count)
        if self.whole:
            return np.floor(self.low + drawn * (self.high - self.low + 1))
        return self.low + drawn * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Empirical(Draws):
    """Each of `values`, ascending, as often as its share says; `sums` adds the shares up."""

    values: tuple[float, ...]
    sums: tuple[float, ...]
    low: float
    high: float

    @classmethod
    def of(cls, weighted: Iterable[tuple[float, float]]) -> Empirical:
        """From values with their weights, which are positive; those of equal values add up."""
        weights: dict[float, float] = {}
        for value, weight in weighted:
            weights[value] = weights.get(value, 0.0) + weight
        values = tuple(sorted(weights))
        return cls(values, _sums(weights[value] for value in values), values[0], values[-1])

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        import numpy as np

        places = np.searchsorted(np.array(self.sums), random.random(count), side="right")
        return np.array(self.values, dtype=np.float64)[places]


@dataclass(frozen=True, slots=True)
class Mixture(Draws):
    """Each draw from one of `parts`, chosen by its share; `sums` adds the shares up."""

    parts: tuple[Draws, ...]
    sums: tuple[float, ...]
    low: float
    high: float

    @classmethod
    def of(cls, weighted: Sequence[tuple[Draws, float]]) -> Mixture:
        """From distributions with their weights, which are positive."""
        parts = tuple(part for part, _ in weighted)
        low, high = min(part.low for part in parts), max(part.high for part in parts)
        return cls(parts, _sums(weight for _, weight in weighted), low, high)

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        import numpy as np

        streams = random.spawn(len(self.parts))
        chosen = np.searchsorted(np.array(self.sums), random.random(count), side="right")
        drawn = [part.draw(stream, count) for part, stream in zip(self.parts, streams, strict=True)]
        return np.stack(drawn)[chosen, np.arange(count)]


def of_logarithm(mean: float, stddev: float) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of a lognormal with the given ones."""
    variance = math.log1p((stddev / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


def _sums(weights: Iterable[float]) -> tuple[float, ...]:
    """The weights as shares of their sum, each with all before it; the last is exactly 1."""
    reached = list(accumulate(weights))
    return (*(value / reached[-1] for value in reached[:-1]), 1.0)
