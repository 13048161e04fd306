"""Confidence intervals of 95 % by a block bootstrap, the same for equal data.

Every figure here is a ratio of sums over units in the order of time: requests (a mean latency is a
sum of latencies over a number of requests) or bins of time (a throughput is a number of tokens over
a number of seconds). Neighbours share what slowed them, so that circular blocks of consecutive
units are drawn (Politis and Romano 1992), not single ones; with independent units that is as good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runtimes.measurement import Interval
from runtimes.request_columns import Floats, Ints

RESAMPLES = 1000
MIN_UNITS = 10
"""With fewer units there is no interval."""
MIN_BLOCKS = 5
BLOCK_OVER_CORRELATED = 3.0
_MOST_LACKING = 0.5
"""Blocks so short that they lack more than this of the variance say nothing of it."""
_Z = 1.959964
_SEED = 0x626F6F74


def block_length(units: int, correlated: float = 0.0) -> int:
    """Units of one block: units^0.4, or three times those that are `correlated` if that is more.

    Never so many that fewer than `MIN_BLOCKS` blocks are drawn.
    """
    wanted = max(math.pow(units, 0.4), BLOCK_OVER_CORRELATED * correlated)
    return max(1, min(math.ceil(wanted), units // MIN_BLOCKS))


class Resampling:
    """Draws of blocks, made once and used for all figures of the same units.

    Args:
        units: at least `MIN_UNITS`.
        block: units of a block.
        spread: units over which one event is spread evenly, such as a request's work over its stay.
            Autocovariance then falls linearly to 0 over so many, and the sums of blocks of l units
            lack spread / 3l of the variance that long sums have.
    """

    def __init__(self, units: int, block: int, *, spread: float = 0.0) -> None:
        self._block = block
        blocks = math.ceil(units / block)
        self._starts: Ints = np.random.default_rng(_SEED).integers(0, units, (RESAMPLES, blocks))
        # A percentile interval of few units is too narrow by what Student's t is wider than the
        # normal distribution (Cornish and Fisher's expansion) and by the variance's bias.
        free = blocks - 1
        student = (
            _Z + (_Z**3 + _Z) / (4 * free) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * free**2)
        )
        lacking = min(spread / (3 * block), _MOST_LACKING)
        self._widening = student / _Z * math.sqrt(blocks / free / (1 - lacking))

    def ratio(self, numerators: Floats, denominators: Floats) -> Interval | None:
        """Interval of Σ numerators / Σ denominators; None where the denominators are all 0.

        Neither may be negative, nor is the interval: there is no throughput below 0.
        """
        total = denominators.sum()
        if total <= 0:
            return None
        estimate = numerators.sum() / total
        drawn = self._sums(denominators)
        some = drawn > 0
        ratios = self._sums(numerators)[some] / drawn[some]
        low, high = np.percentile(ratios - estimate, (2.5, 97.5)) * self._widening + estimate
        return Interval(max(0.0, float(low)), float(high))

    def percentile(
        self, ordered: Floats, counts_at_most: Floats, counts: Floats, percentile: float
    ) -> Interval | None:
        """Interval of a percentile of values that the units hold, after Woodruff (1952).

        The share of values at or below the percentile found is a ratio; its interval around the
        percentile wanted is read off the values in order. For independent values the ends are the
        order statistics that the binomial distribution gives.

        Args:
            ordered: all values, ascending.
            counts_at_most: of each unit, its values at or below the percentile found.
            counts: values of each unit.
            percentile: in [0, 100].

        Returns:
            None where the values do not reach far enough into a tail to bound the percentile: for
            p99 that takes about 400 independent values.
        """
        share = self.ratio(counts_at_most, counts)
        if share is None or share.low <= 0 or share.high >= 1:
            return None
        found = counts_at_most.sum() / counts.sum()
        levels = np.array([share.low, share.high]) - found + percentile / 100
        low, high = of_sorted(ordered, np.clip(levels, 0.0, 1.0) * 100)  # ties can go beyond
        return Interval(low, high)

    def _sums(self, values: Floats) -> Floats:
        """Sum of the values of each resample."""
        circular = np.concatenate(
            [[0.0], np.cumsum(np.concatenate([values, values[: self._block]]))]
        )
        blocks = circular[self._block :] - circular[: -self._block]
        return np.asarray(blocks[self._starts].sum(axis=1))


def wilson(successes: int, trials: int) -> Interval | None:
    """Wilson's score interval of a share (1927), which takes trials as independent."""
    if not trials:
        return None
    share, z2 = successes / trials, _Z**2 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(share * (1 - share) / trials + z2 / 4 / trials)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def of_sorted(ordered: Floats, percentiles: Sequence[float] | Floats) -> list[float]:
    """Percentiles of ascending values, linear between ranks: numpy's default, in numpy's steps."""
    ranks = np.asarray(percentiles, dtype=np.float64) / 100 * (len(ordered) - 1)
    below = np.floor(ranks).astype(np.int64)
    part = ranks - below
    low, high = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)]
    step = high - low
    between = np.where(part < 0.5, low + step * part, high - step * (1 - part))
    return [float(value) for value in between]
