"""Arrival times: seeded, unclamped, and of the distribution they name."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.arrivals import (
    ConcurrencyLoad,
    ConstantLoad,
    GammaLoad,
    Load,
    PoissonLoad,
    RampLoad,
    ReplayLoad,
)
from runtimes.workloads.base import Prompt

Floats = npt.NDArray[np.float64]

LOADS: tuple[Load, ...] = (
    ConcurrencyLoad(8, 100),
    ConstantLoad(2.5, 10),
    PoissonLoad(2.5, 10),
    GammaLoad(2.5, 2.0, 10),
    RampLoad("rate", 0.0, 4.0, 30.0, 10),
    RampLoad("concurrency", 1, 64, 30.0, 10),
    ReplayLoad(2.0, 10),
)


def prompts(count: int) -> list[Prompt]:
    return [Prompt((1,), 1)] * count


def arriving(*at_s: float | None) -> list[Prompt]:
    return [Prompt((1,), 1, at_s=instant) for instant in at_s]


def gaps_s(load: Load, count: int, seed: int = 7) -> Floats:
    """The gaps of `count` sessions, the one before the first included."""
    return np.diff(instants_s(load, count, seed), prepend=0)


def instants_s(load: Load, count: int, seed: int = 7) -> Floats:
    schedule = load.schedule_ns(seed, prompts(count))
    assert schedule is not None
    return np.array(schedule) / 1e9


def test_a_closed_loop_has_no_schedule() -> None:
    load = ConcurrencyLoad(8, 100)
    assert load.schedule_ns(7, prompts(1)) is None
    assert (load.kind, load.value, load.requests) == ("concurrency", 8, 100)


@given(
    rate=st.floats(0.01, 1e5),
    cv=st.floats(0.1, 5.0),
    requests=st.integers(1, 300),
    seed=st.integers(0, 2**63),
)
def test_a_schedule_is_ascending_whole_and_a_function_of_its_arguments(
    rate: float, cv: float, requests: int, seed: int
) -> None:
    loads = (
        ConstantLoad(rate, requests),
        PoissonLoad(rate, requests),
        GammaLoad(rate, cv, requests),
        RampLoad("rate", rate, 2 * rate, 10.0, requests),
        RampLoad("rate", rate, rate / 2, 10.0, requests),
    )
    for load in loads:
        schedule = load.schedule_ns(seed, prompts(requests))
        assert schedule is not None
        assert len(schedule) == requests
        assert all(type(offset) is int for offset in schedule)
        assert schedule[0] >= 0
        assert list(schedule) == sorted(schedule)
        assert schedule == load.schedule_ns(seed, prompts(requests))


def test_constant_gaps_are_equal_and_their_rounding_does_not_add_up() -> None:
    assert ConstantLoad(3.0, 4).schedule_ns(1, prompts(4)) == (
        0,
        333_333_333,
        666_666_667,
        1_000_000_000,
    )
    schedule = ConstantLoad(7.0, 700_001).schedule_ns(1, prompts(700_001))
    assert schedule[-1] == 100_000 * 10**9


def test_gaps_are_exponential_and_not_clamped() -> None:
    rate, count = 8.0, 200_000
    gaps = gaps_s(PoissonLoad(rate, count), count)
    # Three standard errors of an exponential's mean, its standard deviation and its tail shares.
    assert gaps.mean() == pytest.approx(1 / rate, rel=3 / math.sqrt(count))
    assert gaps.std() == pytest.approx(1 / rate, rel=3 * math.sqrt(2 / count))
    for multiple in (0.01, 0.1, 1.0, 3.0, 6.0):
        share = math.exp(-multiple)
        error = 3 * math.sqrt(share * (1 - share) / count)
        assert np.mean(gaps > multiple / rate) == pytest.approx(share, abs=error)
    assert gaps.max() > 9 / rate


@pytest.mark.parametrize("cv", [0.2, 0.5, 1.0, 2.0, 4.0])
def test_gamma_gaps_have_the_rate_and_variation_asked_for(cv: float) -> None:
    rate, count = 8.0, 200_000
    gaps = gaps_s(GammaLoad(rate, cv, count), count)
    assert gaps.mean() == pytest.approx(1 / rate, rel=4 * cv / math.sqrt(count))
    # The kurtosis of a gamma distribution is 3 + 6 cv².
    error = math.sqrt((2 + 6 * cv**2) / count) / 2
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=4 * error + 4 * cv / math.sqrt(count))


def test_gamma_gaps_are_neither_clamped_nor_rescaled() -> None:
    count = 100_000
    bursty = gaps_s(GammaLoad(8.0, 4.0, count), count)
    # Of shape 1/16 more than a third of the gaps are below a millionth of the mean, and the
    # longest of so many are more than sixty times the mean.
    assert np.mean(bursty < 1e-6 / 8.0) > 0.33
    assert bursty.max() > 60 / 8.0
    # A rescaled schedule would end at the same instant whatever the seed.
    ends = {GammaLoad(8.0, 4.0, 50).schedule_ns(seed, prompts(50))[-1] for seed in range(20)}
    assert len(ends) == 20


def test_a_gamma_load_of_variation_one_is_poisson() -> None:
    count = 100_000
    gaps = np.sort(gaps_s(GammaLoad(5.0, 1.0, count), count))
    expected = 1 - np.exp(-5.0 * gaps)
    distance = np.abs(expected - (np.arange(count) + 0.5) / count).max()
    assert distance < 1.63 / math.sqrt(count)  # Kolmogorov and Smirnov, level 1 %


def test_neighbouring_gaps_are_independent() -> None:
    gaps = gaps_s(PoissonLoad(5.0, 100_000), 100_000, seed=3)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 / math.sqrt(len(gaps))


@pytest.mark.parametrize("load", [PoissonLoad(5.0, 20), GammaLoad(5.0, 2.0, 20)])
def test_seeds_differ_and_a_longer_stage_begins_like_a_shorter_one(load: Load) -> None:
    longer = load.schedule_ns(1, prompts(20))
    assert longer is not None
    assert load.schedule_ns(2, prompts(20)) != longer
    assert load.schedule_ns(1, prompts(10)) == longer[:10]


@pytest.mark.parametrize(("start", "end"), [(2.0, 10.0), (10.0, 2.0), (0.0, 8.0), (5.0, 5.0)])
def test_a_ramped_rate_has_the_expected_counts_and_their_spread(start: float, end: float) -> None:
    over_s, runs = 20.0, 400
    load = RampLoad("rate", start, end, over_s, 400)
    edges = np.linspace(0.0, 1.5 * over_s, 7)
    counts = np.array([np.histogram(instants_s(load, 400, seed), edges)[0] for seed in range(runs)])
    integral = np.where(
        edges < over_s,
        start * edges + (end - start) * edges**2 / (2 * over_s),
        (start + end) / 2 * over_s + end * (edges - over_s),
    )
    expected = np.diff(integral)
    # Counts of disjoint times are Poisson: mean and variance are the intensity's integral.
    assert counts.mean(axis=0) == pytest.approx(expected, rel=4 / math.sqrt(runs * expected.min()))
    assert counts.var(axis=0) == pytest.approx(expected, rel=0.35)
    assert abs(np.corrcoef(counts[:, 0], counts[:, 1])[0, 1]) < 4 / math.sqrt(runs)


@given(
    start=st.integers(1, 300),
    end=st.integers(1, 300),
    elapsed_s=st.floats(0, 100),
    later_s=st.floats(0, 100),
)
def test_ramped_concurrency_goes_evenly_from_start_to_end(
    start: int, end: int, elapsed_s: float, later_s: float
) -> None:
    load = RampLoad("concurrency", start, end, 50.0, 10)
    assert load.schedule_ns(7, prompts(10)) is None
    assert (load.held(0.0), load.held(50.0), load.held(1e9)) == (start, end, end)
    held, later = load.held(elapsed_s), load.held(elapsed_s + later_s)
    assert held is not None and later is not None
    assert min(start, end) <= held <= max(start, end)
    assert (later - held) * (end - start) >= 0
    if elapsed_s <= 50:
        assert abs(held - (start + (end - start) * elapsed_s / 50)) <= 0.5 + 1e-9
    assert load.value == max(start, end)


def test_an_open_loop_holds_nothing() -> None:
    assert [load.held(1.0) for load in LOADS] == [8, None, None, None, None, 3, None]
    assert [load.kind for load in LOADS] == [
        "concurrency", "constant", "poisson", "gamma", "ramp", "ramp", "replay"
    ]  # fmt: skip
    assert [load.value for load in LOADS] == [8, 2.5, 2.5, 2.5, 4.0, 64, 2.0]


@given(
    gaps=st.lists(st.floats(0, 1e4), min_size=1, max_size=50),
    first=st.floats(0, 1e6),
    speed=st.floats(0.01, 1000),
)
def test_a_replay_keeps_order_and_scales_every_gap(
    gaps: list[float], first: float, speed: float
) -> None:
    at_s = list(np.cumsum([first, *gaps]))
    schedule = ReplayLoad(speed, len(at_s)).schedule_ns(7, arriving(*at_s))
    assert schedule[0] == 0
    assert list(schedule) == sorted(schedule)
    for offset_ns, instant in zip(schedule, at_s, strict=True):
        assert offset_ns == pytest.approx((instant - at_s[0]) / speed * 1e9, abs=1)


def test_a_replay_refuses_what_no_trace_has() -> None:
    replay = ReplayLoad(1.0, 3)
    assert replay.schedule_ns(7, arriving(5.0, 5.0, 6.5)) == (0, 0, 1_500_000_000)
    with pytest.raises(ValueError, match=r"^prompts: session 1 has no arrival time; .*workload"):
        replay.schedule_ns(7, arriving(0.0, None, 1.0))
    with pytest.raises(ValueError, match=r"^prompts: session 0 has no arrival time"):
        replay.schedule_ns(7, arriving(None))
    with pytest.raises(ValueError, match=r"^prompts: session 2 arrives at 1\.0 s, before"):
        replay.schedule_ns(7, arriving(0.0, 2.0, 1.0))


@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load.kind}-{load.value:g}")
def test_loads_are_plain_values(load: Load) -> None:
    copy = pickle.loads(pickle.dumps(load))
    assert copy == load
    assert hash(copy) == hash(load)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConcurrencyLoad(0, 1), r"^value: .* got 0$"),
        (lambda: ConcurrencyLoad(1, 0), r"^requests: .* got 0$"),
        (lambda: PoissonLoad(1.0, -1), r"^requests: .* got -1$"),
        (lambda: ConstantLoad(1.0, 0), r"^requests: .* got 0$"),
        (lambda: GammaLoad(1.0, 1.0, 0), r"^requests: .* got 0$"),
        (lambda: GammaLoad(1.0, 0.0, 1), r"^cv: .* got 0\.0$"),
        (lambda: GammaLoad(1.0, math.inf, 1), r"^cv: .* got inf$"),
        (lambda: ReplayLoad(0.0, 1), r"^speed: .* got 0\.0$"),
        (lambda: ReplayLoad(1.0, 0), r"^requests: .* got 0$"),
        (lambda: RampLoad("rate", -1.0, 1.0, 1.0, 1), r"^start: .* got -1\.0$"),
        (lambda: RampLoad("rate", 1.0, 0.0, 1.0, 1), r"^end: .* got 0\.0$"),
        (lambda: RampLoad("concurrency", 0, 4, 1.0, 1), r"^start: .* got 0$"),
        (lambda: RampLoad("concurrency", 1, 4.5, 1.0, 1), r"^end: .* got 4\.5$"),
        (lambda: RampLoad("concurrency", 1, math.nan, 1.0, 1), r"^end: .* got nan$"),
        (lambda: RampLoad("rate", 1.0, 2.0, 0.0, 1), r"^over_s: .* got 0\.0$"),
        (lambda: RampLoad("rate", 1.0, 2.0, 1.0, 0), r"^requests: .* got 0$"),
        (lambda: RampLoad("rates", 1.0, 2.0, 1.0, 1), r"^of: .* got 'rates'$"),  # type: ignore[arg-type]
    ],
)
def test_wrong_values_are_refused_by_name(make: Callable[[], Load], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_wrong_rates_are_refused(rate: float) -> None:
    for make in (PoissonLoad, ConstantLoad):
        with pytest.raises(ValueError, match=rf"^rate: .* got {rate}$"):
            make(rate, 1)
    with pytest.raises(ValueError, match=rf"^rate: .* got {rate}$"):
        GammaLoad(rate, 1.0, 1)


def test_making_loads_and_workloads_imports_no_numpy() -> None:
    code = (
        "import sys, runtimes, runtimes.load.arrivals as arrivals\n"
        "from runtimes.workloads.base import WORKLOADS, WorkloadContext\n"
        "arrivals.PoissonLoad(1.0, 5)\n"
        "settings = {'input_tokens': 5, 'output_tokens': 5}\n"
        "WORKLOADS.get('synthetic').from_settings(settings, WorkloadContext(1000, 1))\n"
        "sys.exit('numpy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
