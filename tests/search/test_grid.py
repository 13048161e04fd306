"""The grid, and the sampler chosen for small spaces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtimes.errors import UnknownNameError, UserError
from search.admission import Admission
from search.constraints import Constraint
from search.expansion import expand
from search.goals import Goal
from search.samplers.base import Sampler, create_sampler
from search.space import Choice, Dimension, FloatRange, IntRange, SearchSpace
from search.trial import Completed, Params

Admit = Callable[..., Admission]
GOALS = (Goal("goodput", "maximize"),)

SPACE = SearchSpace(
    ("toy", "toy-other"),
    (
        Dimension("tp", Choice((1, 2, 3, 4))),
        Dimension("seqs", Choice((8, None, 8, 64)), engine="toy"),
    ),
    (Constraint.parse("tp < 4 or seqs == 64"),),
)


def sampler_of(name: str, space: SearchSpace, admission: Admission, seed: int = 7) -> Sampler:
    return create_sampler(name, space=space, admission=admission, goals=GOALS, seed=seed)


def test_the_grid_is_the_expansion_in_order(admit: Admit) -> None:
    admission = admit(SPACE)
    grid = sampler_of("grid", SPACE, admission)
    points = expand(SPACE, admission).points
    assert [grid.ask(number) for number in range(len(points))] == list(points)
    assert grid.ask(len(points)) is None


def test_results_and_seed_change_nothing(admit: Admit) -> None:
    told = sampler_of("grid", SPACE, admit(SPACE), seed=1)
    silent = sampler_of("grid", SPACE, admit(SPACE), seed=2)
    for number in range(6):
        params = told.ask(number)
        assert params is not None
        assert params == silent.ask(number)
        told.tell(number, params, Completed({"goodput": float(number)}))


def test_a_configuration_chosen_elsewhere_is_left_out(admit: Admit) -> None:
    admission = admit(SPACE)
    grid = sampler_of("grid", SPACE, admission)
    points = expand(SPACE, admission).points
    grid.mark_seen(admission.config_id(points[1]))
    assert [grid.ask(1), grid.ask(2)] == [points[0], points[2]]


def test_a_grid_far_larger_than_the_budget_starts_at_once(admit: Admit) -> None:
    space = SearchSpace(
        ("toy",), (Dimension("x", IntRange(1, 10**9)), Dimension("y", IntRange(1, 10**9)))
    )
    assert sampler_of("grid", space, admit(space)).ask(0) == Params("toy", {"x": 1, "y": 1})


def test_an_endless_space_has_no_grid(admit: Admit) -> None:
    space = SearchSpace(("toy",), (Dimension("share", FloatRange(0.1, 0.9)),))
    with pytest.raises(UserError, match="share is a float range without a step"):
        sampler_of("grid", space, admit(space))


@pytest.mark.parametrize(
    ("domain", "chosen"),
    [(IntRange(1, 32), "grid"), (IntRange(1, 33), "tpe"), (FloatRange(0.1, 0.9), "tpe")],
)
def test_auto_tries_everything_in_a_small_space_and_learns_in_a_large_one(
    admit: Admit, domain: IntRange | FloatRange, chosen: str
) -> None:
    space = SearchSpace(("toy",), (Dimension("x", domain),))
    assert sampler_of("auto", space, admit(space)).name == chosen


def test_an_unknown_sampler_is_answered_with_the_nearest(admit: Admit) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        sampler_of("ramdom", SPACE, admit(SPACE))
