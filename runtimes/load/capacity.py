"""The capacity under an SLO, estimated from all probes near it.

One probe tells little: the p99 of two thousand requests in Poisson time moves so much from one
draw to the next that the rate at which it meets a limit is uncertain by 4 to 6 % (simulated engine,
several lengths), and most of the time it is too low, since what makes a p99 is rare. All probes
near the limit are therefore read as one long stage. To have one rate, each is moved along a line:
in logarithms a latency grows with the rate like a straight line, near its limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from runtimes.measurement import Distribution, Measurement
from runtimes.slo import SloLimit

NEAR = math.log(2.0)
"""A probe whose worst figure is further from its limit says nothing of the line near it."""
_USUAL_SLOPE = 2.5
_SLOPE_WEIGHT = 0.005
"""The slope is fitted with a prior, which decides while all probes are at about the same rate:
2.5 ± 1.5, as simulated latencies grow at 60 to 90 % of saturation, against a scatter of 0.1."""
_MIN_SLOPE = 1.0
_STUDENT = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t by degrees of freedom, 95 % two-sided; the normal distribution's beyond."""
_NORMAL = 1.96
_HALVINGS = 24


@dataclass(frozen=True, slots=True)
class Point:
    """One probe.

    Attributes:
        rate: requests per second that it had.
        excess: ln(figure / limit) of its worst figure.
    """

    rate: float
    excess: float
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Capacity:
    """Estimated rate at which the worst figure meets its limit, with an interval of 95 %."""

    rate: float
    low: float
    high: float


def estimate(points: Sequence[Point]) -> Capacity:
    """The capacity from one probe near it or more; below three its interval has no ends."""
    weights = _weights(points)
    slope = _slope(points, weights)
    limits = [verdict.limit for verdict in points[0].measurement.slo]
    rate = min(_meeting(limit, points, weights, slope) for limit in limits)
    free = len(points) - 1
    if free < 2:
        return Capacity(rate, 0.0, math.inf)
    single = [math.log(point.rate) - point.excess / slope for point in points]
    centre = _mean(single, weights)
    variance = _mean([(value - centre) ** 2 for value in single], weights)
    factor = math.exp(_STUDENT.get(free, _NORMAL) * math.sqrt(variance / free))
    return Capacity(rate, rate / factor, rate * factor)


def _slope(points: Sequence[Point], weights: Sequence[float]) -> float:
    """Growth of ln(figure) with ln(rate)."""
    rates, excesses = [math.log(point.rate) for point in points], [p.excess for p in points]
    rate, excess = _mean(rates, weights), _mean(excesses, weights)
    spread = _mean([(value - rate) ** 2 for value in rates], weights)
    products = [(x - rate) * (y - excess) for x, y in zip(rates, excesses, strict=True)]
    prior = _SLOPE_WEIGHT / len(points)
    fitted = (_mean(products, weights) + prior * _USUAL_SLOPE) / (spread + prior)
    return max(_MIN_SLOPE, fitted)


def _meeting(
    limit: SloLimit, points: Sequence[Point], weights: Sequence[float], slope: float
) -> float:
    """Rate at which the points, moved there and taken together, meet `limit`."""
    broken = _mean_broken if limit.percentile is None else _percentile_broken
    low = math.log(min(point.rate for point in points)) - NEAR
    high = math.log(max(point.rate for point in points)) + NEAR
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        moved = [math.exp(slope * (middle - math.log(point.rate))) for point in points]
        if broken(limit, points, weights, moved):
            high = middle
        else:
            low = middle
    return math.exp(low)


def _mean_broken(
    limit: SloLimit, points: Sequence[Point], weights: Sequence[float], moved: Sequence[float]
) -> bool:
    means = [_values(point, limit).mean for point in points]
    return _mean([a * b for a, b in zip(means, moved, strict=True)], weights) > limit.limit_ms


def _percentile_broken(
    limit: SloLimit, points: Sequence[Point], weights: Sequence[float], moved: Sequence[float]
) -> bool:
    assert limit.percentile is not None
    shares = [
        share_above(_values(point, limit), limit.limit_ms / factor)
        for point, factor in zip(points, moved, strict=True)
    ]
    return _mean(shares, weights) > 1 - limit.percentile / 100


def _values(point: Point, limit: SloLimit) -> Distribution:
    read: Callable[[Measurement], Distribution | None] = _READ[limit.metric]
    values = read(point.measurement)
    assert values is not None, "a point's excess is finite, so that it has every limited figure"
    return values


_READ: dict[str, Callable[[Measurement], Distribution | None]] = {
    "ttft_ms": lambda measurement: measurement.ttft_ms,
    "tpot_ms": lambda measurement: measurement.tpot_ms,
    "itl_ms": lambda measurement: measurement.itl_ms,
    "e2e_ms": lambda measurement: measurement.e2e_ms,
}


def share_above(values: Distribution, limit_ms: float) -> float:
    """Share of the values above a limit, from their percentiles, exponential between two."""
    percentiles = (
        (1.0, values.min),
        (0.5, values.p50),
        (0.25, values.p75),
        (0.1, values.p90),
        (0.05, values.p95),
        (0.01, values.p99),
        (0.001, values.p99_9),
        (0.5 / (values.count or 1), values.max),
    )
    known = [(more, value) for more, value in percentiles if value is not None]
    if limit_ms < known[0][1]:
        return 1.0
    for (more, low), (less, high) in pairwise(known):
        if low <= limit_ms < high and less < more:
            part = (limit_ms - low) / (high - low)
            return more * math.exp(part * math.log(less / more))
    return 0.0


def _weights(points: Sequence[Point]) -> list[float]:
    requests = [point.measurement.requests_completed for point in points]
    return [count / sum(requests) for count in requests]


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True))
