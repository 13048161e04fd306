"""Domains and spaces: what they hold, how many, in which order."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.json_types import Json
from search.domains import domain_values, holds
from search.space import COUNTABLE, Choice, Dimension, FloatRange, IntRange, SearchSpace
from search.trial import Params


def test_points_vary_the_last_dimension_fastest_and_engines_slowest() -> None:
    space = SearchSpace(
        ("b", "a"),
        (
            Dimension("tp", Choice((1, 2))),
            Dimension("policy", Choice(("lpm", "fcfs")), engine="a"),
        ),
    )
    assert [(point.engine, list(point.values.values())) for point in space.points()] == [
        ("b", [1]),
        ("b", [2]),
        ("a", [1, "lpm"]),
        ("a", [1, "fcfs"]),
        ("a", [2, "lpm"]),
        ("a", [2, "fcfs"]),
    ]
    assert space.size == 6


def test_a_dimension_of_one_engine_is_not_searched_for_another() -> None:
    shared, own = Dimension("tp", Choice((1,))), Dimension("x", Choice((1,)), engine="a")
    space = SearchSpace(("a", "b"), (shared, own))
    assert space.for_engine("a") == (shared, own)
    assert space.for_engine("b") == (shared,)


def test_an_engine_without_dimensions_is_one_point() -> None:
    space = SearchSpace(("a",))
    assert (space.size, list(space.points())) == (1, [Params("a")])


def test_points_are_lazy() -> None:
    wide = Dimension("x", IntRange(0, 10**15)), Dimension("y", IntRange(0, 10**15))
    space = SearchSpace(("a",), wide)
    assert [point.values["y"] for point in islice(space.points(), 3)] == [0, 1, 2]
    assert space.size == (10**15 + 1) ** 2
    assert not space.countable


def test_a_float_range_without_step_makes_the_space_endless() -> None:
    space = SearchSpace(("a",), (Dimension("x", FloatRange(0.1, 0.9)),))
    assert space.size is None
    assert not space.countable
    with pytest.raises(ValueError, match="endless"):
        next(space.points())


def test_countable_ends_at_its_limit() -> None:
    def line(count: int) -> SearchSpace:
        return SearchSpace(("a",), (Dimension("x", IntRange(1, count)),))

    assert line(COUNTABLE).countable
    assert not line(COUNTABLE + 1).countable


def test_ranges_enumerate_their_steps_exactly() -> None:
    assert list(IntRange(4, 15, step=4).values()) == [4, 8, 12]
    assert list(IntRange(1, 5, log=True).values()) == [1, 2, 3, 4, 5]
    assert list(FloatRange(0.1, 0.75, step=0.2).values()) == [0.1, 0.3, 0.5, 0.7]
    assert list(FloatRange(0.5, 0.5).values()) == [0.5]
    assert FloatRange(0.0, 0.005, step=0.001).count == 6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Choice(()), "at least one value"),
        (lambda: IntRange(3, 2), "lower bound 3 is above the upper bound 2"),
        (lambda: IntRange(0, 2, log=True), "starts above 0, got 0"),
        (lambda: IntRange(1, 2, step=0), "step must be at least 1, got 0"),
        (lambda: IntRange(1, 9, log=True, step=2), "takes no step"),
        (lambda: FloatRange(1.0, 0.5), "above the upper bound"),
        (lambda: FloatRange(0.0, float("inf")), "must be finite"),
        (lambda: FloatRange(0.0, 1.0, log=True), "starts above 0"),
        (lambda: FloatRange(0.0, 1.0, step=0.0), "step must be above 0"),
        (lambda: FloatRange(0.1, 1.0, log=True, step=0.1), "takes no step"),
        (lambda: SearchSpace(()), "needs engines"),
        (lambda: SearchSpace(("a", "a")), "each named once"),
        (
            lambda: SearchSpace(("a",), (Dimension("x", Choice((1,)), engine="b"),)),
            "x belongs to engine 'b'",
        ),
        (
            lambda: SearchSpace(
                ("a",), (Dimension("x", Choice((1,))), Dimension("x", Choice((2,)), engine="a"))
            ),
            "a: searched twice: x",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(build: type[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_choices_tell_json_values_of_one_python_value_apart() -> None:
    domain = Choice((1, True, 1.0, "1", None, {"a": [1]}))
    assert [domain.index_of(value) for value in domain.values] == [0, 1, 2, 3, 4, 5]
    assert domain.index_of({"a": [2]}) is None


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Choice(("a", 2)), ["a", 2], ["b", 2.0, None]),
        (IntRange(2, 9, step=3), [2, 5, 8], [3, 9, 11, -1, True, 5.0, "5"]),
        (FloatRange(0.5, 1.5), [0.5, 1, 1.2], [0.4, 1.6, True, "1"]),
        (FloatRange(0.1, 0.5, step=0.1), [0.1, 0.3, 0.5], [0.15, 0.6, 0.0, False]),
    ],
)
def test_a_domain_holds_its_own_values_only(
    domain: Choice | IntRange | FloatRange, inside: list[Json], outside: list[Json]
) -> None:
    assert [holds(domain, value) for value in inside] == [True] * len(inside)
    assert [holds(domain, value) for value in outside] == [False] * len(outside)


@given(low=st.integers(-1000, 1000), span=st.integers(0, 200), step=st.integers(1, 50))
def test_indices_of_an_integer_range_go_there_and_back(low: int, span: int, step: int) -> None:
    domain = IntRange(low, low + span, step=step)
    values = list(domain_values(domain))
    assert len(values) == domain.count
    assert [domain.index_of(value) for value in values] == list(range(domain.count))


@given(
    low=st.integers(-50, 50), count=st.integers(1, 60), step=st.sampled_from([0.001, 0.1, 0.3, 2.5])
)
def test_indices_of_a_stepped_float_range_go_there_and_back(
    low: int, count: int, step: float
) -> None:
    domain = FloatRange(low / 10, low / 10 + count * step, step=step)
    values = list(domain_values(domain))
    assert len(values) == domain.count
    assert [domain.index_of(value) for value in values] == list(range(len(values)))


@pytest.mark.parametrize(
    ("values", "ordered"),
    [
        ((1, 2, 4, 8), True),
        ((0.9, 0.5, 0.1), True),
        ((1, 2), False),
        ((1, 4, 2), False),
        ((1, 1, 2), False),
        ((1, 2, "auto"), False),
        ((False, True, 2), False),
    ],
)
def test_only_listed_rising_or_falling_numbers_are_ordered(
    values: tuple[Json, ...], ordered: bool
) -> None:
    assert Choice(values).ordered is ordered


def test_whole_points_belong_to_the_space_and_partial_ones_do_not() -> None:
    space = SearchSpace(
        ("a", "b"), (Dimension("tp", Choice((1, 2))), Dimension("x", IntRange(1, 3), engine="a"))
    )
    assert space.holds(Params("a", {"x": 3, "tp": 2}))
    assert space.holds(Params("b", {"tp": 1}))
    assert not space.holds(Params("a", {"tp": 2}))
    assert not space.holds(Params("b", {"tp": 1, "x": 1}))
    assert not space.holds(Params("a", {"tp": 4, "x": 1}))
    assert not space.holds(Params("c", {"tp": 1}))


def test_column_types_join_what_the_engines_search() -> None:
    space = SearchSpace(
        ("a", "b"),
        (
            Dimension("tp", Choice((1, 2))),
            Dimension("mixed", Choice((1,)), engine="a"),
            Dimension("mixed", Choice(("1",)), engine="b"),
            Dimension("number", Choice((0.5, 1))),
            Dimension("flag", Choice((True, None))),
            Dimension("policy", Choice(("lpm",))),
            Dimension("compilation", Choice(({"mode": 3},))),
            Dimension("nothing", Choice((None,))),
            Dimension("share", FloatRange(0.1, 0.9)),
            Dimension("seqs", IntRange(1, 9)),
        ),
    )
    assert space.parameter_types() == {
        "tp": "int",
        "mixed": "json",
        "number": "float",
        "flag": "bool",
        "policy": "string",
        "compilation": "json",
        "nothing": "json",
        "share": "float",
        "seqs": "int",
    }
