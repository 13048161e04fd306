"""The predicted best come first: engines take turns, layouts before repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from search.admission import Admission
from search.goals import Goal
from search.perfmodel.study import Forecast
from search.perfmodel.verdict import Verdict
from search.samplers.base import SAMPLERS, create_sampler
from search.space import Choice, Dimension, FloatRange, SearchSpace
from search.trial import Params
from search.warm_start import Rated, predicted_best, usual_count
from tests.contracts.test_sampler_contract import GOALS, SPACES, admission_of, supports

MORE = Goal("output_throughput_per_gpu", "maximize")


@dataclass(frozen=True)
class _Figures:
    output_throughput_per_gpu: float


@dataclass(frozen=True)
class _Made:
    """As much of a forecast as is read: what the model can tell apart is the layout and `seqs`."""

    configuration: object
    prediction: _Figures
    verdict: Verdict


SPACE = SearchSpace(
    ("one", "two"),
    (
        Dimension("tp", Choice((1, 2, 4))),
        Dimension("seqs", Choice((8, 64))),
        Dimension("unseen", Choice(("a", "b"))),
    ),
)


def rated(params: Params, value: float, excess: float = -1.0) -> Rated:
    layout = ParallelLayout(tp=cast(int, params.values.get("tp", 1)))
    made = _Made((layout, params.values.get("seqs")), _Figures(value), Verdict(excess, excess))
    config = EngineConfig(params.engine, "m", layout=layout)
    return Rated(params, config, cast(Forecast, made), value)


def by_value(points: Sequence[Params]) -> list[Rated]:
    """Engine `one` is better by a third, few ranks and many sequences are better."""
    found = []
    for params in points:
        tp, seqs = cast(int, params.values["tp"]), cast(int, params.values["seqs"])
        factor = 4 / 3 if params.engine == "one" else 1.0
        found.append(rated(params, factor * (100 - tp + seqs / 64)))
    return found


def admission(space: SearchSpace) -> Admission:
    return admission_of(space)


def chosen(count: int, space: SearchSpace = SPACE) -> list[tuple[str, object, object]]:
    found = predicted_best(space, admission(space), MORE, rate=by_value, seed=1, count=count)
    return [(one.engine, one.values["tp"], one.values["seqs"]) for one in found]


def test_engines_take_turns_and_layouts_come_before_repetitions() -> None:
    assert chosen(8) == [
        *(("one", 1, 64), ("two", 1, 64), ("one", 2, 64), ("two", 2, 64)),
        *(("one", 4, 64), ("two", 4, 64), ("one", 1, 8), ("two", 1, 8)),
    ]


def test_points_that_the_model_cannot_tell_apart_count_once() -> None:
    assert len(chosen(100)) == 12  # of 24 points


def test_what_breaks_the_limits_waits_for_what_meets_them() -> None:
    def rate(points: Sequence[Params]) -> list[Rated]:
        return [rated(one, 100.0, excess=0.5 if one.values["tp"] == 1 else -0.1) for one in points]

    found = predicted_best(SPACE, admission(SPACE), MORE, rate=rate, seed=1, count=12)
    assert [one.values["tp"] == 1 for one in found] == [False] * 8 + [True] * 4


def test_a_layout_that_is_far_behind_waits() -> None:
    def rate(points: Sequence[Params]) -> list[Rated]:
        return [rated(one, 10.0 if one.values["tp"] == 1 else 100.0) for one in points]

    found = predicted_best(SPACE, admission(SPACE), MORE, rate=rate, seed=1, count=8)
    assert all(one.values["tp"] != 1 for one in found)


def test_what_may_not_be_launched_and_what_is_not_predicted_is_left_out() -> None:
    space = SearchSpace(("one",), (Dimension("tp", Choice((2, 8))), *SPACE.dimensions[1:]))
    found = predicted_best(
        space, admission(space), MORE,
        rate=lambda points: by_value([one for one in points if one.values["seqs"] == 8]),
        seed=1, count=9,
    )  # fmt: skip
    assert [dict(one.values) for one in found] == [{"tp": 2, "seqs": 8, "unseen": "a"}]


def test_an_endless_space_is_drawn_from_the_same_way_each_time() -> None:
    endless = SearchSpace(
        SPACE.engines, (*SPACE.dimensions, Dimension("share", FloatRange(0.1, 0.9)))
    )
    first, second = (
        predicted_best(endless, admission(endless), MORE, rate=by_value, seed=1, count=4)
        for _ in range(2)
    )
    assert first == second
    other = predicted_best(endless, admission(endless), MORE, rate=by_value, seed=2, count=4)
    assert first != other
    assert all(endless.holds(params) for params in first)


@given(st.integers(0, 10_000))
def test_a_fifth_of_the_trials_at_least_three_and_never_more_than_there_are(trials: int) -> None:
    count = usual_count(trials)
    assert count <= trials
    assert count == trials or count >= max(3, trials / 5)
    assert count <= max(3, trials / 5 + 1)


CASES = [
    pytest.param(name, space, id=f"{name}-{label}")
    for name in SAMPLERS
    for label, space in SPACES.items()
    if supports(name, space) and name != "grid"
]


@pytest.mark.parametrize(("name", "space"), CASES)
class TestLeading:
    def test_what_leads_comes_after_the_combinations_each_configuration_once(
        self, name: str, space: SearchSpace
    ) -> None:
        asked = 0

        def choose() -> list[Params]:
            nonlocal asked
            asked += 1
            return lead

        lead = [Params("two", {"tp": 1, "pp": 2}), *self._some_points(space)]
        sampler = create_sampler(
            name, space=space, admission=admission_of(space), goals=GOALS, seed=3
        )
        sampler.lead_with(choose)
        proposed = [sampler.ask(number) for number in range(8)]
        if sampler.name == "grid":
            assert asked == 0
            return
        assert asked == 1
        admit = admission_of(space)
        combined = [one for one in space.combinations if admit.check(one) is None]
        expected: list[Params] = []
        seen: set[str] = set()
        for one in [*combined, *lead]:
            if admit.check(one) is None and admit.config_id(one) not in seen:
                seen.add(admit.config_id(one))
                expected.append(one)
        assert proposed[: len(expected)] == expected

    def test_a_restored_sampler_goes_on_in_the_same_order(
        self, name: str, space: SearchSpace
    ) -> None:
        lead = self._some_points(space)

        def build() -> list[Params | None]:
            sampler = create_sampler(
                name, space=space, admission=admission_of(space), goals=GOALS, seed=3
            )
            sampler.lead_with(lambda: lead)
            for number, params in enumerate(before):
                sampler.restore(number, params, None)
            return [sampler.ask(number) for number in range(len(before), 9)]

        before: list[Params] = []
        whole = build()
        before = [params for params in whole[:3] if params is not None]
        assert build() == whole[3:]

    def _some_points(self, space: SearchSpace) -> list[Params]:
        admit = admission_of(space)
        other = create_sampler("random", space=space, admission=admit, goals=GOALS, seed=9)
        asked = [other.ask(number) for number in range(6)]
        return [params for params in asked if params is not None]
