"""The capacity under an SLO, estimated from all probes near it.

One probe tells little. Neighbouring requests share the busy periods of the engine, so that of all
values beyond a p99 there are only a few independent ones: most probes meet none of the long busy
periods that make it, and a few meet too many. All probes near the limit are therefore read as one
long stage. To have one rate, each is moved along a line: in logarithms a latency grows with the
rate like a straight line, near its limit.

How sure the rate is, the probes tell as well: each starts with an idle engine, so that they are
independent, and differ by as much as chance makes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from runtimes.measurement import Distribution, Measurement
from runtimes.slo import SloLimit

NEAR = math.log(2.0)
"""A probe whose worst figure is further from its limit says little of the line near it."""
LEAST_REQUESTS = 1000
USUAL_RESOLUTION = 0.05
_MOST_FINER = 4.0
_TAIL_EXPONENT = 0.3
_MOST_EXTREME = 0.001
_USUAL_SLOPE = 2.5
_SLOPE_WEIGHT = 0.005
"""The slope is fitted with a prior, which decides while all probes are at about the same rate:
2.5 ± 1.5, as simulated latencies grow at 60 to 90 % of saturation, against a scatter of 0.1."""
_MIN_SLOPE = 1.0
_USUAL_SPREAD = 0.05
"""Standard error of the rate by one stage of `requests_of_stage`, where the slope is usual: less
where latency grows more steeply. Probes that met no long busy period by chance agree with each
other and find too high a rate; this keeps their interval from being believed too early."""
_SPREAD_FREEDOM = 8
"""Degrees of freedom that this stands for beside those of the probes."""
_WINDOW_BIAS = 0.01
"""How much too high the rate comes out, since the windows of stages leave out their beginning, most
of all where a long busy period was there: 1 to 2 % on simulated engines."""
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
"""Student's t by degrees of freedom, 95 % two-sided."""
_HALVINGS = 18
_STEP = 0.02
"""Of ln(rate), to see how fast figures grow with it."""


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
    """Estimated rate at which `limit`, the first of all, is met, with an interval of 95 %.

    The interval reaches further down, since the rate tends to come out too high.
    """

    rate: float
    low: float
    high: float
    limit: SloLimit

    @property
    def half_width(self) -> float:
        """Of the interval that chance makes, relative to the rate: more probes narrow this one."""
        return math.log(self.high / self.rate)


def requests_of_stage(limit: SloLimit, resolution: float = USUAL_RESOLUTION) -> int:
    """Requests with which one stage near `limit` knows the capacity to about `resolution`.

    Simulated engines take 4,600 requests to know it to a standard error of 2 % by a mean, 7,900 by
    a p90, 12,300 by a p95 and 27,000 by a p99. An error half as large takes four times as many;
    further than four times either way it is left to the number of stages.
    """
    finer = min(_MOST_FINER, max(1 / _MOST_FINER, (USUAL_RESOLUTION / resolution) ** 2))
    beyond = 1.0
    if limit.percentile is not None:
        beyond = max(_MOST_EXTREME, 1 - limit.percentile / 100)
    return 50 * round(finer * LEAST_REQUESTS / 50 / math.pow(beyond, _TAIL_EXPONENT))


def estimate(points: Sequence[Point]) -> Capacity:
    """The capacity from one probe near it or more; below three its interval has no ends."""
    lines = [_Line.of(verdict.limit, points) for verdict in points[0].measurement.slo]
    log_rate, line = min(((line.meeting(), line) for line in lines), key=lambda one: one[0])
    rate = math.exp(log_rate)
    if len(points) < 3:
        return Capacity(rate, 0.0, math.inf, line.limit)
    free = max(1, math.floor(1 / sum(weight**2 for weight in line.weights)) - 1)
    requests = sum(point.measurement.requests_completed for point in points)
    spread = _USUAL_SPREAD * min(1.0, _USUAL_SLOPE / line.slope)
    usual = spread**2 * requests_of_stage(line.limit) / requests
    variance = (free * line.variance(log_rate) + _SPREAD_FREEDOM * usual) / (free + _SPREAD_FREEDOM)
    factor = math.exp(_student(free + _SPREAD_FREEDOM) * math.sqrt(variance))
    return Capacity(rate, rate / factor * (1 - _WINDOW_BIAS), rate * factor, line.limit)


@dataclass(frozen=True, slots=True)
class _Line:
    """What the points say of one limit at any rate near theirs.

    Attributes:
        log_rates: of the points.
        readings: of each point, by a factor on its latencies: its mean over the limit, or its share
            above the limit.
        weights: of the points, 1 together.
        slope: growth of ln(latency) with ln(rate).
    """

    limit: SloLimit
    log_rates: Sequence[float]
    readings: Sequence[Callable[[float], float]]
    weights: Sequence[float]
    slope: float

    @classmethod
    def of(cls, limit: SloLimit, points: Sequence[Point]) -> _Line:
        weights = _weights(points)
        log_rates = [math.log(point.rate) for point in points]
        readings = [_reading(limit, point) for point in points]
        return cls(limit, log_rates, readings, weights, _slope(points, weights))

    def at(self, log_rate: float) -> list[float]:
        """Reading of each point, moved to that rate."""
        return [
            reading(math.exp(self.slope * (log_rate - own)))
            for reading, own in zip(self.readings, self.log_rates, strict=True)
        ]

    def meeting(self) -> float:
        """Logarithm of the rate at which the points, taken together, meet the limit."""
        allowed = 1.0 if self.limit.percentile is None else 1 - self.limit.percentile / 100
        low, high = min(self.log_rates) - NEAR, max(self.log_rates) + NEAR
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if _mean(self.at(middle), self.weights) > allowed:
                high = middle
            else:
                low = middle
        return low

    def variance(self, log_rate: float) -> float:
        """Of ln(rate): how far the points differ there, over how fast they grow with the rate."""
        below, above = (_mean(self.at(log_rate + step), self.weights) for step in (-_STEP, _STEP))
        growth = (above - below) / (2 * _STEP)
        if growth <= 0:
            return math.inf
        found = self.at(log_rate)
        centre = _mean(found, self.weights)
        errors = ((w * (one - centre)) ** 2 for one, w in zip(found, self.weights, strict=True))
        return sum(errors) * len(found) / (len(found) - 1) / growth**2


def _student(free: int) -> float:
    return _STUDENT.get(free, 1.96 + 2.5 / free)


def _slope(points: Sequence[Point], weights: Sequence[float]) -> float:
    """Growth of ln(figure) with ln(rate)."""
    rates, excesses = [math.log(point.rate) for point in points], [p.excess for p in points]
    rate, excess = _mean(rates, weights), _mean(excesses, weights)
    spread = _mean([(value - rate) ** 2 for value in rates], weights)
    products = [(x - rate) * (y - excess) for x, y in zip(rates, excesses, strict=True)]
    prior = _SLOPE_WEIGHT / len(points)
    fitted = (_mean(products, weights) + prior * _USUAL_SLOPE) / (spread + prior)
    return max(_MIN_SLOPE, fitted)


def _reading(limit: SloLimit, point: Point) -> Callable[[float], float]:
    read: Callable[[Measurement], Distribution | None] = _READ[limit.metric]
    values = read(point.measurement)
    assert values is not None, "a point's excess is finite, so that it has every limited figure"
    if limit.percentile is None:
        share = values.mean / limit.limit_ms
        return lambda factor: share * factor
    tail = _tail(values)
    return lambda factor: _share_above(tail, limit.limit_ms / factor)


_READ: dict[str, Callable[[Measurement], Distribution | None]] = {
    "ttft_ms": lambda measurement: measurement.ttft_ms,
    "tpot_ms": lambda measurement: measurement.tpot_ms,
    "itl_ms": lambda measurement: measurement.itl_ms,
    "e2e_ms": lambda measurement: measurement.e2e_ms,
}


def share_above(values: Distribution, limit_ms: float) -> float:
    """Share of the values above a limit, from their percentiles, exponential between two."""
    return _share_above(_tail(values), limit_ms)


def _tail(values: Distribution) -> list[tuple[float, float]]:
    """Shares and what they lie above, ascending in the latter."""
    shares = (
        (1.0, values.min),
        (0.5, values.p50),
        (0.25, values.p75),
        (0.1, values.p90),
        (0.05, values.p95),
        (0.01, values.p99),
        (0.001, values.p99_9),
        (0.5 / (values.count or 1), values.max),
    )
    return [(share, value) for share, value in shares if value is not None]


def _share_above(tail: Sequence[tuple[float, float]], limit_ms: float) -> float:
    if limit_ms < tail[0][1]:
        return 1.0
    for (more, low), (less, high) in pairwise(tail):
        if low <= limit_ms < high and less < more:
            part = (limit_ms - low) / (high - low)
            return more * math.exp(part * math.log(less / more))
    return 0.0


def _weights(points: Sequence[Point]) -> list[float]:
    requests = [point.measurement.requests_completed for point in points]
    return [count / sum(requests) for count in requests]


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True))
