"""What happened per second of a stage's window, and how sure that is.

Throughputs are of what ended, or came, in the window: what the engine did in that time.

**Goodput and attainment in an open loop** are of the requests scheduled in the window, as latencies
are. An engine that is slow carries more across the window's beginning than a fast one; by their
ends it would be credited requests that came before. Nor may the window itself, which is the
engine's own (`runtimes.transients`), choose how busy a part of the arrivals is counted: goodput is
the good share of the requests scheduled in the window, times the arrivals per second from the
stage's first one to the window's end, which are the same for every engine under the same load.

**In a closed loop** they are of the requests that end in the window. There the requests in flight
are as many at the window's beginning as at its end, whatever the engine: what is carried in is
carried out, and what comes is what ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtimes.bootstrap import MIN_UNITS, Resampling, block_length, wilson
from runtimes.measurement import Interval
from runtimes.request_columns import Floats, Ints, RequestColumns, Truths

_TIME_BINS = 200
"""Bins of the window that throughputs are resampled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """What happened in each bin of the window, by name of the rate; `length_s` is the window's.

    Attributes:
        stay_s: mean time from the send to the end.
        good, judged: requests that count for the attainment, as this module's docstring says.
    """

    bins: Mapping[str, Floats]
    length_s: float
    stay_s: float
    good: int
    judged: int

    @classmethod
    def of(
        cls,
        columns: RequestColumns,
        good: Truths,
        within: tuple[int, int],
        *,
        closed_loop: bool = False,
    ) -> Rates:
        completed = columns.completed
        outside = completed & (columns.chunks == 0)
        output = columns.chunk_output * np.repeat(completed, columns.chunks)
        requests = _binned(columns.end_ns, completed, within)
        inputs = _binned(columns.first_content_ns, columns.prompt_tokens * completed, within)
        outputs = _binned(columns.chunk_ns, output, within)
        outputs += _binned(columns.end_ns, columns.output_tokens * outside, within)
        ended = _inside(columns.end_ns, within)
        judged = ended if closed_loop else _inside(columns.scheduled_ns, within)
        goods = _binned(columns.end_ns if closed_loop else columns.scheduled_ns, good, within)
        if not closed_loop:
            goods *= _arrivals(columns.scheduled_ns, within) / max(judged.sum(), 1)
        stay_ns = (columns.end_ns - columns.sent_ns)[ended & completed]
        return cls(
            {
                "request_throughput": requests,
                "input_throughput": inputs,
                "output_throughput": outputs,
                "total_throughput": inputs + outputs,
                "goodput": goods,
            },
            length_s=(within[1] - within[0]) / 1e9,
            stay_s=float(stay_ns.mean()) / 1e9 if len(stay_ns) else 0.0,
            good=int((good & judged).sum()),
            judged=int(judged.sum()),
        )

    @property
    def attainment(self) -> float | None:
        return self.good / self.judged if self.judged else None

    def per_second(self) -> Mapping[str, float]:
        per_s = 1.0 / self.length_s if self.length_s > 0 else 0.0
        return {name: float(bins.sum()) * per_s for name, bins in self.bins.items()}

    def intervals(self) -> Mapping[str, Interval | None]:
        """By rate; none where fewer than `MIN_UNITS` requests ended."""
        found = {"slo_attainment": wilson(self.good, self.judged)}
        if self.length_s <= 0 or self.bins["request_throughput"].sum() < MIN_UNITS:
            return found
        width_s = self.length_s / _TIME_BINS
        resampling = Resampling(_TIME_BINS, block_length(_TIME_BINS, self.stay_s / width_s))
        seconds = np.full(_TIME_BINS, width_s)
        return found | {name: resampling.ratio(bins, seconds) for name, bins in self.bins.items()}


def _arrivals(scheduled_ns: Ints, within: tuple[int, int]) -> float:
    """Arrivals of as long a time as the window, at the mean rate from the first to its end.

    An arrival at the very end begins a gap that is not in that time.
    """
    start_ns, end_ns = within
    first_ns = int(scheduled_ns.min(initial=end_ns))
    came = int((scheduled_ns < end_ns).sum())
    return came * (end_ns - start_ns) / max(end_ns - first_ns, 1)


def _inside(at_ns: Ints, within: tuple[int, int]) -> Truths:
    return (at_ns >= within[0]) & (at_ns <= within[1])


def _binned(at_ns: Ints, weights: Ints | Floats | Truths, within: tuple[int, int]) -> Floats:
    """Sum of the weights in each of `_TIME_BINS` bins of the window, both ends included."""
    start_ns, end_ns = within
    inside = _inside(at_ns, within)
    bins = (at_ns[inside] - start_ns) * _TIME_BINS // max(end_ns - start_ns, 1)
    weighed = weights[inside].astype(np.float64)
    sums = np.bincount(np.minimum(bins, _TIME_BINS - 1), weighed, minlength=_TIME_BINS)
    return sums.astype(np.float64)  # of nothing numpy makes integers
