"""The search for the highest rate that keeps the SLO: its rules, on a made-up engine."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.load.capacity import Point, estimate, share_above
from runtimes.load.max_under_slo import MAX_LONG, MaxUnderSloProgram
from runtimes.load.probe import surely_fails
from runtimes.load.program import Bracket, StageOutcome
from runtimes.measurement import Interval, Measurement
from runtimes.slo import Slo, SloLimit
from tests.runtimes.made_up import TTFT_SLO, Engine, distribution, flagged, measurement, play


def engine(capacity: float, *, slope: float = 3.0, noise: float = 0.0, seed: int = 0) -> Engine:
    """TTFT grows with the rate like a power of it and is at its limit at `capacity`."""
    source = random.Random(seed)

    def measured(load: Load) -> Measurement:
        rate = load.value if isinstance(load, PoissonLoad) else capacity / 40
        ttft_ms = 100.0 * (rate / capacity) ** slope * math.exp(source.gauss(0.0, noise))
        throughput = min(rate, 1.5 * capacity)
        return measurement(ttft_ms=ttft_ms, requests=load.requests, throughput=throughput)

    return measured


def result(program: MaxUnderSloProgram, measured: Engine) -> tuple[float, Bracket]:
    done = play(program, measured)
    return done[program.deciding(done)].load.value, program.bracket(done)


def test_one_stream_comes_first_then_rates_that_double_as_long_as_they_hold() -> None:
    loads = [o.load for o in play(MaxUnderSloProgram(TTFT_SLO, 1000), engine(40.0))]
    assert loads[0] == ConcurrencyLoad(1, 20, loads[0].stop)
    doubled = loads[1:7]
    assert [load.value for load in doubled] == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    # As long as each other in seconds, up to the requests that a probe may have.
    assert [load.requests for load in doubled] == [32, 64, 128, 256, 512, 1000]
    assert loads[7].value == pytest.approx(math.sqrt(32 * 64))
    assert all(load.requests == 1000 for load in loads[7:])
    # Those near the limit run to their end: the ones that fail tell as much as the others.
    assert [load.stop.hopeless for load in loads[1:]] == [True] * 7 + [False] * len(loads[8:])


@settings(max_examples=50, deadline=None)
@given(capacity=st.floats(0.01, 1e4), slope=st.floats(1.0, 40.0), start=st.floats(0.2, 20.0))
def test_without_noise_the_capacity_is_found_from_anywhere(
    capacity: float, slope: float, start: float
) -> None:
    for program in (
        MaxUnderSloProgram(TTFT_SLO, 500),
        MaxUnderSloProgram(TTFT_SLO, 500, start_rate=capacity * start),
    ):
        rate, bracket = result(program, engine(capacity, slope=slope))
        assert capacity / 1.051 <= rate <= capacity * 1.0001
        assert bracket.low is not None and bracket.high is not None
        assert bracket.low <= capacity * 1.01
        assert bracket.high >= capacity / 1.01
        assert bracket.high <= bracket.low * 1.12


@given(noise=st.floats(0.0, 2.0), seed=st.integers(0, 10_000), slope=st.floats(0.0, 100.0))
def test_it_ends_whatever_the_noise(noise: float, seed: int, slope: float) -> None:
    program = MaxUnderSloProgram(TTFT_SLO, 100, max_rate=1000.0)
    done = play(program, engine(40.0, slope=slope, noise=noise, seed=seed))
    assert sum(o.load.requests == 100 for o in done) <= MAX_LONG
    assert 0 <= program.deciding(done) < len(done)


def test_noisy_probes_are_taken_together() -> None:
    found = [
        result(MaxUnderSloProgram(TTFT_SLO, 1000), engine(40.0, noise=0.15, seed=seed))
        for seed in range(60)
    ]
    # In the long run the p99 is that of all probes: their own spread of 0.3, and 0.15 between them.
    capacity = 40.0 * math.exp(-NormalDist().inv_cdf(0.99) * (math.hypot(0.3, 0.15) - 0.3) / 3.0)
    off = [rate / capacity - 1 for rate, _ in found]
    # A probe alone is off by 0.15 / 3 = 5 %, so that the last ones of a bisection would be.
    assert math.sqrt(sum(value**2 for value in off) / len(off)) < 0.03
    covered = [b.low <= capacity <= b.high for _, b in found if b.low and b.high]
    assert sum(covered) >= 0.75 * len(found)


def test_a_rate_that_always_holds_is_shown_at_the_highest_that_may_be_tried() -> None:
    program = MaxUnderSloProgram(TTFT_SLO, 1000, max_rate=30.0)
    done = play(program, engine(1000.0))
    assert (done[-1].load.value, done[-1].load.requests) == (30.0, 1000)
    assert done[program.deciding(done)].load.value == 30.0
    assert program.bracket(done) == Bracket(30.0, None)


def test_an_slo_that_one_stream_breaks_holds_at_no_rate() -> None:
    program = MaxUnderSloProgram(TTFT_SLO, 1000)
    done = play(program, lambda load: measurement(ttft_ms=300.0, requests=load.requests))
    assert [o.load.value for o in done] == [1]
    assert program.deciding(done) == 0
    assert program.bracket(done) == Bracket(None, None)


def test_a_start_that_is_too_high_is_halved_and_given_up_at_last() -> None:
    program = MaxUnderSloProgram(TTFT_SLO, 1000, start_rate=64.0)

    def overloaded(load: Load) -> Measurement:
        return measurement(ttft_ms=900.0, requests=load.requests, throughput=load.value)

    done = play(program, overloaded)
    assert [o.load.value for o in done] == [64, 32, 16, 8, 4, 2]
    assert program.deciding(done) == 5
    assert program.bracket(done) == Bracket(None, 2.0)


def test_a_cliff_is_bisected_to_the_resolution() -> None:
    def cliff(load: Load) -> Measurement:
        over = isinstance(load, PoissonLoad) and load.value > 37.0
        rate = min(load.value, 37.0) if isinstance(load, PoissonLoad) else 1.0
        base = measurement(ttft_ms=20.0, requests=load.requests, throughput=rate)
        return replace(base, stopped_by="hopeless") if over else base

    rate, bracket = result(MaxUnderSloProgram(TTFT_SLO, 1000, resolution=0.02), cliff)
    assert bracket.low == rate
    assert bracket.high is not None
    assert rate <= 37.0 < bracket.high <= rate * 1.02


def test_a_short_probe_that_may_have_failed_by_chance_is_repeated_at_full_length() -> None:
    def unlucky(load: Load) -> Measurement:
        base = engine(40.0)(load)
        if load.requests != 64:
            return base
        # One request of 64 was slow: no interval, and no proof that one of a hundred is.
        slow = distribution(10.0, 64)
        ttft = replace(slow, p99=150.0, p99_9=200.0, max=200.0)
        verdict = replace(base.slo[0], value_ms=150.0)
        return replace(base, ttft_ms=ttft, slo=(verdict,), intervals={})

    loads = [o.load for o in play(MaxUnderSloProgram(TTFT_SLO, 1000), unlucky)]
    assert [(load.value, load.requests) for load in loads[1:5]] == [
        (2.0, 32), (4.0, 64), (4.0, 1000), (8.0, 128)
    ]  # fmt: skip


def limited(base: Measurement) -> Measurement:
    """A stage that failed on a machine too busy to send and to read in time."""
    verdicts = tuple(replace(verdict, value_ms=900.0) for verdict in base.slo)
    intervals = {"ttft_p99_ms": Interval(850.0, 950.0)}
    return flagged(replace(base, slo=verdicts, intervals=intervals), "client_limited")


def rates(done: Sequence[StageOutcome]) -> list[float]:
    return [o.load.value for o in done if isinstance(o.load, PoissonLoad)]


def test_a_stage_that_the_client_spoilt_once_is_made_again() -> None:
    program, plain = MaxUnderSloProgram(TTFT_SLO, 1000), engine(40.0)
    undisturbed = play(program, plain)
    for stage, outcome in enumerate(undisturbed):
        stages = itertools.count()

        def disturbed(
            load: Load, stage: int = stage, stages: Iterator[int] = stages
        ) -> Measurement:
            return limited(plain(load)) if next(stages) == stage else plain(load)

        done = play(program, disturbed)
        assert done[stage].load == done[stage + 1].load == outcome.load
        assert [*done[:stage], *done[stage + 1 :]] == undisturbed
        assert done[program.deciding(done)] == undisturbed[program.deciding(undisturbed)]
        assert program.bracket(done) == program.bracket(undisturbed)


@given(capacity=st.floats(1.0, 1e3), bound=st.floats(1.0, 1e3), start=st.booleans())
def test_rates_that_the_client_cannot_hold_bound_the_search_and_not_the_result(
    capacity: float, bound: float, start: bool
) -> None:
    def bounded(load: Load) -> Measurement:
        base = engine(capacity)(load)
        return limited(base) if isinstance(load, PoissonLoad) and load.value > bound else base

    program = MaxUnderSloProgram(TTFT_SLO, 500, start_rate=bound / 3 if start else None)
    done = play(program, bounded)
    decided = done[program.deciding(done)]
    held = [o for o in done if o.load.value <= min(bound, capacity)]
    if [rate for rate in rates(done) if rate <= min(bound, capacity)]:
        assert decided.measurement.slo_met
        # The estimate that decides is known to the resolution of the search, not to the last probe.
        assert decided.load.value >= max(rates(held)) / (1 + program.resolution)
        assert min(bound, capacity) / 1.2 <= decided.load.value <= min(bound, capacity) * 1.0001
    found = program.bracket(done)
    if bound < capacity / 2:
        # Nobody saw the SLO break.
        assert found.high is None or found.high > bound
    again = [rate for rate in rates(done) if rate > bound]
    assert all(again.count(rate) == 2 for rate in again)


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
def test_a_busy_machine_ends_no_search_with_nothing_where_a_rate_held(
    seed: int, share: float
) -> None:
    source, plain = random.Random(seed), engine(40.0)

    def busy(load: Load) -> Measurement:
        return limited(plain(load)) if source.random() < share else plain(load)

    program = MaxUnderSloProgram(TTFT_SLO, 200)
    done = play(program, busy)
    if any(o.measurement.slo_met for o in done):
        assert done[program.deciding(done)].measurement.slo_met


def test_a_spoilt_single_stream_is_made_again() -> None:
    def broken(load: Load) -> Measurement:
        return limited(measurement(ttft_ms=300.0, requests=load.requests))

    program = MaxUnderSloProgram(TTFT_SLO, 1000)
    done = play(program, broken)
    assert [o.load for o in done] == [ConcurrencyLoad(1, 20, done[0].load.stop)] * 2
    assert program.deciding(done) == 1


@given(capacity=st.floats(2.0, 300.0), start=st.one_of(st.none(), st.floats(0.5, 600.0)))
def test_a_stage_given_up_as_hopeless_decides_nothing_where_one_held(
    capacity: float, start: float | None
) -> None:
    def cliff(load: Load) -> Measurement:
        base = engine(capacity)(load)
        if not isinstance(load, PoissonLoad) or load.value <= capacity:
            return base
        # As statistics leaves it: few ended, what they show would meet the SLO, and counts not.
        unmeasured = tuple(replace(verdict, value_ms=None) for verdict in base.slo)
        return replace(base, slo=unmeasured, stopped_by="hopeless", ttft_ms=None, intervals={})

    program = MaxUnderSloProgram(TTFT_SLO, 500, start_rate=start)
    done = play(program, cliff)
    decided = done[program.deciding(done)]
    assert decided.measurement.slo_met == any(o.measurement.slo_met for o in done)
    assert all(program.deciding(done[:count]) < count for count in range(1, len(done)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda base: replace(base, stopped_by="hopeless"),
        lambda base: replace(base, stopped_by="error_rate"),
        lambda base: replace(base, requests_failed=20),
        lambda base: replace(base, request_throughput=4.0),
        lambda base: replace(
            base,
            window=replace(base.window, steady=False),
            request_throughput=8.0,
            intervals={**base.intervals, "request_throughput": Interval(7.0, 9.0)},
        ),
    ],
    ids=["hopeless", "error_rate", "failed", "half", "lags"],
)
def test_an_engine_that_did_not_keep_up_fails_whatever_its_latencies(
    spoil: Callable[[Measurement], Measurement],
) -> None:
    good = measurement(ttft_ms=10.0, throughput=10.0)
    assert not surely_fails(good, 10.0)
    assert surely_fails(spoil(good), 10.0)


def test_an_interval_decides_only_from_one_side() -> None:
    assert surely_fails(measurement(ttft_ms=120.0, interval=0.1), 10.0)
    assert not surely_fails(measurement(ttft_ms=105.0, interval=0.1), 10.0)


@pytest.mark.parametrize(("count", "p90", "sure"), [(32, 150.0, True), (8, 150.0, False)])
def test_without_an_interval_the_number_of_slow_requests_decides(
    count: int, p90: float, sure: bool
) -> None:
    base = measurement(ttft_ms=50.0, requests=count)
    ttft = replace(distribution(50.0, count), p90=p90, p95=200.0, p99=300.0, max=300.0)
    verdict = replace(base.slo[0], value_ms=300.0)
    failed = replace(base, ttft_ms=ttft, slo=(verdict,), intervals={})
    assert surely_fails(failed, 10.0) is sure


def test_means_and_percentiles_are_limits_alike() -> None:
    slo = Slo((SloLimit("ttft_ms", "mean", 100.0), SloLimit("ttft_ms", "p99", 1e4)))
    points = [
        Point(rate, 2.0 * math.log(rate / 40.0), measurement(ttft_ms=rate**2 / 16.0, slo=slo))
        for rate in (38.0, 39.0, 40.0, 41.0, 42.0)
    ]
    found = estimate(points)
    assert found.rate == pytest.approx(40.0, rel=0.002)
    assert found.low <= 40.0 <= found.high
    assert estimate(points[:2]).high == math.inf


def test_the_share_above_a_limit_is_read_from_the_percentiles() -> None:
    # Exponential values of mean 100 ms: the share above x is exp(-x / 100).
    at = {share: -100.0 * math.log(share) for share in (0.5, 0.25, 0.1, 0.05, 0.01, 0.001)}
    values = replace(
        distribution(0.0, 100_000),
        p50=at[0.5], p75=at[0.25], p90=at[0.1], p95=at[0.05], p99=at[0.01], p99_9=at[0.001],
        max=-100.0 * math.log(5e-6),
    )  # fmt: skip
    for limit_ms in (80.0, 150.0, 250.0, 400.0, 600.0, 800.0):
        assert share_above(values, limit_ms) == pytest.approx(math.exp(-limit_ms / 100), rel=1e-6)
    assert share_above(values, -1.0) == 1.0
    assert share_above(values, 2000.0) == 0.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slo": Slo()}, "slo"),
        ({"requests": 0}, "requests"),
        ({"start_rate": 0.0}, "start_rate"),
        ({"max_rate": math.inf}, "max_rate"),
        ({"start_rate": 9.0, "max_rate": 8.0}, "start_rate"),
        ({"resolution": 0.0}, "resolution"),
    ],
)
def test_wrong_searches_are_refused(settings: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"slo": TTFT_SLO, "requests": 10}
    with pytest.raises(ValueError, match=rf"^{words}: must"):
        MaxUnderSloProgram(**{**good, **settings})  # type: ignore[arg-type]
