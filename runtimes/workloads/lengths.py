"""Token lengths: constant, or normal within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtimes.json_types import Json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_SPREAD = 4.0
"""Without `min` and `max`, lengths end so many standard deviations from the mean (0.006 % of the
draws are beyond), so that the longest request is known before anything is drawn."""

_KEYS = ("mean", "stddev", "min", "max")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Normal lengths, rounded to whole tokens and clipped to [`shortest`, `longest`].

    A standard deviation of 0 makes them constant.
    """

    mean: float
    stddev: float
    shortest: int
    longest: int

    @classmethod
    def parse(cls, setting: str, value: Json) -> Lengths:
        """Read `1024` or `{mean: 1024, stddev: 256, min: 16, max: 4096}`.

        Raises:
            ValueError: the value is no such thing; the message starts with `setting`.
        """
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError(f"{setting}: must be at least 1 token, got {value}")
            return cls(value, 0.0, value, value)
        if not isinstance(value, dict):
            raise ValueError(
                f"{setting}: must be a whole number of tokens or a mapping of mean and stddev, "
                f"got {value!r}"
            )
        unknown = sorted(set(value) - set(_KEYS))
        if unknown:
            raise ValueError(f"{setting}.{unknown[0]}: unknown; known: {', '.join(_KEYS)}")
        mean = _number(setting, value, "mean")
        stddev = _number(setting, value, "stddev")
        if mean < 1:
            raise ValueError(f"{setting}.mean: must be at least 1 token, got {mean:g}")
        if stddev < 0:
            raise ValueError(f"{setting}.stddev: must not be negative, got {stddev:g}")
        spread = DEFAULT_SPREAD * stddev
        shortest = _bound(setting, value, "min", max(1, math.floor(mean - spread)))
        longest = _bound(setting, value, "max", math.ceil(mean + spread))
        if shortest > longest:
            raise ValueError(f"{setting}.max: {longest} is below the minimum of {shortest}")
        return cls(mean, stddev, shortest, longest)

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """`count` lengths; the first n of them are the same whatever `count` is."""
        drawn = (self.mean + self.stddev * random.standard_normal(count)).round()
        return drawn.clip(self.shortest, self.longest).astype("int64")


def _number(setting: str, value: Mapping[str, Json], key: str) -> float:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{setting}.{key}: must be a number of tokens, got {number!r}")
    return float(number)


def _bound(setting: str, value: Mapping[str, Json], key: str, default: int) -> int:
    bound = value.get(key, default)
    if isinstance(bound, bool) or not isinstance(bound, int) or bound < 1:
        raise ValueError(f"{setting}.{key}: must be a whole number of at least 1, got {bound!r}")
    return bound
