"""Pairs of measurements: what their members share leaves no mark."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from search.analysis.differences import Sample, Verdict, compare, paired

_errors = st.floats(0.001, 0.2)
_values = st.floats(0.1, 1e5)


@given(_values, _values, _errors, _errors)
def test_one_pair_is_a_comparison_of_two(one: float, other: float, a: float, b: float) -> None:
    first, second = Sample(one, a), Sample(other, b)
    alone, both = paired([(first, second)], "maximize"), compare([first], [second], "maximize")
    assert alone.verdict is both.verdict
    for name in ("relative", "low", "high"):
        assert abs(getattr(alone, name) - getattr(both, name)) < 1e-6 * max(1.0, other / one)


@given(st.lists(_values, min_size=2, max_size=6), st.floats(0.5, 2.0))
def test_what_pairs_share_does_not_matter(shared: list[float], ratio: float) -> None:
    pairs = [(Sample(value, 0.01), Sample(value * ratio, 0.01)) for value in shared]
    found = paired(pairs, "minimize")
    assert abs(found.relative - (ratio - 1)) < 1e-9
    assert found.low is not None and found.high is not None
    alone = paired(pairs[:1], "minimize")
    assert alone.low is not None and alone.high is not None
    assert found.high - found.low <= alone.high - alone.low


def test_ratios_that_lie_apart_show_nothing_in_the_mean() -> None:
    pairs = [(Sample(100.0, 0.001), Sample(value, 0.001)) for value in (80.0, 130.0, 95.0)]
    assert paired(pairs, "maximize").verdict is Verdict.UNDECIDED


def test_equal_sides_are_seldom_called_different() -> None:
    source = random.Random(5)
    called = 0
    for _ in range(500):
        loads = [source.uniform(10, 1000) for _ in range(4)]
        pairs = [
            (
                Sample(load * source.gauss(1, 0.03), 0.03),
                Sample(load * source.gauss(1, 0.03), 0.03),
            )
            for load in loads
        ]
        called += paired(pairs, "maximize").verdict is not Verdict.UNDECIDED
    assert called <= 25  # 5 %, the repository's own limit for equal configurations


def test_without_errors_or_with_zeros_nothing_is_said() -> None:
    sure, unknown, zero = Sample(2.0, 0.01), Sample(4.0, None), Sample(0.0, 0.01)
    assert paired([(sure, sure), (sure, unknown)], "maximize").low is None
    assert paired([(sure, zero)], "maximize").relative == -1.0
    assert paired([(zero, sure)], "maximize").verdict is Verdict.UNDECIDED
