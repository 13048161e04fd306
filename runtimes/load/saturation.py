"""Whether the queue of an open loop grows without end, told from trends of two series.

After the idea of GuideLLM (`over_saturation` constraint): a server that cannot keep up shows a
number of requests in flight and a TTFT that both grow, and a regression with an interval tells
growth from noise. What is ours makes it safe to look again and again while a stage runs:

- Neighbouring values of a queue are far from independent. A slope is fitted to `BATCHES` means of
  equal numbers of values, whose errors nearly are (batch means; Law, Simulation Modeling and
  Analysis, ch. 9), with a t-interval.
- A stable queue makes long excursions too, so that growth has to be large, not only significant:
  more than `MIN_BACKLOG` of what arrives stays, and TTFT grows by more than `MIN_WAIT` of the time
  that passes. Both hold from about 115 % of the capacity on.
- A stage starts with an empty server. Its first third, and everything before twice the mean time
  of a request, is left out.

On simulated M/M/1 queues, the least regular ones, with every look of a stage of 2,000 requests
counted, a load of 80 % is called over-saturated in at most 1 % of the stages, and one of 130 % is
found in at least 95 % within 800 requests (`tests/runtimes/test_saturation.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BATCHES = 10
MIN_REQUESTS = 300
"""Requests sent before the first look; a third of them have to have ended."""
MIN_BACKLOG = 0.1
MIN_WAIT = 0.05
_T_975 = 2.306
"""Of Student's distribution with `BATCHES` − 2 degrees of freedom: intervals of 95 %."""
_LOOK_AGAIN = 1.1
"""Looks are made each time so many times as many requests were sent: there are few of them, and
each has something new to see."""


class SaturationTrend:
    """Collects one stage's series, and looks at them now and then."""

    def __init__(self) -> None:
        self._in_flight: list[tuple[float, float]] = []
        self._ttft_s: list[tuple[float, float]] = []
        self._e2e_sum_s = 0.0
        self._next_look = float(MIN_REQUESTS)

    def sampled(self, at_s: float, in_flight: float) -> None:
        """Add how many requests were in flight `at_s` seconds after the stage's start."""
        self._in_flight.append((at_s, in_flight))

    def ended(self, first_content_s: float, ttft_s: float, e2e_s: float) -> None:
        """Add a completed request, whose first content came so long after the stage's start."""
        self._ttft_s.append((first_content_s, ttft_s))
        self._e2e_sum_s += e2e_s

    def growing(self, now_s: float) -> bool:
        """Whether both series grow; False where it is not yet time to look."""
        ended = len(self._ttft_s)
        sent = ended + (self._in_flight[-1][1] if self._in_flight else 0)
        if sent < self._next_look or ended < MIN_REQUESTS / 3:
            return False
        if now_s < 2 * self._e2e_sum_s / ended:
            return False
        self._next_look = sent * _LOOK_AGAIN
        in_flight = [one for one in self._in_flight if one[0] > now_s / 3]
        waits = sorted(one for one in self._ttft_s if one[0] > now_s / 3)
        if len(in_flight) < 2 * BATCHES or len(waits) < 2 * BATCHES:
            return False
        # What arrives in the long run is what ends, and what stays.
        stays = in_flight[-1][1] - in_flight[0][1]
        arrivals_per_s = (len(waits) + max(0.0, stays)) / (now_s * 2 / 3)
        return (
            least_slope(in_flight) > MIN_BACKLOG * arrivals_per_s and least_slope(waits) > MIN_WAIT
        )


def least_slope(series: Sequence[tuple[float, float]]) -> float:
    """Lower end of the 95 % interval of the slope of (time, value) pairs, in order of time."""
    bounds = [len(series) * batch // BATCHES for batch in range(BATCHES + 1)]
    batches = [series[low:high] for low, high in pairwise(bounds)]
    times = [sum(time for time, _ in batch) / len(batch) for batch in batches]
    values = [sum(value for _, value in batch) / len(batch) for batch in batches]
    mean_time, mean_value = sum(times) / BATCHES, sum(values) / BATCHES
    spread = sum((time - mean_time) ** 2 for time in times)
    if spread <= 0:
        return 0.0
    pairs = list(zip(times, values, strict=True))
    slope = sum((time - mean_time) * (value - mean_value) for time, value in pairs) / spread
    residuals = (value - mean_value - slope * (time - mean_time) for time, value in pairs)
    error = math.sqrt(sum(one * one for one in residuals) / (BATCHES - 2) / spread)
    return slope - _T_975 * error
