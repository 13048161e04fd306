"""Uniform points."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from search.domains import Domain, holds
from search.samplers.random import uniform_point, uniform_value
from search.space import Choice, Dimension, FloatRange, IntRange, SearchSpace

_DOMAINS: list[Domain] = [
    Choice(("a", None, 3)),
    IntRange(5, 9),
    IntRange(2, 30, step=7),
    IntRange(1, 3, log=True),
    IntRange(1, 10**9, log=True),
    IntRange(6, 6, log=True),
    FloatRange(-1.0, 1.0),
    FloatRange(1e-6, 1.0, log=True),
    FloatRange(0.1, 0.9, step=0.2),
    FloatRange(0.3, 0.3, log=True),
]


@given(domain=st.sampled_from(_DOMAINS), seed=st.integers(0, 2**32 - 1))
def test_drawn_values_are_the_domains(domain: Domain, seed: int) -> None:
    assert holds(domain, uniform_value(domain, Random(seed)))


def test_log_ranges_are_even_over_orders_of_magnitude() -> None:
    rng = Random(3)
    digits = Counter(len(str(uniform_value(IntRange(1, 9999, log=True), rng))) for _ in range(4000))
    # Each decade holds a quarter; the first a little more, as 1 owns the interval from 0.5.
    assert all(800 < digits[count] < 1400 for count in (1, 2, 3, 4))


def test_short_ranges_reach_both_ends() -> None:
    rng = Random(3)
    for domain in (IntRange(1, 3), IntRange(1, 3, log=True), Choice((1, 2, 3))):
        drawn = Counter(uniform_value(domain, rng) for _ in range(600))
        assert set(drawn) == {1, 2, 3}


def test_engines_are_equally_likely_however_many_points_they_have() -> None:
    space = SearchSpace(("a", "b"), (Dimension("x", IntRange(1, 1000), engine="a"),))
    rng = Random(5)
    drawn = Counter(uniform_point(space, rng).engine for _ in range(1000))
    assert 400 < drawn["a"] < 600
