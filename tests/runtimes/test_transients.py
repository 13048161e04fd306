"""The cut of transients: series whose transient is known, stages whose steady part is known."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord, Window
from runtimes.request_columns import Floats, RequestColumns
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.transients import BATCH, drifts, in_flight, measured_window, mser5

BINS = 200
SEEDS = range(100)
S = 1_000_000_000


def noise(seed: int, *, size: int = BINS, memory: float = 0.5, sd: float = 5.0) -> Floats:
    """A stationary series around 100 whose neighbours correlate by `memory`."""
    steps = np.random.default_rng(seed).normal(0.0, sd * np.sqrt(1 - memory**2), size + 100)
    values = np.zeros(size + 100)
    for index in range(1, size + 100):
        values[index] = memory * values[index - 1] + steps[index]
    return np.asarray(100 + values[100:])


def cuts(series: Callable[[int], Floats]) -> list[int | None]:
    return [mser5(series(seed)) for seed in SEEDS]


@given(
    seed=st.integers(0, 10**6), end=st.integers(5, 80), level=st.sampled_from([0.0, 50.0, 160.0])
)
def test_a_step_is_cut_off_whole(seed: int, end: int, level: float) -> None:
    values = noise(seed)
    values[:end] += level - 100
    found = mser5(values)
    assert found is None or found >= end - end % BATCH


@pytest.mark.parametrize("end", [10, 33, 80])
def test_little_more_than_a_step_is_cut_off(end: int) -> None:
    found = cuts(lambda seed: np.where(np.arange(BINS) < end, 20.0, noise(seed)))
    near = [cut for cut in found if cut is not None and cut <= end + BINS / 4]
    assert len(near) >= 0.9 * len(SEEDS)
    assert end <= np.median(near) <= end + 2 * BATCH


@pytest.mark.parametrize("constant", [5, 10, 20])
def test_an_exponential_approach_is_cut_where_it_is_within_the_noise(constant: int) -> None:
    """80 % below at first: after two time constants 11 % are left, after five half a percent."""
    rise = 80 * np.exp(-np.arange(BINS) / constant)
    found = cuts(lambda seed: noise(seed) - rise)
    near = [cut for cut in found if cut is not None and 2 * constant - BATCH <= cut]
    assert len(near) >= 0.95 * len(SEEDS)
    assert 2 * constant <= np.median(near) <= 5 * constant


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_a_stationary_series_loses_little(memory: float) -> None:
    found = cuts(lambda seed: noise(seed, memory=memory))
    kept = [cut for cut in found if cut is not None]
    assert len(kept) >= 0.95 * len(SEEDS)
    assert np.mean(kept) < 0.1 * BINS
    drifting = [seed for seed in SEEDS if drifts(noise(seed, memory=memory))]
    assert len(drifting) <= 0.05 * len(SEEDS)


def test_a_constant_series_loses_nothing() -> None:
    assert mser5(np.full(BINS, 7.3)) == 0
    assert mser5(np.zeros(BINS)) == 0
    assert not drifts(np.full(BINS, 7.3))


@pytest.mark.parametrize("rise", [-0.8, -0.4, 0.4, 1.0])
def test_a_drift_is_never_stationary(rise: float) -> None:
    """Over the whole series by `rise` of its mean."""
    line = 1 + rise * (np.arange(BINS) / BINS - 0.5)
    for seed in SEEDS:
        values = noise(seed, sd=2.0) * line
        found = mser5(values)
        assert found is None or drifts(values[found:])


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 300)), min_size=1, max_size=20),
    st.integers(1, 15),
)
def test_requests_in_flight_are_averaged_over_each_bin(
    stays: list[tuple[int, int]], bins: int
) -> None:
    sent = np.array([start for start, _ in stays], dtype=np.int64)
    ended = np.array([start + length for start, length in stays], dtype=np.int64)
    edges = np.linspace(0.0, 1300.0, bins + 1)
    found = in_flight(sent, ended, edges)
    for low, high, value in zip(edges[:-1], edges[1:], found, strict=True):
        overlap = np.clip(np.minimum(ended, high) - np.maximum(sent, low), 0, None).sum()
        assert value == pytest.approx(overlap / (high - low), abs=1e-6)


def stage(sent_s: Floats, stay_s: Floats, tokens: int = 20) -> list[RequestRecord]:
    """Requests whose chunks come evenly over their stay."""
    found = []
    for index, (sent, stay) in enumerate(zip(sent_s.tolist(), stay_s.tolist(), strict=True)):
        at_s = sent + stay * np.arange(1, tokens + 1) / tokens
        chunk_ns = array("q", (at_s * S).astype(np.int64).tolist())
        sent_ns = int(sent * S)
        found.append(
            RequestRecord(index, sent_ns, sent_ns, chunk_ns, chunk_ns[-1], 10, tokens, tokens)
        )
    return found


def window(records: list[RequestRecord]) -> Window:
    columns = RequestColumns.of(records)
    found, start_ns, end_ns = measured_window(columns, int(columns.scheduled_ns.max()))
    first_ns = int(columns.scheduled_ns.min())
    assert (found.start_s, found.end_s) == ((start_ns - first_ns) / S, (end_ns - first_ns) / S)
    within = [start_ns <= record.scheduled_ns <= end_ns for record in records]
    assert found.requests == sum(within)
    return found


def poisson(seed: int, rate: float, length_s: float, stay_s: float) -> list[RequestRecord]:
    random = np.random.default_rng(seed)
    sent_s = np.cumsum(random.exponential(1 / rate, int(rate * length_s * 1.2)))
    sent_s = sent_s[sent_s < length_s]
    return stage(sent_s, random.normal(stay_s, stay_s / 20, len(sent_s)))


def test_an_open_loop_is_measured_once_full_and_until_the_last_arrival() -> None:
    """Requests stay for 5 s, so that the number in flight rises for so long."""
    found = [window(poisson(seed, 20.0, 60.0, 5.0)) for seed in range(20)]
    steady = [each for each in found if each.steady]
    assert len(steady) >= 17
    for each in steady:
        assert each.rule == "mser+tail"
        assert 3.0 <= each.start_s <= 30.0
        assert 59.0 <= each.end_s < 60.0
    assert 4.0 <= np.median([each.start_s for each in steady]) <= 8.0


def test_a_queue_that_grows_is_not_steady() -> None:
    """Each request stays longer than the one before, as in an overload."""
    sent_s = np.arange(600) / 10
    found = window(stage(sent_s, 0.5 + sent_s / 3))
    assert (found.rule, found.steady) == ("tail", False)
    assert found.start_s == 0.0


def test_a_short_stage_keeps_its_head() -> None:
    records = poisson(3, 20.0, 8.0, 1.0)
    found = window(records)
    assert (found.rule, found.steady) == ("tail", True)
    assert found.start_s == 0.0


def test_a_burst_counts_whole() -> None:
    """All are sent at once: what follows the last arrival is the stage."""
    found = window(stage(np.zeros(100), np.linspace(1.0, 8.0, 100)))
    assert not found.steady
    assert (found.rule, found.start_s, found.end_s, found.requests) == ("whole", 0.0, 8.0, 100)


@pytest.mark.parametrize(("after", "cut"), [(24, True), (26, False)])
def test_the_tail_of_a_stage_that_is_mostly_tail_counts(after: int, cut: bool) -> None:
    """Fifty requests in five seconds, of which `after` end only when nothing arrives any more."""
    stays = np.where(np.arange(50) < 50 - after, 0.05, 10.0)
    assert ("tail" in window(stage(np.arange(50) / 10, stays)).rule) is cut


@pytest.mark.parametrize(("rounds", "steady"), [(3, False), (4, True)])
def test_a_stage_of_a_few_rounds_is_too_short_to_be_steady(rounds: int, steady: bool) -> None:
    """A closed loop whose streams start spread over the first round; the last round is the tail."""
    starts = np.concatenate([np.arange(16) / 16 + turn for turn in range(rounds)])
    found = window(stage(starts, np.full(len(starts), 1.0)))
    assert (found.rule, found.steady) == ("tail", steady)


@pytest.mark.parametrize(("requests", "rule"), [(20, "whole"), (22, "tail")])
def test_a_handful_of_requests_counts_whole(requests: int, rule: str) -> None:
    assert window(stage(np.arange(requests, dtype=np.float64), np.full(requests, 0.6))).rule == rule


def test_failed_requests_do_not_carry_a_window() -> None:
    records = stage(np.arange(30, dtype=np.float64), np.full(30, 0.6))
    broken = [
        RequestRecord(each.index, each.scheduled_ns, each.sent_ns, (), each.end_ns, 1, 1, 1, "cut")
        for each in records[:15]
    ]
    columns = RequestColumns.of([*broken, *records[15:]])
    found, _, _ = measured_window(columns, 29 * S)
    assert (found.rule, found.requests) == ("whole", 15)


def test_a_window_is_within_what_was_recorded_and_counts_from_its_first_schedule() -> None:
    """Stopped by hand: requests were sent for five seconds more, of which there is no record."""
    records = stage(7.0 + np.arange(40) / 10, np.full(40, 0.5))
    result = LoadResult(tuple(records), 5 * S, 16 * S, 0.0, last_arrival_ns=15 * S)
    found = summarise(result, Slo())
    assert found.window is not None
    assert (found.window.start_s, found.window.end_s) == (0.0, found.duration_s) == (0.0, 4.4)


def closed_loop(seed: int, streams: int, requests: int) -> LoadResult:
    """Streams that start spread over one mean stay, which is 2 s with a CV of 0.5."""
    random = np.random.default_rng(seed)
    free = [(2.0 * stream / streams, stream) for stream in range(streams)]
    sent_s, stay_s = [], []
    for _ in range(requests):
        at_s, stream = heappop(free)
        sent_s.append(at_s)
        stay_s.append(float(random.gamma(4.0, 0.5)))
        heappush(free, (at_s + stay_s[-1], stream))
    records = tuple(stage(np.array(sent_s), np.array(stay_s)))
    ended_ns = max(record.end_ns for record in records)
    return LoadResult(records, 0, ended_ns, 0.0, last_arrival_ns=int(sent_s[-1] * S))


def test_the_throughput_of_a_closed_loop_is_that_of_its_steady_part() -> None:
    """Sixteen streams of 2 s each are eight requests a second; over the whole it looks slower."""
    found = [summarise(closed_loop(seed, 16, 300), Slo()) for seed in range(120)]
    throughputs = [each.request_throughput for each in found]
    assert np.mean(throughputs) == pytest.approx(8.0, rel=0.02)
    assert np.mean([each.output_throughput for each in found]) == pytest.approx(160.0, rel=0.02)
    whole = [each.requests_completed / each.duration_s for each in found]
    assert np.mean(whole) < 0.93 * 8.0
    for name, truth in (("request_throughput", 8.0), ("output_throughput", 160.0)):
        intervals = [each.intervals[name] for each in found]
        holding = [each for each in intervals if each.low <= truth <= each.high]
        assert len(holding) >= 0.88 * len(found)
