"""Lengths and times: distributions as asked for, known bounds, stable beginnings."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.json_types import Json
from runtimes.workloads.draws import of_logarithm
from runtimes.workloads.lengths import DISTRIBUTIONS, TURNS, Lengths, Seconds
from tests.runtimes.workload_files import length_file

WHOLE = st.integers(1, 5000)
MOMENTS: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {"mean": st.floats(10, 5000), "stddev": st.floats(0, 2000)},
    optional={"min": st.integers(1, 10), "max": st.integers(20_000, 30_000)},
)


def one_of(name: str, others: st.SearchStrategy[dict[str, Json]]) -> st.SearchStrategy[Json]:
    return others.map(lambda keys: {"distribution": name, **keys})


SIMPLE: st.SearchStrategy[Json] = st.one_of(
    WHOLE,
    MOMENTS,
    one_of("lognormal", MOMENTS),
    one_of("constant", st.fixed_dictionaries({"value": WHOLE})),
    one_of("uniform", st.tuples(WHOLE, WHOLE).map(lambda two: {"min": min(two), "max": max(two)})),
    one_of(
        "empirical",
        st.lists(st.tuples(WHOLE, st.floats(0.1, 9)), min_size=1, max_size=5).map(
            lambda pairs: {"values": [v for v, _ in pairs], "weights": [w for _, w in pairs]}
        ),
    ),
)
ANY: st.SearchStrategy[Json] = st.one_of(
    SIMPLE,
    one_of(
        "mixture",
        st.lists(st.tuples(st.floats(0.1, 9), SIMPLE), min_size=1, max_size=3).map(
            lambda parts: {"components": [_weighted(weight, part) for weight, part in parts]}
        ),
    ),
)


def _weighted(weight: float, part: Json) -> Json:
    if isinstance(part, dict):
        return {"weight": weight, **part}
    return {"weight": weight, "distribution": "constant", "value": part}


def drawn(value: Json, count: int, seed: int = 3) -> list[int]:
    lengths = Lengths.parse("input_tokens", value)
    return [int(length) for length in lengths.draw(np.random.default_rng(seed), count)]


@given(value=ANY, seed=st.integers(0, 2**32), count=st.integers(0, 40), more=st.integers(0, 40))
def test_more_draws_begin_with_the_same_within_known_bounds(
    value: Json, seed: int, count: int, more: int
) -> None:
    lengths = Lengths.parse("input_tokens", value)
    found = drawn(value, count + more, seed)
    assert found[:count] == drawn(value, count, seed)
    assert 1 <= lengths.shortest <= lengths.longest
    assert all(lengths.shortest <= length <= lengths.longest for length in found)
    assert hash(lengths) == hash(Lengths.parse("input_tokens", value))


def test_every_distribution_is_tried() -> None:
    assert DISTRIBUTIONS == (
        "normal", "lognormal", "uniform", "constant", "empirical", "mixture",
    )  # fmt: skip


def test_a_lognormal_has_the_mean_and_the_spread_of_the_lengths_themselves() -> None:
    found = np.array(drawn({"distribution": "lognormal", "mean": 800, "stddev": 600}, 200_000))
    assert found.mean() == pytest.approx(800, rel=0.02)
    assert found.std() == pytest.approx(600, rel=0.05)
    assert np.log(found).std() == pytest.approx(of_logarithm(800, 600)[1], rel=0.02)


def test_a_uniform_has_every_length_between_its_bounds_equally_often() -> None:
    found = drawn({"distribution": "uniform", "min": 3, "max": 6}, 40_000)
    counts = [found.count(length) / 40_000 for length in range(3, 7)]
    assert counts == pytest.approx([0.25] * 4, abs=0.01)


def test_an_empirical_has_its_values_as_often_as_they_weigh() -> None:
    weighted: Json = {"distribution": "empirical", "values": [7, 90, 7], "weights": [1, 1, 2]}
    found = drawn(weighted, 20_000)
    assert set(found) == {7, 90}
    assert found.count(7) / 20_000 == pytest.approx(0.75, abs=0.02)


def test_an_empirical_reads_a_column_and_leaves_zeros_out(tmp_path: Path) -> None:
    path = length_file(tmp_path, [(5, 50), (0, 60), (9, 70), (9, 0)])
    column: dict[str, Json] = {"distribution": "empirical", "file": str(path)}
    found = drawn({**column, "column": "input_length"}, 9000)
    assert set(found) == {5, 9}
    assert found.count(9) / 9000 == pytest.approx(2 / 3, abs=0.03)
    assert set(drawn({**column, "column": "output_length"}, 400)) == {50, 60, 70}
    with pytest.raises(ValueError, match=r"^input_tokens.file: .*has 2 columns; name one"):
        drawn(column, 1)
    with pytest.raises(ValueError, match=r"^input_tokens.file: .*no column 'x'; its columns: inp"):
        drawn({**column, "column": "x"}, 1)


def test_a_mixture_has_its_parts_as_often_as_they_weigh() -> None:
    parts: list[Json] = [
        {"weight": 3, "mean": 100, "stddev": 5},
        {"weight": 1, "distribution": "uniform", "min": 1000, "max": 1100},
    ]
    found = np.array(drawn({"distribution": "mixture", "components": parts}, 40_000))
    assert (found < 500).mean() == pytest.approx(0.75, abs=0.01)
    assert found[found < 500].std() == pytest.approx(5, rel=0.05)
    assert Lengths.parse("x", {"distribution": "mixture", "components": parts}).longest == 1100


def test_times_are_no_whole_numbers_and_may_be_nothing() -> None:
    random = np.random.default_rng(1)
    assert Seconds.parse("think_s", 0).draw(random, 2).tolist() == [0, 0]
    assert Seconds.parse("think_s", 0.25).draw(random, 1).tolist() == [0.25]
    found = Seconds.parse("think_s", {"mean": 0.5, "stddev": 2}).draw(random, 2000)
    assert found.min() == 0
    assert found.max() <= 8.5
    assert len(set(found.tolist())) > 1000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"distribution": "zipf"}, "t.distribution: must be one of normal, lognormal, uniform"),
        (
            {"distribution": "lognormal", "mean": 5},
            "t.stddev: must be a number of tokens, got None",
        ),
        ({"distribution": "uniform", "min": 5}, "t.max: must be a whole number of at least 1"),
        ({"distribution": "uniform", "min": 5, "max": 4}, "t.max: 4 is below the minimum of 5"),
        ({"distribution": "uniform", "mean": 5}, "t.mean: unknown; known: min, max"),
        ({"distribution": "constant"}, "t.value: must be a whole number of at least 1, got None"),
        ({"distribution": "empirical"}, "t: must have either `file` or `values`"),
        ({"distribution": "empirical", "values": []}, "t.values: must be a list"),
        ({"distribution": "empirical", "values": [3, 0]}, "t.values[1]: must be a whole number"),
        (
            {"distribution": "empirical", "values": [3, 4], "weights": [1]},
            "t.weights: must be as many as the 2 values, got 1",
        ),
        (
            {"distribution": "empirical", "values": [3], "weights": [0]},
            "t.weights[0]: must be a positive number, got 0",
        ),
        (
            {"distribution": "empirical", "values": [3], "column": "x"},
            "t.column: goes with `file`, got 'x'",
        ),
        (
            {"distribution": "empirical", "file": "nowhere.csv"},
            "t.file: no such file; relative paths start from",
        ),
        (
            {"distribution": "empirical", "file": "/dev/zero"},
            "t.file: must be a regular file and is a device, a pipe or a socket, got '/dev/zero'",
        ),
        ({"distribution": "mixture", "components": 3}, "t.components: must be a list"),
        ({"distribution": "mixture", "components": [4]}, "t.components[0]: must be a mapping"),
        (
            {"distribution": "mixture", "components": [{"mean": 4, "stddev": 1}]},
            "t.components[0].weight: must be a positive number, got None",
        ),
        (
            {"distribution": "mixture", "components": [{"weight": 1, "mean": 4}]},
            "t.components[0].stddev: must be a number of tokens, got None",
        ),
        ({"mean": math.inf, "stddev": 1}, "t.mean: must be a number of tokens, got inf"),
        ({"mean": 10**400, "stddev": 1}, "t.mean: must be a number of tokens, got 1000"),
    ],
)
def test_wrong_distributions_are_refused_by_name(value: Json, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Lengths.parse("t", value)


def test_other_units_are_told_by_name() -> None:
    with pytest.raises(ValueError, match=r"^turns: must be a whole number of turns or a mapping"):
        Lengths.parse("turns", "two", TURNS)
    with pytest.raises(ValueError, match=r"^turns: must be at least 1 turn, got 0"):
        Lengths.parse("turns", 0, TURNS)
    with pytest.raises(ValueError, match=r"^think_s: must be at least 0 seconds, got -1"):
        Seconds.parse("think_s", -1)
