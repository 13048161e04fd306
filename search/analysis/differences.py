"""Whether one configuration is better than another, or only measured so.

Every measurement carries confidence intervals of its figures, made from the stage itself. The
difference of two is judged by them: both as independent, in logarithms, where a relative error is a
standard error. `LEVEL` is stricter than the intervals' own 95 %, since these are made of stages
whose blocks are not quite independent; with it, equal configurations are called different in less
than one comparison of twenty (`tests/search/test_differences.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist, mean, variance

from runtimes.measurement import Interval, Measurement
from search.objectives.base import Direction, Objective

LEVEL = 0.01
"""Chance that one comparison of equal configurations finds a difference, in either direction."""
NAMED_DIFFERENCE = 0.01
"""Relative differences below it are not worth a name, however sure they are."""
_INTERVAL_Z = NormalDist().inv_cdf(0.975)
_Z = NormalDist().inv_cdf(1 - LEVEL / 2)
_INTERVAL_OF = {"cost_per_million_tokens": "total_throughput"}
"""Objectives that are made of a figure of another name, and as uncertain as that."""


class Verdict(Enum):
    """What is known of the second of two configurations, against the first."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured value.

    Attributes:
        error: standard error over `value`; None where nothing is known of it.
    """

    value: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How the second of two configurations compares with the first.

    Attributes:
        relative: second over first, minus 1.
        low, high: its interval, at 1 − `LEVEL`; None where the values' own errors are not known.
    """

    relative: float
    low: float | None
    high: float | None
    verdict: Verdict


def sample(
    objective: Objective,
    measurement: Measurement,
    *,
    gpus: int = 1,
    gpu_price_per_hour: float | None = None,
    closed_loop: bool = False,
) -> Sample | None:
    """The objective of a measurement, with the error that its interval shows; None without it.

    In a closed loop a throughput is the requests in flight over their mean stay (Little's law), so
    that the error of the mean E2E is its error too. That is taken where it is the smaller one: in
    short stages requests run in waves, which make throughput over time look more uncertain. So it
    is of goodput where every request was good, which is then the throughput of requests.
    """
    value = objective.value(measurement, gpus=gpus, gpu_price_per_hour=gpu_price_per_hour)
    if value is None:
        return None
    figure = objective.name.removesuffix("_per_gpu")
    figure = _INTERVAL_OF.get(figure, figure)
    errors = [_relative_error(measurement.intervals.get(figure))]
    every_one = figure == "goodput" and measurement.slo_attainment == 1.0
    if closed_loop and (every_one or figure.endswith("_throughput")):
        errors.append(_relative_error(measurement.intervals.get("e2e_mean_ms")))
    return Sample(value, min((error for error in errors if error is not None), default=None))


def compare(first: Sequence[Sample], second: Sequence[Sample], direction: Direction) -> Difference:
    """Compare two configurations, each measured once or repeatedly.

    Better or worse is said of the second, when the interval of the relative difference leaves out
    0 and the difference is at least `NAMED_DIFFERENCE`. Where an error is not known, or a value is
    not positive, it stays undecided. Of each there has to be one sample at least.
    """
    one, other = mean(s.value for s in first), mean(s.value for s in second)
    if one <= 0 or other <= 0:
        return Difference(other / one - 1 if one else 0.0, None, None, Verdict.UNDECIDED)
    error, other_error = _error(first), _error(second)
    if error is None or other_error is None:
        return Difference(other / one - 1, None, None, Verdict.UNDECIDED)
    return _judged(other / one, math.hypot(error, other_error), direction)


def paired(pairs: Sequence[tuple[Sample, Sample]], direction: Direction) -> Difference:
    """The difference that pairs of measurements show together, each first and second.

    What the members of a pair have in common, as a load or a configuration, leaves no mark: the
    ratio is the geometric mean of the pairs' own, and its error is that of the measurements or, if
    that is more, what the ratios' spread over the pairs shows. There has to be one pair at least.
    """
    if any(sample.value <= 0 for pair in pairs for sample in pair):
        first, second = (mean(pair[side].value for pair in pairs) for side in (0, 1))
        return Difference(second / first - 1 if first else 0.0, None, None, Verdict.UNDECIDED)
    ratios = [math.log(second.value / first.value) for first, second in pairs]
    ratio = math.exp(mean(ratios))
    errors = [(first.error, second.error) for first, second in pairs]
    known = [one**2 + other**2 for one, other in errors if one is not None and other is not None]
    if len(known) < len(pairs):
        return Difference(ratio - 1, None, None, Verdict.UNDECIDED)
    apart = variance(ratios) if len(ratios) > 1 else 0.0
    return _judged(ratio, math.sqrt(max(mean(known), apart) / len(pairs)), direction)


def _judged(ratio: float, error: float, direction: Direction) -> Difference:
    """Second over first with a relative standard error, as a difference and its verdict."""
    factor = math.exp(_Z * error)
    low, high = ratio / factor - 1, ratio * factor - 1
    verdict = Verdict.UNDECIDED
    if low > 0 and ratio - 1 >= NAMED_DIFFERENCE:
        verdict = Verdict.BETTER if direction == "maximize" else Verdict.WORSE
    elif high < 0 and 1 - ratio >= NAMED_DIFFERENCE:
        verdict = Verdict.WORSE if direction == "maximize" else Verdict.BETTER
    return Difference(ratio - 1, low, high, verdict)


def ties(
    best: Sequence[Sample], others: Sequence[Sequence[Sample]], direction: Direction
) -> tuple[int, ...]:
    """Positions in `others` of the configurations that are not surely worse than the best."""
    return tuple(
        position
        for position, other in enumerate(others)
        if compare(best, other, direction).verdict is not Verdict.WORSE
    )


def _relative_error(interval: Interval | None) -> float | None:
    """Half of an interval over its middle, as a standard error; it has no unit."""
    if interval is None or interval.low + interval.high <= 0:
        return None
    return (interval.high - interval.low) / (interval.high + interval.low) / _INTERVAL_Z


def _error(samples: Sequence[Sample]) -> float | None:
    """Relative standard error of the mean of the samples; None where one's own is not known.

    By their own errors, or, if that is more, by how far repetitions lie apart, which holds what
    differs from one start of an engine to the next.
    """
    errors = [s.error for s in samples if s.error is not None]
    if len(errors) < len(samples):
        return None
    within = mean(error**2 for error in errors)
    apart = 0.0
    if len(samples) > 1:
        values = [s.value for s in samples]
        apart = variance(values) / mean(values) ** 2
    return math.sqrt(max(within, apart) / len(samples))
