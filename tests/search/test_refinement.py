"""What a study's trials teach its predictions: biases are found, chance is left alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.perfmodel.expected import Estimate
from search.perfmodel.refinement import LEAST_PAIRS, Pair, Refinement, Setting, refine


def estimate(value: float, half: float = 0.25) -> Estimate:
    return Estimate(value, value / (1 + half), value * (1 + half))


def pair(engine: str, running: float, tp: int, predicted: float, factor: float) -> Pair:
    return Pair(Setting(engine, running, tp), estimate(predicted), predicted * factor)


def biased(factors: dict[str, float], trials: int = 8) -> list[Pair]:
    """Trials of each engine, measured so many times what was predicted."""
    return [
        pair(engine, 2.0 ** (trial % 6), 1 << trial % 3, 10.0 + trial, factor)
        for engine, factor in factors.items()
        for trial in range(trials)
    ]


def loss(pairs: Sequence[Pair], found: Refinement) -> float:
    """Mean error of the logarithm, each trial predicted from the others."""
    return fmean(
        abs(math.log(one.measured / held.value))
        for one, held in zip(pairs, found.held_out, strict=True)
    )


def prior_loss(pairs: Sequence[Pair]) -> float:
    return fmean(abs(math.log(one.measured / one.predicted.value)) for one in pairs)


_settings = st.builds(
    Setting, st.sampled_from(["vllm", "sglang"]), st.floats(1, 512), st.sampled_from([1, 2, 8])
)
_pairs = st.lists(
    st.builds(
        Pair,
        _settings,
        st.builds(estimate, st.floats(0.1, 1e4), st.floats(0.02, 1.0)),
        st.floats(0.1, 1e4),
    ),
    max_size=14,
)


class TestBias:
    @given(st.floats(0.5, 2.0))
    def test_a_bias_of_the_study_is_recovered(self, factor: float) -> None:
        found = refine(biased({"vllm": factor}, trials=16))
        new = found.apply(Setting("vllm", 12.0, 2), estimate(40.0))
        assert new.value / 40.0 == pytest.approx(factor, rel=0.1 * abs(math.log(factor)) + 1e-9)

    def test_each_engine_has_its_own(self) -> None:
        found = refine(biased({"vllm": 1.3, "sglang": 0.8}, trials=16))
        for engine, factor in (("vllm", 1.3), ("sglang", 0.8)):
            new = found.apply(Setting(engine, 12.0, 2), estimate(40.0))
            assert new.value / 40.0 == pytest.approx(factor, rel=0.03)

    def test_an_engine_that_was_not_seen_gets_what_the_study_has_in_common(self) -> None:
        found = refine(biased({"vllm": 1.3}))
        new = found.apply(Setting("sglang", 12.0, 2), estimate(40.0))
        assert 1.1 < new.value / 40.0 < 1.3

    def test_bounds_narrow_where_trials_agree_and_hold_the_truth(self) -> None:
        found = refine(biased({"vllm": 1.2}, trials=24))
        old = estimate(40.0)
        new = found.apply(Setting("vllm", 12.0, 2), old)
        assert new.low < 48.0 < new.high
        assert new.high / new.low < old.high / old.low

    def test_bounds_widen_where_trials_lie_far_outside_them(self) -> None:
        random = Random(5)
        pairs = [
            pair("vllm", 8.0, 1, 10.0, 1.8 * math.exp(random.gauss(0, 0.6))) for _ in range(20)
        ]
        found = refine(pairs)
        assert found.corrects
        assert found.spread > 1


class TestCaution:
    @pytest.mark.parametrize("trials", range(LEAST_PAIRS))
    def test_too_few_trials_change_nothing(self, trials: int) -> None:
        pairs = biased({"vllm": 1.5}, trials)
        found = refine(pairs)
        old = estimate(40.0)
        assert not found.corrects
        assert found.apply(Setting("vllm", 8.0), old) == old
        assert found.held_out == tuple(one.predicted for one in pairs)

    @given(_pairs)
    def test_it_is_never_worse_than_the_predictions_on_trials_left_out(
        self, pairs: list[Pair]
    ) -> None:
        assert loss(pairs, refine(pairs)) <= prior_loss(pairs) + 1e-9 if pairs else True

    def test_what_is_held_out_is_what_the_others_alone_teach(self) -> None:
        random = Random(2)
        pairs = [
            pair("vllm", 8.0, 2, 10.0 + trial, 1.4 * math.exp(random.gauss(0, 0.03)))
            for trial in range(9)
        ]
        held_out = refine(pairs).held_out
        for left, held in enumerate(held_out):
            others = refine([*pairs[:left], *pairs[left + 1 :]])
            one = pairs[left]
            assert others.apply(one.setting, one.predicted).value == pytest.approx(held.value)

    def test_chance_alone_is_hardly_followed(self) -> None:
        random = Random(3)
        pairs = [
            pair("vllm", 1.0 + trial, 1, 10.0, math.exp(random.gauss(0, 0.1)))
            for trial in range(30)
        ]
        new = refine(pairs).apply(Setting("vllm", 8.0), estimate(40.0))
        assert new.value / 40.0 == pytest.approx(1.0, abs=0.05)

    def test_the_order_of_trials_makes_no_difference(self) -> None:
        pairs = biased({"vllm": 1.3, "sglang": 0.8})
        mixed = Random(1).sample(pairs, len(pairs))
        old = estimate(40.0)
        for engine in ("vllm", "sglang"):
            one = refine(pairs).apply(Setting(engine, 9.0, 4), old)
            other = refine(mixed).apply(Setting(engine, 9.0, 4), old)
            assert one.value == pytest.approx(other.value)
