"""Loads: how many requests, and what decides when each is sent."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

_POISSON_STREAM = 0x706F6973
"""Sets the gaps' random stream apart from every other use of the experiment's seed."""


class Load(ABC):
    """One stage's load, a frozen value.

    A closed loop sends the next request when one ends; an open loop sends at times of its own,
    whatever the server does.

    Attributes:
        kind: as users write it.
        requests: requests of the stage.
    """

    __slots__ = ()
    kind: ClassVar[str]
    requests: int

    @property
    @abstractmethod
    def value(self) -> float:
        """What the load is set to: requests in flight, or requests per second."""

    @abstractmethod
    def schedule_ns(self, seed: int) -> tuple[int, ...] | None:
        """When each request is to be sent, ns after the start, ascending; None: closed loop.

        A function of the load and `seed` alone.
        """


@dataclass(frozen=True, slots=True)
class ConcurrencyLoad(Load):
    """Closed loop that holds `value` requests in flight.

    Raises:
        ValueError: `value` or `requests` is below 1.
    """

    value: int = field()
    requests: int
    kind: ClassVar[str] = "concurrency"

    def __post_init__(self) -> None:
        if self.value < 1:
            raise ValueError(f"value: must be at least 1 request in flight, got {self.value}")
        _check_requests(self.requests)

    def schedule_ns(self, seed: int) -> tuple[int, ...] | None:
        """None: each send waits for an earlier request's end."""
        return None


@dataclass(frozen=True, slots=True)
class PoissonLoad(Load):
    """Open loop with independent exponential gaps, the first before the first request.

    Gaps are used as drawn, neither clamped nor rescaled, so that the count in any window is
    Poisson.

    Raises:
        ValueError: `rate` is not a positive number, or `requests` is below 1.
    """

    rate: float
    requests: int
    kind: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate: must be positive requests per second, got {self.rate}")
        _check_requests(self.requests)

    @property
    def value(self) -> float:
        return self.rate

    def schedule_ns(self, seed: int) -> tuple[int, ...]:
        """Cumulated gaps of mean 1 / `rate`."""
        import numpy as np  # here, because loads are also made where nothing is ever sent

        random = np.random.default_rng([_POISSON_STREAM, seed])
        gaps_ns = random.exponential(1e9 / self.rate, self.requests)
        return tuple(np.cumsum(gaps_ns).astype(np.int64).tolist())


def _check_requests(requests: int) -> None:
    if requests < 1:
        raise ValueError(f"requests: must be at least 1, got {requests}")
