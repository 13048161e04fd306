"""Counting a space, and the baseline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from search.admission import Admission
from search.constraints import Constraint
from search.expansion import Excluded, Expansion, baseline, expand, sampled_exclusions
from search.space import Choice, Dimension, FloatRange, IntRange, SearchSpace
from search.trial import Params

Admit = Callable[..., Admission]

SPACE = SearchSpace(
    ("toy",),
    (
        Dimension("tp", Choice((1, 2, 3, 8))),
        Dimension("pp", Choice((1, 2))),
        Dimension("seqs", Choice((8, None))),
        Dimension("size", Choice((None, 8, 8))),
    ),
    (Constraint.parse("seqs > tp"),),
)


def test_every_point_is_valid_duplicate_or_excluded(admit: Admit) -> None:
    expansion = expand(SPACE, admit(SPACE))
    # 48 points; seqs=8 with tp=8 breaks the rule (6 of them); tp=3 is refused (12);
    # tp=8, pp=2 without seqs needs 16 GPUs (3). A third of the remaining 27 say size=8 twice.
    assert (expansion.valid, expansion.duplicates) == (18, 9)
    assert expansion.excluded == {
        "constraint `seqs > tp` is false for seqs=8, tp=8": 6,
        "32 heads cannot be shared by tp=3 (pp=1)": 12,
        "needs 16 GPUs, the cluster has 8": 3,
    }
    assert len(expansion.points) == 18
    assert expansion.points[0] == Params("toy", {"tp": 1, "pp": 1, "seqs": 8, "size": None})


@pytest.mark.parametrize("limit", [0, 5])
def test_a_limit_bounds_what_is_kept_and_not_what_is_counted(admit: Admit, limit: int) -> None:
    whole, limited = expand(SPACE, admit(SPACE)), expand(SPACE, admit(SPACE), limit=limit)
    assert limited.points == whole.points[:limit]
    assert (limited.valid, limited.duplicates) == (whole.valid, whole.duplicates)


@pytest.mark.parametrize(("limit", "kinds"), [(None, 5), (1, 1), (3, 3)])
def test_each_layout_is_kept_once_whether_or_not_its_points_are(
    admit: Admit, limit: int | None, kinds: int
) -> None:
    found = expand(SPACE, admit(SPACE), limit=limit).kinds
    layouts = [(params.values["tp"], params.values["pp"]) for params in found]
    assert layouts == [(1, 1), (1, 2), (2, 1), (2, 2), (8, 1)][:kinds]


def test_the_defaults_of_a_million_layouts_are_found_in_the_first_of_them(admit: Admit) -> None:
    degrees = Choice(tuple(range(1, 3001)))
    space = SearchSpace(("toy",), (Dimension("tp", degrees), Dimension("pp", degrees)))
    assert baseline(space, admit(space), "toy") == Params("toy", {"tp": 1, "pp": 1})


@pytest.mark.parametrize("domain", [FloatRange(0.1, 0.2), IntRange(1, 10**9)])
def test_spaces_too_large_to_count_are_not_counted(
    admit: Admit, domain: FloatRange | IntRange
) -> None:
    space = SearchSpace(("toy",), (Dimension("x", domain),))
    assert expand(space, admit(space)) == Expansion(None, 0, (), ())


def test_a_large_space_is_counted_whole(admit: Admit) -> None:
    space = SearchSpace(
        ("toy", "toy-other"),
        (Dimension("x", IntRange(1, 100)), Dimension("y", IntRange(1, 100))),
        (Constraint.parse("x <= y"),),
    )
    expansion = expand(space, admit(space), limit=1)
    assert expansion.valid == 2 * 5050
    assert expansion.excluded == {"constraint `x <= y` is false for x=2, y=1": 2 * 4950}


def test_equal_words_of_two_engines_are_one_reason(admit: Admit) -> None:
    space = SearchSpace(("toy", "toy-other"), (Dimension("tp", Choice((1, 3))),))
    assert expand(space, admit(space)).excluded == {"32 heads cannot be shared by tp=3 (pp=1)": 2}


def test_what_is_excluded_is_counted_by_engine_and_rule(admit: Admit) -> None:
    space = SearchSpace(
        ("toy", "toy-other"),
        (Dimension("tp", Choice((1, 2, 3))),),
        (Constraint.parse("tp != 2"),),
    )
    words = "32 heads cannot be shared by tp=3 (pp=1)"
    rule = "constraint `tp != 2`"
    assert expand(space, admit(space)).rules == (
        Excluded(rule, "", f"{rule} is false for tp=2", 2),
        Excluded("heads_shared", "toy", words, 1),
        Excluded("heads_shared", "toy-other", words, 1),
    )


def test_reasons_of_a_space_that_is_not_counted_are_drawn(admit: Admit) -> None:
    space = SearchSpace(
        ("toy",),
        (Dimension("x", FloatRange(0.0, 1.0)), Dimension("tp", Choice((3,)))),
        (Constraint.parse("x < 0.5"),),
    )
    drawn = sampled_exclusions(space, admit(space), count=100, seed=1)
    assert drawn == sampled_exclusions(space, admit(space), count=100, seed=1)
    assert {rule.rule for rule in drawn} == {"constraint `x < 0.5`", "heads_shared"}
    assert sum(rule.count for rule in drawn) == 100


def test_combinations_are_counted_and_may_be_duplicates_and_excluded(admit: Admit) -> None:
    space = SearchSpace(
        ("toy",),
        (Dimension("tp", Choice((1, 2))),),
        combinations=(
            Params("toy", {"tp": 2}), Params("toy", {"tp": 3}), Params("toy", {"x": 1}),
        ),
    )  # fmt: skip
    expansion = expand(space, admit(space))
    assert (space.size, expansion.valid, expansion.duplicates) == (5, 3, 1)
    assert [rule.count for rule in expansion.rules] == [1]
    assert expansion.points[0] == Params("toy", {"tp": 2})


def test_the_baseline_may_have_the_layout_of_a_combination(admit: Admit) -> None:
    space = SearchSpace(
        ("toy",),
        (Dimension("tp", Choice((3,))),),
        combinations=(Params("toy", {"tp": 4, "x": 1}), Params("toy", {"tp": 2, "x": 1})),
        product=False,
    )
    assert baseline(space, admit(space), "toy") == Params("toy", {"tp": 2})


def test_the_baseline_is_no_layout_that_only_a_tuner_knows(admit: Admit) -> None:
    special, plain = Params("toy", {"dp": 4, "ep": 4}), Params("toy", {"tp": 4})
    refused = Dimension("tp", Choice((3,)))
    space = SearchSpace(("toy",), (refused,), combinations=(special, plain), product=False)
    assert baseline(space, admit(space), "toy") == plain


def test_the_baseline_is_the_smallest_layout_with_everything_else_left_out(admit: Admit) -> None:
    assert baseline(SPACE, admit(SPACE), "toy") == Params("toy", {"tp": 1, "pp": 1})


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("gpus >= 3", {"tp": 1, "pp": 2, "dp": 2}),
        ("gpus >= 3 and dp == 1", {"tp": 2, "pp": 2, "dp": 1}),
        ("tp >= 3", {"tp": 4, "pp": 1, "dp": 1}),
        ("gpus > 16", None),
    ],
)
def test_the_baseline_is_admissible_and_small_in_gpus_then_tp_then_pp(
    admit: Admit, constraint: str, expected: dict[str, int] | None
) -> None:
    space = SearchSpace(
        ("toy",),
        (
            Dimension("tp", Choice((4, 3, 2, 1))),
            Dimension("pp", Choice((2, 1))),
            Dimension("dp", IntRange(1, 2)),
            Dimension("seqs", IntRange(1, 64)),
        ),
        (Constraint.parse(constraint), Constraint.parse("seqs > 100")),
    )
    found = baseline(space, admit(space, gpus=16), "toy")
    assert found == (None if expected is None else Params("toy", expected))


def test_the_baseline_of_a_space_without_layouts_is_one_gpu(admit: Admit) -> None:
    space = SearchSpace(("toy", "toy-other"), (Dimension("x", FloatRange(0.1, 0.2)),))
    assert baseline(space, admit(space), "toy-other") == Params("toy-other", {})
