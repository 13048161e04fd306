"""Over-saturation told from trends, on simulated queues of known load."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from runtimes.load.saturation import MIN_REQUESTS, SaturationTrend, least_slope

REQUESTS = 2000
SEEDS = 200
SERVICE_S = 0.05
FOUND_WITHIN = 800
"""Requests that `runtimes.load.saturation` states for a load of 130 %."""


def queue(load: float, servers: int, seed: int) -> tuple[list[float], list[float], list[float]]:
    """Arrivals, starts and ends of Poisson arrivals at `servers` exponential servers, FIFO, s."""
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(SERVICE_S / (load * servers), REQUESTS)).tolist()
    services = random.exponential(SERVICE_S, REQUESTS).tolist()
    free = [0.0] * servers
    starts, ends = [], []
    for arrival, service in zip(arrivals, services, strict=True):
        starts.append(max(arrival, heapq.heappop(free)))
        ends.append(starts[-1] + service)
        heapq.heappush(free, ends[-1])
    return arrivals, starts, ends


def called_after(arrivals: list[float], starts: list[float], ends: list[float]) -> int | None:
    """Requests sent when the queue was first called growing, while they were still sent."""
    trend = SaturationTrend()
    done = sorted(range(len(ends)), key=ends.__getitem__)
    ended, in_flight = 0, 0
    for sent, now_s in enumerate(arrivals, start=1):
        in_flight += 1
        while ended < len(done) and ends[done[ended]] <= now_s:
            one = done[ended]
            trend.ended(starts[one], starts[one] - arrivals[one], ends[one] - arrivals[one])
            ended, in_flight = ended + 1, in_flight - 1
        if sent % 3 == 0:  # ten times a second at 30 requests a second
            trend.sampled(now_s, in_flight)
            if trend.growing(now_s):
                return sent
    return None


def calls(load: float, servers: int) -> list[int]:
    found = (called_after(*queue(load, servers, seed)) for seed in range(SEEDS))
    return [sent for sent in found if sent is not None]


@pytest.mark.parametrize("servers", [1, 16])
def test_a_stable_queue_is_rarely_called_growing(servers: int) -> None:
    assert len(calls(0.8, servers)) <= 0.01 * SEEDS


@pytest.mark.parametrize("servers", [1, 16])
@pytest.mark.parametrize("load", [1.3, 3.0])
def test_an_overloaded_queue_is_found_in_time(load: float, servers: int) -> None:
    found = [sent for sent in calls(load, servers) if sent <= FOUND_WITHIN]
    assert len(found) >= 0.95 * SEEDS


def test_an_engine_that_fills_its_batch_is_not_overloaded() -> None:
    # 1,000 requests in flight are reached only after the first ones have ended.
    arrivals = [number * 0.01 for number in range(3000)]
    starts = [one + 0.05 for one in arrivals]
    assert called_after(arrivals, starts, [one + 10.0 for one in starts]) is None


def series(value_at: Callable[[float], float], noise: float) -> list[tuple[float, float]]:
    random = np.random.default_rng(3)
    return [(at, value_at(at) + noise * random.standard_normal()) for at in np.arange(0, 10, 0.1)]


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (series(lambda at: 3 * at, 0.0), 2.999, 3.001),
        (series(lambda at: 3 * at, 2.0), 2.3, 3.0),
        (series(lambda at: 5.0, 2.0), -1.0, 0.0),
        ([(1.0, float(value)) for value in range(20)], 0.0, 0.0),
    ],
    ids=["exact", "noisy", "flat", "no time passes"],
)
def test_the_least_slope(values: Sequence[tuple[float, float]], low: float, high: float) -> None:
    assert low <= least_slope(values) <= high


def test_nothing_is_said_of_few_requests() -> None:
    trend = SaturationTrend()
    for number in range(1, MIN_REQUESTS):
        trend.sampled(number, number / 2)
        if number % 2:
            trend.ended(number, number, 1.0)
        assert not trend.growing(number)
    trend.sampled(MIN_REQUESTS, MIN_REQUESTS / 2)
    assert trend.growing(MIN_REQUESTS)
