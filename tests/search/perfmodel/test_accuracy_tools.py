"""What the accuracy of the performance model is judged by: quantiles, spreads, regret, ranks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.perfmodel_baselines import CONSTANT, IDEAL, baseline
from benchmarks.perfmodel_scores import (
    Errors,
    Floats,
    Ratios,
    few_pairs,
    group_weights,
    inside,
    quantile,
    rank_correlation,
    regret,
    spreads,
    weighted_quantiles,
)
from search.perfmodel.predict import predict
from search.perfmodel.question import Question
from search.perfmodel.rows import RowQuestion, read_row

NAN = float("nan")
VALUES = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=40)


def ratios(
    values: Floats, *, key: str = "vllm", group: str = "g", pairs: tuple[str, ...] = ("p", "q", "r")
) -> Ratios:
    rows = len(values)
    return Ratios(
        ttft=values,
        tpot=values,
        throughput=np.full(rows, NAN),
        key=np.array([key] * rows),
        group=np.array([group] * rows),
        pair=np.array([pairs[at % len(pairs)] for at in range(rows)]),
    )


def test_errors_are_relative_to_what_was_measured() -> None:
    found = Errors.of(np.array([110.0, 50.0, NAN, 1.0]), np.array([100.0, 100.0, 1.0, NAN]))
    assert found.n == 2
    assert found.median == pytest.approx(0.3)
    assert found.mean == pytest.approx(0.3)
    assert np.isnan(Errors.of(np.array([NAN]), np.array([1.0])).median)


@settings(deadline=None)
@given(VALUES, st.integers(1, 5))
def test_equal_weights_give_quantiles_between_the_values(values: list[float], times: int) -> None:
    array = np.array(values)
    low, middle, high = weighted_quantiles(array, np.ones(len(array)), (0.05, 0.5, 0.95))
    assert array.min() <= low <= middle <= high <= array.max()
    repeated = np.repeat(array, times)
    again = weighted_quantiles(repeated, np.full(len(repeated), 1 / times), (0.5,))
    if len(array) % 2:
        assert again[0] == pytest.approx(float(np.median(array)))


def test_a_large_group_counts_as_much_as_a_small_one() -> None:
    groups = np.array(["large"] * 98 + ["small"] * 2)
    weights = group_weights(groups)
    assert weights[groups == "large"].sum() == pytest.approx(weights[groups == "small"].sum())
    values = np.concatenate([np.linspace(1.0, 1.1, 98), [5.0, 6.0]])
    assert weighted_quantiles(values, weights, (0.95,))[0] > 5
    assert quantile([*values.tolist(), NAN], 0.95) < 1.2
    assert np.isnan(quantile([NAN], 0.5))


def test_a_spread_holds_nine_of_ten_of_its_own_rows() -> None:
    random = np.random.default_rng(3)
    many = tuple(f"pair {number}" for number in range(500))
    data = ratios(np.exp(random.normal(0.0, 0.3, 2000)), pairs=many)
    found = spreads(data, ["vllm"])
    within = inside(data, found, "tpot")
    assert within.mean() == pytest.approx(0.9, abs=0.01)
    assert np.isnan(inside(data, {"vllm": {"throughput": [0.0, 9.0]}}, "throughput")).all()


def test_a_spread_is_no_narrower_than_identical_runs_differ() -> None:
    assert spreads(ratios(np.ones(50)), ["vllm"])["vllm"]["ttft"] == [0.95, 1.05]


@pytest.mark.parametrize(
    ("rows", "pairs", "own"),
    [(40, ("p", "q", "r"), True), (39, ("p", "q", "r"), False), (80, ("p", "q"), False)],
)
def test_few_rows_or_pairs_take_the_spread_of_all(
    rows: int, pairs: tuple[str, ...], own: bool
) -> None:
    few = ratios(np.full(rows, 2.0), key="sglang", group="few", pairs=pairs)
    many = ratios(np.full(500, 0.5))
    found = spreads(Ratios.joined([few, many]), ["vllm", "sglang", "sglang/amd"])
    everybody = found["sglang/amd"]["tpot"]
    wider = few_pairs(len(set(pairs) | set(many.pair)))
    assert everybody == pytest.approx([max(0.5**wider, 0.1), min(2.0**wider, 10.0)])
    assert (found["sglang"]["tpot"] != everybody) is own
    if own:
        assert found["sglang"]["tpot"] == pytest.approx([0.95, 2.0 ** few_pairs(len(pairs))])


def test_the_fewer_pairs_the_wider() -> None:
    powers = [few_pairs(pairs) for pairs in (1, 2, 3, 5, 20, 1000)]
    assert powers == sorted(powers, reverse=True)
    assert powers[-1] == pytest.approx(1, abs=0.01)
    assert powers[2] == pytest.approx(2.05, abs=0.01)


def test_regret_is_what_the_best_of_the_tried_falls_short_of() -> None:
    predicted, measured = np.array([3.0, 2.0, 1.0]), np.array([80.0, 90.0, 100.0])
    assert regret(predicted, measured) == pytest.approx(0.2)
    assert regret(predicted, measured, top=2) == pytest.approx(0.1)
    assert regret(predicted, measured, top=5) == 0


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=20, unique=True))
def test_ranks_are_those_of_any_rising_function(values: list[float]) -> None:
    array = np.array(values)
    assert rank_correlation(array, np.exp(array)) == pytest.approx(1)
    assert rank_correlation(array, -array) == pytest.approx(-1)
    assert np.isnan(rank_correlation(array, np.ones(len(array))))


def test_the_ideal_roofline_is_quicker_than_constant_shares() -> None:
    asked = [question(model) for model in ("Qwen/Qwen3-32B", "Qwen/Qwen3-235B-A22B")]
    ideal, constant = baseline(asked, IDEAL), baseline(asked, CONSTANT)
    assert (ideal.tpot_s < constant.tpot_s).all()
    assert (ideal.ttft_s < constant.ttft_s).all()
    for said, best in zip(predict(asked), ideal.tpot_s, strict=True):
        assert best * 1e3 < said.tpot_ms


def question(model: str) -> Question:
    found = read_row({
        "source": "other", "engine": "vllm", "model": model, "quant": "bf16", "gpu": "H100-SXM",
        "num_gpus": "8", "tp": "8", "isl": "1024", "osl": "128", "concurrency_or_max": "64",
    })  # fmt: skip
    assert isinstance(found, RowQuestion), found
    return found.question


@pytest.mark.parametrize(
    ("program", "folder"), [("perfmodel_accuracy", ""), ("perfmodel_fit", "/nowhere")]
)
def test_missing_measurements_end_with_a_line_that_says_so(program: str, folder: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}"],
        env={"SERVETUNE_FACTS": folder}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "SERVETUNE_FACTS" in ran.stderr
    assert "groundtruth.csv.gz" in ran.stderr
    assert "Traceback" not in ran.stderr
