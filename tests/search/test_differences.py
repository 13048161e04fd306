"""Differences are found where they are, and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.measurement import Interval, Measurement
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.workloads.base import WORKLOADS, Prompt, WorkloadContext
from search.analysis.differences import (
    NAMED_DIFFERENCE,
    Difference,
    Sample,
    Verdict,
    compare,
    sample,
    ties,
)
from search.objectives.base import OBJECTIVES
from tests.runtimes.made_up import measurement
from tests.runtimes.virtual_engine import VirtualEngine, resolved

PAIRS = 30
REQUESTS = 500
LOADS: dict[str, Load] = {
    "closed": ConcurrencyLoad(32, REQUESTS),
    "open": PoissonLoad(12.0, REQUESTS // 2),
}


@cache
def prompts() -> Sequence[Prompt]:
    """The same in every trial, as in a study."""
    settings = {
        "input_tokens": {"mean": 512, "stddev": 128},
        "output_tokens": {"mean": 64, "stddev": 16},
    }
    context = WorkloadContext(vocab=128_256, seed=7)
    workload = WORKLOADS.get("synthetic").from_settings(settings, context)  # type: ignore[arg-type]
    return workload.prompts("0", REQUESTS)


@cache
def measured(load: str, seed: int, slower: float = 1.0) -> Measurement:
    """One trial of one configuration; arrivals and noise differ by the seed."""
    argv = ("--max-model-len", "4096", "--no-enable-prefix-caching")
    config = resolved(*argv, model="meta-llama/Llama-3.1-8B-Instruct", accelerator="H100")
    engine = VirtualEngine(config, seed=seed, slower=slower)
    played = engine.run(LOADS[load], prompts(), seed=seed, stagger_s=0.5)
    return summarise(played, Slo(), LOADS[load])


def compared(name: str, first: Measurement, second: Measurement, *, closed_loop: bool) -> Verdict:
    objective = OBJECTIVES.get(name)
    one = sample(objective, first, closed_loop=closed_loop)
    other = sample(objective, second, closed_loop=closed_loop)
    assert one is not None and other is not None
    return compare([one], [other], objective.direction).verdict


@pytest.mark.parametrize(
    ("load", "figure"),
    [
        ("closed", "goodput"),
        ("closed", "request_throughput"),
        ("closed", "output_throughput"),
        ("closed", "total_throughput"),
        ("closed", "tpot_mean_ms"),
        ("open", "tpot_mean_ms"),
        ("open", "ttft_mean_ms"),
    ],
)
def test_the_same_configuration_is_rarely_better_than_itself(load: str, figure: str) -> None:
    verdicts = Counter(
        compared(
            figure,
            measured(load, 2 * pair),
            measured(load, 2 * pair + 1),
            closed_loop=load == "closed",
        )
        for pair in range(PAIRS)
    )
    assert verdicts[Verdict.BETTER] <= 0.05 * PAIRS
    assert verdicts[Verdict.WORSE] <= 0.05 * PAIRS


@pytest.mark.parametrize(
    "figure",
    ["goodput", "request_throughput", "output_throughput", "total_throughput", "tpot_mean_ms"],
)
def test_ten_per_cent_are_found(figure: str) -> None:
    verdicts = Counter(
        compared(
            figure,
            measured("closed", 2 * pair, 1.1),
            measured("closed", 2 * pair + 1),
            closed_loop=True,
        )
        for pair in range(PAIRS)
    )
    assert verdicts[Verdict.BETTER] >= 0.9 * PAIRS
    assert verdicts[Verdict.WORSE] == 0


@given(
    value=st.floats(1e-3, 1e6),
    ratio=st.floats(0.2, 5.0),
    errors=st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.3)),
)
def test_a_comparison_is_the_mirror_of_its_reverse(
    value: float, ratio: float, errors: tuple[float, float]
) -> None:
    one, other = [Sample(value, errors[0])], [Sample(value * ratio, errors[1])]
    forth, back = compare(one, other, "maximize"), compare(other, one, "maximize")
    assert forth.low is not None and forth.high is not None
    assert forth.low <= forth.relative + 1e-12 and forth.relative <= forth.high + 1e-12
    assert (1 + forth.relative) * (1 + back.relative) == pytest.approx(1.0)
    if abs(ratio - 1) > 0.0102 and abs(1 / ratio - 1) > 0.0102:
        mirror = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
        assert back.verdict is mirror.get(forth.verdict, Verdict.UNDECIDED)
    assert compare(one, other, "minimize").verdict is not forth.verdict or (
        forth.verdict is Verdict.UNDECIDED
    )


def test_differences_too_small_to_name_are_none_however_sure() -> None:
    sure = [Sample(100.0, 1e-6)]
    below = [Sample(100.0 * (1 + 0.9 * NAMED_DIFFERENCE), 1e-6)]
    above = [Sample(100.0 * (1 + 1.1 * NAMED_DIFFERENCE), 1e-6)]
    assert compare(sure, below, "maximize").verdict is Verdict.UNDECIDED
    assert compare(sure, above, "maximize").verdict is Verdict.BETTER
    assert compare(sure, above, "minimize").verdict is Verdict.WORSE


def test_repetitions_make_it_surer_unless_they_lie_apart() -> None:
    one, other = Sample(100.0, 0.02), Sample(106.0, 0.02)
    assert compare([one], [other], "maximize").verdict is Verdict.UNDECIDED
    assert compare([one] * 4, [other] * 4, "maximize").verdict is Verdict.BETTER
    apart = [Sample(value, 0.02) for value in (90.0, 100.0, 120.0, 114.0)]
    assert compare([one] * 4, apart, "maximize").verdict is Verdict.UNDECIDED


def test_what_has_no_known_error_is_undecided() -> None:
    unknown = Difference(1.0, None, None, Verdict.UNDECIDED)
    assert compare([Sample(1.0, None)], [Sample(2.0, 0.01)], "maximize") == unknown
    assert compare([Sample(0.0, 0.0)], [Sample(2.0, 0.01)], "maximize").low is None


def test_ties_are_those_that_are_not_surely_worse() -> None:
    best = [Sample(100.0, 0.01)]
    others = [[Sample(value, 0.01)] for value in (98.0, 80.0, 99.9, 106.0)]
    assert ties(best, others, "maximize") == (0, 2, 3)
    assert ties(best, others, "minimize") == (0, 1, 2)


def test_objectives_take_their_error_from_the_figure_they_are_made_of() -> None:
    base = measurement(throughput=10.0)
    base = replace(
        base,
        intervals={
            "output_throughput": Interval(900.0, 1100.0),
            "total_throughput": Interval(808.0, 1212.0),
        },
    )

    def of(name: str) -> tuple[float, float | None] | None:
        found = sample(OBJECTIVES.get(name), base, gpus=4, gpu_price_per_hour=3.6)
        return None if found is None else (found.value, found.error)

    assert of("output_throughput") == pytest.approx((1000.0, 0.1 / 1.96), rel=1e-4)
    assert of("output_throughput_per_gpu") == pytest.approx((250.0, 0.1 / 1.96), rel=1e-4)
    price_per_s = 4 * 3.6 / 3600
    cost = of("cost_per_million_tokens")
    assert cost == pytest.approx((price_per_s / 1010.0 * 1e6, 0.2 / 1.96), rel=1e-4)
    assert of("goodput") == (10.0, None)
    assert of("tpot_mean_ms") is None


@pytest.mark.parametrize(
    ("name", "attainment", "as_sure"),
    [("output_throughput", 0.5, True), ("goodput", 1.0, True), ("goodput", 0.5, False)],
)
def test_in_a_closed_loop_a_throughput_is_as_sure_as_the_mean_stay(
    name: str, attainment: float, as_sure: bool
) -> None:
    """So is goodput where it is the throughput of all requests."""
    base = replace(
        measurement(),
        slo_attainment=attainment,
        intervals={name: Interval(800.0, 1200.0), "e2e_mean_ms": Interval(980.0, 1020.0)},
    )
    objective = OBJECTIVES.get(name)
    open_loop = sample(objective, base)
    closed_loop = sample(objective, base, closed_loop=True)
    assert open_loop is not None and closed_loop is not None
    assert open_loop.error == pytest.approx(0.2 / 1.96, rel=1e-4)
    assert closed_loop.error == pytest.approx((0.02 if as_sure else 0.2) / 1.96, rel=1e-4)
