"""Intervals: how often they hold the truth, and what they agree with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.bootstrap import MIN_BLOCKS, Resampling, block_length, of_sorted, wilson
from runtimes.measurement import Interval
from runtimes.request_columns import Floats

REPETITIONS = 200

Sample = Callable[[np.random.Generator, int], Floats]


def exponential(random: np.random.Generator, size: int) -> Floats:
    return random.exponential(1.0, size)


def normal(random: np.random.Generator, size: int) -> Floats:
    return random.normal(5.0, 1.0, size)


def remembering(random: np.random.Generator, size: int) -> Floats:
    """Around 10, with a correlation of 0.8 between neighbours."""
    values = np.zeros(size + 50)
    steps = random.normal(0.0, 0.6, size + 50)
    for index in range(1, size + 50):
        values[index] = 0.8 * values[index - 1] + steps[index]
    return np.asarray(values[50:] + 10)


def percentile_interval(
    resampling: Resampling, values: Floats, percentile: float
) -> Interval | None:
    ordered = np.sort(values)
    at_most = (values <= of_sorted(ordered, [percentile])[0]).astype(np.float64)
    return resampling.percentile(ordered, at_most, np.ones(len(values)), percentile)


def coverage(
    sample: Sample, size: int, truth: float, percentile: float | None, near: float = 0.0
) -> float:
    """Share of repetitions whose interval holds `truth`, of the mean without a percentile."""
    random = np.random.default_rng(size)
    resampling = Resampling(size, block_length(size, near))
    hits = 0
    for _ in range(REPETITIONS):
        values = sample(random, size)
        if percentile is None:
            interval = resampling.ratio(values, np.ones(size))
        else:
            interval = percentile_interval(resampling, values, percentile)
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    return hits / REPETITIONS


@pytest.mark.parametrize(
    ("sample", "truth", "percentile"),
    [
        (normal, 5.0, None),
        (exponential, 1.0, None),
        (exponential, np.log(2), 50.0),
        (exponential, np.log(10), 90.0),
        (exponential, np.log(100), 99.0),
    ],
    ids=["normal mean", "exponential mean", "p50", "p90", "p99"],
)
@pytest.mark.parametrize("size", [1000, 3000])
def test_an_interval_of_95_percent_holds_the_truth_so_often(
    sample: Sample, truth: float, percentile: float | None, size: int
) -> None:
    assert 0.9 <= coverage(sample, size, truth, percentile) <= 0.995


def test_intervals_of_few_values_are_not_too_narrow() -> None:
    assert 0.9 <= coverage(normal, 20, 5.0, None) <= 0.995
    assert 0.9 <= coverage(normal, 100, 5.0, 50.0) <= 0.995


@pytest.mark.parametrize("percentile", [None, 50.0])
def test_blocks_hold_what_neighbours_share(percentile: float | None) -> None:
    """Single draws would take 1,000 such values for as many independent ones."""
    assert 0.88 <= coverage(remembering, 1000, 10.0, percentile, near=7.0) <= 0.995
    single = Resampling(1000, 1)
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(REPETITIONS):
        interval = single.ratio(remembering(random, 1000), np.ones(1000))
        assert interval is not None
        hits += interval.low <= 10.0 <= interval.high
    assert hits / REPETITIONS < 0.7


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0])
def test_percentiles_agree_with_direct_resampling_and_with_the_binomial(percentile: float) -> None:
    """Three ways to one interval: ours, percentiles of resamples, binomial order statistics."""
    size = 4000
    random = np.random.default_rng(5)
    values = exponential(random, size)
    found = percentile_interval(Resampling(size, 1), values, percentile)
    assert found is not None
    drawn = [np.percentile(random.choice(values, size), percentile) for _ in range(1000)]
    resampled = np.percentile(drawn, (2.5, 97.5))
    ranks = np.percentile(random.binomial(size, percentile / 100, 100_000), (2.5, 97.5))
    ordered = np.sort(values)
    width = found.high - found.low
    for low, high in (resampled, ordered[ranks.astype(int)]):
        # A rank or two: at p99 some forty values lie beyond the percentile.
        assert abs(found.low - low) < 0.25 * width
        assert abs(found.high - high) < 0.25 * width


def test_a_mean_agrees_with_the_normal_interval_and_repeats_exactly() -> None:
    values = normal(np.random.default_rng(1), 2000)
    found = Resampling(2000, 1).ratio(values, np.ones(2000))
    assert found is not None
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values.mean() - half, abs=half / 8)
    assert found.high == pytest.approx(values.mean() + half, abs=half / 8)
    assert Resampling(2000, 1).ratio(values, np.ones(2000)) == found


def test_ratios_weigh_units_by_what_they_hold() -> None:
    """Requests of one gap of 1 and of nine gaps of 2: the mean gap is 1.9, not 1.5."""
    counts = np.tile([1.0, 9.0], 50)
    sums = np.tile([1.0, 18.0], 50)
    found = Resampling(100, 1).ratio(sums, counts)
    assert found is not None
    assert found.low < 1.9 < found.high
    assert Resampling(100, 1).ratio(sums, np.zeros(100)) is None


def test_an_interval_of_bursts_does_not_go_below_zero() -> None:
    tokens = np.zeros(20)
    tokens[::7] = 100.0
    found = Resampling(20, 4).ratio(tokens, np.ones(20))
    assert found is not None
    assert 0.0 <= found.low <= tokens.mean() <= found.high


def test_a_tail_that_the_values_do_not_reach_has_no_interval() -> None:
    random = np.random.default_rng(2)
    assert percentile_interval(Resampling(100, 1), exponential(random, 100), 99.0) is None
    assert percentile_interval(Resampling(1000, 1), exponential(random, 1000), 99.0) is not None


@pytest.mark.parametrize(
    ("units", "correlated", "length"),
    [(10, 0, 2), (100, 0, 7), (100, 4, 12), (100, 64, 20), (50_000, 0, 76), (50_000, 1e9, 10_000)],
)
def test_blocks_are_as_long_as_needed_but_never_few(
    units: int, correlated: float, length: int
) -> None:
    assert block_length(units, correlated) == length
    assert units // length >= MIN_BLOCKS


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, table I, and the closed form at the ends.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson(successes, trials)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) is None


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40),
    st.lists(st.floats(0, 100), min_size=1, max_size=5),
)
def test_percentiles_of_sorted_values_are_numpys(
    values: list[float], percentiles: list[float]
) -> None:
    expected = np.percentile(values, percentiles)
    assert of_sorted(np.sort(values), percentiles) == pytest.approx(expected, rel=1e-12, abs=1e-12)
