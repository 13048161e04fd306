"""Domains and spaces: what they hold, how many, in which order."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.errors import UserError
from runtimes.json_types import Json
from search.constraints import Condition
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


# --- conditions and combinations -----------------------------------------------------------------


def waits(name: str, domain: Choice | IntRange, when: str) -> Dimension:
    return Dimension(name, domain, when=Condition.parse(when))


CONDITIONAL = SearchSpace(
    ("a",),
    (
        Dimension("tp", Choice((1, 2))),
        waits("backend", Choice(("x", "y")), "tp > 1"),
        waits("size", IntRange(1, 3), "backend == 'y'"),
        Dimension("seqs", Choice((8, 16))),
    ),
)


def test_a_dimension_whose_condition_fails_is_absent() -> None:
    points = [dict(point.values) for point in CONDITIONAL.points()]
    assert points == [
        {"tp": 1, "seqs": 8},
        {"tp": 1, "seqs": 16},
        {"tp": 2, "backend": "x", "seqs": 8},
        {"tp": 2, "backend": "x", "seqs": 16},
        *(
            {"tp": 2, "backend": "y", "size": size, "seqs": seqs}
            for size in (1, 2, 3)
            for seqs in (8, 16)
        ),
    ]
    assert CONDITIONAL.size == len(points) == 10


def test_a_point_holds_what_its_conditions_ask_for_and_nothing_else() -> None:
    assert all(CONDITIONAL.holds(point) for point in CONDITIONAL.points())
    others: list[dict[str, Json]] = [
        {"tp": 1, "backend": "x", "seqs": 8},
        {"tp": 2, "seqs": 8},
        {"tp": 2, "backend": "x", "size": 1, "seqs": 8},
        {"tp": 2, "backend": "y", "size": 4, "seqs": 8},
    ]
    for values in others:
        assert not CONDITIONAL.holds(Params("a", values)), values


def test_a_preset_replaces_the_degrees_beside_it() -> None:
    space = SearchSpace(
        ("a",),
        (
            Dimension("parallel.preset", Choice(("balanced", None))),
            Dimension("tp", Choice((1, 2)), replaced_by="parallel.preset"),
        ),
    )
    assert [dict(point.values) for point in space.points()] == [
        {"parallel.preset": "balanced"},
        {"parallel.preset": None, "tp": 1},
        {"parallel.preset": None, "tp": 2},
    ]
    assert space.size == 3
    assert not space.holds(Params("a", {"parallel.preset": "balanced", "tp": 1}))


def test_a_condition_reads_what_is_known_of_the_point_so_far() -> None:
    asked: list[Params] = []

    def known(params: Params) -> dict[str, Json]:
        asked.append(params)
        return {"gpus": 4 if params.values["tp"] == 2 else 1}

    space = SearchSpace(
        ("a",),
        (Dimension("tp", Choice((1, 2))), waits("overlap", Choice((True,)), "gpus == 4")),
        known=known,
    )
    assert [dict(point.values) for point in space.points()] == [
        {"tp": 1},
        {"tp": 2, "overlap": True},
    ]
    assert asked[:2] == [Params("a", {"tp": 1}), Params("a", {"tp": 2})]


def test_a_condition_about_what_has_no_value_does_not_hold() -> None:
    space = SearchSpace(
        ("a",),
        (Dimension("seqs", Choice((8, None))), waits("x", Choice((1,)), "seqs >= 0 or missing")),
    )
    assert [dict(point.values) for point in space.points()] == [{"seqs": 8}, {"seqs": None}]


def test_a_condition_without_a_truth_value_is_the_users_error() -> None:
    space = SearchSpace(
        ("a",), (Dimension("kind", Choice(("x",))), waits("x", Choice((1,)), "kind > 3"))
    )
    with pytest.raises(UserError, match="x: condition `kind > 3` cannot be decided for kind='x'"):
        list(space.points())


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (waits("x", Choice((1,)), "y == 1"), Dimension("y", Choice((1,))), "waits for y"),
        (waits("x", Choice((1,)), "x == 1"), Dimension("y", Choice((1,))), "waits for x"),
        (waits("x", Choice((1,)), "gpus > 1"), Dimension("tp", Choice((1,))), "waits for tp"),
        (Dimension("x", Choice((1,)), replaced_by="y"), Dimension("y", Choice((1,))), "for y"),
    ],
)
def test_a_condition_reads_only_what_comes_before(
    first: Dimension, second: Dimension, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSpace(("a",), (first, second))


def test_a_conditional_space_is_counted_without_walking_through_all_of_it() -> None:
    space = SearchSpace(
        ("a",),
        (
            Dimension("tp", Choice((1, 2))),
            waits("x", IntRange(1, 10**9), "tp > 1"),
            Dimension("y", IntRange(1, 1000)),
        ),
    )
    assert space.size == (1 + 10**9) * 1000
    assert not space.countable


def test_a_space_is_at_most_as_large_as_when_every_condition_holds() -> None:
    space = SearchSpace(
        ("a",),
        (Dimension("x", IntRange(1, COUNTABLE + 1)), waits("y", Choice((1, 2)), "x < 3")),
    )
    assert space.size == 2 * (COUNTABLE + 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=3),
)
def test_the_size_is_the_number_of_points(
    counts: list[int], waiting: list[tuple[int, int]]
) -> None:
    dimensions = [
        Dimension(f"d{index}", Choice(tuple(range(count)))) for index, count in enumerate(counts)
    ]
    for number, (reads, value) in enumerate(waiting):
        read = dimensions[reads % len(dimensions)].name
        dimensions.append(waits(f"w{number}", Choice((0, 1)), f"{read} == {value}"))
    space = SearchSpace(("a", "b"), tuple(dimensions), combinations=(Params("a", {"other": 1}),))
    points = list(space.points())
    assert space.size == len(points)
    assert len({point.key for point in points}) == len(points)
    assert all(space.holds(point) for point in points)


def test_combinations_come_first_and_may_stand_alone() -> None:
    own = (Params("a", {"x": 1, "only-here": "v"}), Params("a", {"x": 9}))
    dimensions = (Dimension("x", Choice((1, 2))),)
    both = SearchSpace(("a",), dimensions, combinations=own)
    assert list(both.points()) == [*own, Params("a", {"x": 1}), Params("a", {"x": 2})]
    assert both.size == 4
    assert both.holds(own[1])
    assert not both.product_holds(own[1])
    alone = SearchSpace(("a",), dimensions, combinations=own, product=False)
    assert list(alone.points()) == list(own)
    assert alone.size == 2
    assert not alone.holds(Params("a", {"x": 2}))
    assert both.parameter_types() == {"x": "int", "only-here": "string"}
