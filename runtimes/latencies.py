"""The latencies of a stage: all values of each, their distribution, how sure its figures are.

Percentiles are exact, of all values, with linear interpolation between ranks (numpy's default, type
7 of Hyndman and Fan 1996).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtimes.bootstrap import MIN_UNITS, Resampling, block_length, of_sorted
from runtimes.measurement import PERCENTILES, Distribution, Interval, percentile_name
from runtimes.request_columns import Floats, Ints, RequestColumns, Truths, per_request
from runtimes.slo import SloLimit

MAX_WHOLE_SHARE = 0.05
"""Of the requests of several tokens, those whose content came at one instant; with more of them a
stage is flagged `not_streamed`."""
STREAMED_METRICS = frozenset({"tpot_ms", "itl_ms"})
"""Latencies that a request has only where its content was streamed."""
INTERVAL_PERCENTILES = (50.0, 90.0, 95.0, 99.0)
"""Percentiles of each latency that get a confidence interval, as its mean does."""


@dataclass(frozen=True, slots=True, eq=False)
class Latency:
    """All values of one latency, and what each request, in order of the schedule, adds to them.

    Attributes:
        values: of one request after the other.
        counts: values of each request.
        stay: requests of a mean request's length, which is how far neighbours are correlated.
    """

    values: Floats
    ordered: Floats
    counts: Ints
    stay: float

    @classmethod
    def of(cls, values: Floats, counts: Ints, stay: float) -> Latency:
        return cls(values, np.sort(values), counts, stay)

    def distribution(self) -> Distribution | None:
        if not len(self.ordered):
            return None
        figures = of_sorted(self.ordered, PERCENTILES)
        return Distribution(
            count=len(self.ordered),
            mean=float(self.values.mean()),
            max=float(self.ordered[-1]),
            min=float(self.ordered[0]),
            **{percentile_name(p): value for p, value in zip(PERCENTILES, figures, strict=True)},
        )

    def statistic(self, limit: SloLimit) -> float | None:
        if not len(self.ordered):
            return None
        if limit.percentile is None:
            return float(self.values.mean())
        return of_sorted(self.ordered, [limit.percentile])[0]

    def intervals(self) -> Mapping[str, Interval | None]:
        """By statistic; none where there are too few requests."""
        some = self.counts[self.counts > 0]
        if len(some) < MIN_UNITS:
            return {}
        offsets = np.concatenate([[0], np.cumsum(some)])
        counts = some.astype(np.float64)
        resampling = Resampling(len(some), block_length(len(some), self.stay))
        found = {"mean": resampling.ratio(per_request(self.values, offsets), counts)}
        ends = of_sorted(self.ordered, INTERVAL_PERCENTILES)
        for percentile, end in zip(INTERVAL_PERCENTILES, ends, strict=True):
            at_most = per_request(self.values <= end, offsets)
            name = percentile_name(percentile)
            found[name] = resampling.percentile(self.ordered, at_most, counts, percentile)
        return found


def latencies_of(columns: RequestColumns, within: tuple[int, int]) -> Mapping[str, Latency]:
    """Each latency of the completed requests that were scheduled in the window.

    Args:
        columns: requests in order of their schedule.
        within: the window's two ends on the records' clock, inclusive.
    """
    scheduled_ns, sent_ns, end_ns = columns.scheduled_ns, columns.sent_ns, columns.end_ns
    chosen = columns.completed & (scheduled_ns >= within[0]) & (scheduled_ns <= within[1])
    # Little's law: the mean number in flight is the number that come during a mean stay.
    stay = float((end_ns - sent_ns)[chosen].sum()) / max(within[1] - within[0], 1)

    def of_requests(values_ns: Ints | Floats, having: Truths) -> Latency:
        some = having & chosen
        return Latency.of(values_ns[some] / 1e6, some.astype(np.int64), stay)

    content, every = columns.chunks > 0, np.ones(len(end_ns), dtype=np.bool_)
    streamed = columns.streamed & chosen
    gaps = columns.gap_counts() * streamed
    return {
        "ttft_ms": of_requests(columns.first_content_ns - sent_ns, content),
        "ttft_scheduled_ms": of_requests(columns.first_content_ns - scheduled_ns, content),
        "tpot_ms": of_requests(_tpot_ns(columns), _has_tpot(columns)),
        "itl_ms": Latency.of(columns.gaps_ms(streamed), gaps, stay),
        "e2e_ms": of_requests(end_ns - sent_ns, every),
        "e2e_scheduled_ms": of_requests(end_ns - scheduled_ns, every),
    }


def came_whole(columns: RequestColumns) -> bool:
    """Whether more than `MAX_WHOLE_SHARE` of the answers of several tokens came at one instant.

    Then something between the engine and the client held them back (a proxy that buffers, a server
    that does not stream), and neither TTFT nor the time of a token is the engine's.
    """
    several = columns.completed & columns.several & (columns.chunks > 0)
    whole = several & ~columns.streamed
    return bool(whole.sum() > MAX_WHOLE_SHARE * several.sum())


def good_requests(columns: RequestColumns, limits_ms: Mapping[str, float]) -> Truths:
    """Completed requests within every limit, each as `within_limit` says."""
    good = columns.completed.copy()
    for metric, limit_ms in limits_ms.items():
        good &= within_limit(columns, metric, limit_ms)
    return good


def within_limit(columns: RequestColumns, metric: str, limit_ms: float) -> Truths:
    """Completed requests whose `metric` is at most `limit_ms`.

    A value that a request cannot have passes, such as the TPOT of a single token; one that it has
    but nobody knows does not, such as that of an answer that came whole.

    The mean of its gaps stands for one request's ITL: a pooled percentile has no meaning there.
    """
    sent_ns, end_ns, content = columns.sent_ns, columns.end_ns, columns.chunks > 0
    gaps = columns.gap_counts()
    spread_ns = columns.last_content_ns - columns.first_content_ns
    itl_ms = spread_ns / np.maximum(gaps, 1) / 1e6
    # Of each latency: its values, whether they are known, whether the request has one at all.
    values_ms = {
        "ttft_ms": ((columns.first_content_ns - sent_ns) / 1e6, content, content),
        "tpot_ms": (_tpot_ns(columns) / 1e6, _has_tpot(columns), columns.several),
        "itl_ms": (itl_ms, columns.streamed & (gaps > 0), columns.several),
        "e2e_ms": ((end_ns - sent_ns) / 1e6, columns.completed, columns.completed),
    }
    value_ms, known, has = values_ms[metric]
    return np.asarray(columns.completed & np.where(known, value_ms <= limit_ms, ~has))


def _has_tpot(columns: RequestColumns) -> Truths:
    return columns.streamed & (columns.output_tokens > 1)


def _tpot_ns(columns: RequestColumns) -> Floats:
    """(last − first content) / (output tokens − 1); meaningless below two tokens."""
    spread_ns = columns.last_content_ns - columns.first_content_ns
    return np.asarray(spread_ns / np.maximum(columns.output_tokens - 1, 1))
