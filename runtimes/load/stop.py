"""Stop rules of a stage, judged from its ended requests while it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from runtimes.load.job import LoadJob
from runtimes.load.saturation import SaturationTrend
from runtimes.measurement import RequestRecord
from runtimes.slo import SloLimit

MIN_ENDED = 10
"""Ended requests before an error rate is judged."""
BATCHES = 20
MIN_PER_BATCH = 5
"""Requests of each batch before an interval's width is judged."""
_T_975 = 2.093
"""Of Student's distribution with `BATCHES` − 1 degrees of freedom."""
_LOOK_AGAIN = 1.05
"""Rules that look at every value do so each time so many times as many requests have ended."""

_REQUEST_METRICS = ("ttft_ms", "tpot_ms", "e2e_ms")


class StopJudge:
    """Says which stop rule of `job.load` holds.

    Feed it every ended request and the number in flight; all times are of the records' clock.

    Args:
        start_ns: the stage's start.
    """

    def __init__(self, job: LoadJob, start_ns: int) -> None:
        self._rules = job.load.stop
        self._planned = job.load.requests
        self._limits = [one for one in job.slo.limits if one.metric in _REQUEST_METRICS]
        self._start_ns = start_ns
        self._open_loop = job.load.held(0.0) is None
        self._trend = SaturationTrend()
        self._values: dict[str, list[float]] = {metric: [] for metric in _REQUEST_METRICS}
        self._ended = 0
        self._failed = 0
        self._output_tokens = 0
        self._next_look = 1.0

    def ended(self, record: RequestRecord) -> None:
        """Take a request into account, in the order in which they ended."""
        self._ended += 1
        tokens = record.output_tokens
        self._output_tokens += len(record.chunk_ns) if tokens is None else tokens
        if record.error is not None or record.ttft_ms is None:
            self._failed += 1
            return
        self._values["ttft_ms"].append(record.ttft_ms)
        self._values["e2e_ms"].append(record.e2e_ms)
        if record.tpot_ms is not None:
            self._values["tpot_ms"].append(record.tpot_ms)
        first_content_s = (record.chunk_ns[0] - self._start_ns) / 1e9
        self._trend.ended(first_content_s, record.ttft_ms / 1e3, record.e2e_ms / 1e3)

    def sampled(self, now_ns: int, in_flight: int) -> None:
        """Take the number of requests in flight into account."""
        self._trend.sampled((now_ns - self._start_ns) / 1e9, in_flight)

    def seconds_left(self, now_ns: int) -> float:
        """Until the rule on the duration holds; infinite without one."""
        if self._rules.duration_s is None:
            return math.inf
        return self._rules.duration_s - (now_ns - self._start_ns) / 1e9

    def verdict(self, now_ns: int, *, something_left: bool = True) -> str:
        """Name of a rule that holds, the field of `StopRules`; empty for none.

        With nothing left to send there is nothing to stop, but a hopeless stage need not be awaited
        then either.
        """
        if something_left and (ended_by := self._limit_reached(now_ns)):
            return ended_by
        if self._queue_grows(now_ns):
            return "hopeless"
        if self._ended < self._next_look:
            return ""
        self._next_look = self._ended * _LOOK_AGAIN
        rules = self._rules
        if rules.hopeless and any(self._out_of_reach(limit) for limit in self._limits):
            return "hopeless"
        width = rules.interval_width
        if something_left and width is not None and self._precise(width):
            return "interval_width"
        return ""

    def _limit_reached(self, now_ns: int) -> str:
        tokens = self._rules.output_tokens
        if self.seconds_left(now_ns) <= 0:
            return "duration"
        if tokens is not None and self._output_tokens >= tokens:
            return "output_tokens"
        return "error_rate" if self._too_many_failed else ""

    @property
    def _too_many_failed(self) -> bool:
        limit = self._rules.error_rate
        return limit is not None and self._ended >= MIN_ENDED and self._failed > limit * self._ended

    def _queue_grows(self, now_ns: int) -> bool:
        if not (self._rules.hopeless and self._open_loop):
            return False
        return self._trend.growing((now_ns - self._start_ns) / 1e9)

    def _out_of_reach(self, limit: SloLimit) -> bool:
        """Whether a limit cannot be met any more, however the requests to come fare.

        The later half of those seen has to break it as well: the start of a stage may be cut from
        its figures as a transient. ITL is not judged: its gaps are pooled, and how many there
        will be is not known.
        """
        values = self._values[limit.metric]
        return breaks(values, limit, self._planned) and breaks(values[len(values) // 2 :], limit)

    def _precise(self, width: float) -> bool:
        series = [self._values["ttft_ms"]]
        if self._values["tpot_ms"]:
            series.append(self._values["tpot_ms"])
        return all(relative_width(values) <= width for values in series)


def breaks(values: Sequence[float], limit: SloLimit, planned: int | None = None) -> bool:
    """Whether `values`, with others up to `planned` that all meet it, are beyond `limit`.

    Percentiles as `runtimes.statistics` has them, interpolated between ranks: beyond the limit
    for certain once the lower of the two ranks is.
    """
    count = max(planned or 0, len(values))
    if not count:
        return False
    if limit.percentile is None:
        return sum(values) > limit.limit_ms * count
    beyond = sum(value > limit.limit_ms for value in values)
    return beyond >= count - math.floor((count - 1) * limit.percentile / 100)


def relative_width(values: Sequence[float]) -> float:
    """Width of the 95 % confidence interval of the mean over the mean, by batch means.

    Requests that are in flight together are alike; means of consecutive batches are nearly
    independent (Law, Simulation Modeling and Analysis, ch. 9). Infinite for too few values.
    """
    if len(values) < BATCHES * MIN_PER_BATCH:
        return math.inf
    bounds = [len(values) * batch // BATCHES for batch in range(BATCHES + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(bounds)]
    mean = sum(means) / BATCHES
    variance = sum((one - mean) ** 2 for one in means) / (BATCHES - 1)
    half = _T_975 * math.sqrt(variance / BATCHES)
    return 2 * half / mean if mean > 0 else math.inf
