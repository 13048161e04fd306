"""What happened per second of a stage's window, and how sure that is.

**Throughputs** are of what the engine did in the window. A request, its prompt and its output all
count in shares, as its output tokens come: of one that has sent half of its tokens by the window's
end, half counts. In a steady load that is as many as end, since each request has one whole to give;
but where requests run in waves, as in a closed loop, a window would else hold one wave more or less
of their ends, while the engine works evenly all the time.

**Goodput and attainment in an open loop** are of the requests scheduled in the window, as latencies
are. An engine that is slow carries more across the window's beginning than a fast one; by their
ends it would be credited requests that came before. Nor may the window itself, which is the
engine's own (`runtimes.transients`), choose how busy a part of the arrivals is counted: goodput is
the good share of the requests scheduled in the window, times the arrivals per second from the
stage's first one to the window's end, which are the same for every engine under the same load.

**In a closed loop** goodput is the throughput of good requests, and attainment is of the requests
that end in the window. There the requests in flight are as many at the window's beginning as at its
end, whatever the engine: what is carried in is carried out, and what comes is what ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtimes.bootstrap import MIN_UNITS, Resampling, block_length, wilson
from runtimes.measurement import Interval
from runtimes.request_columns import Floats, Ints, RequestColumns, Truths, per_request

_TIME_BINS = 200
"""Bins of the window that throughputs are resampled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """What happened in each bin of the window, by name of the rate; `length_s` is the window's.

    Attributes:
        bins: without the rates of tokens that `usage` does not count for every request.
        stay_s: mean time from the send to the end.
        ended: completed requests that ended in the window.
        good, judged: requests that count for the attainment, as this module's docstring says.
    """

    bins: Mapping[str, Floats]
    length_s: float
    stay_s: float
    ended: int
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
        shares = _Shares.of(columns, within)
        bins = {"request_throughput": shares.binned(completed)}
        if columns.prompt_counted[completed].all():
            bins["input_throughput"] = shares.binned(columns.prompt_tokens * completed)
        if columns.output_counted[completed].all():
            bins["output_throughput"] = shares.binned(columns.output_tokens * completed)
        if {"input_throughput", "output_throughput"} <= bins.keys():
            bins["total_throughput"] = bins["input_throughput"] + bins["output_throughput"]
        ended = _inside(columns.end_ns, within)
        judged = ended if closed_loop else _inside(columns.scheduled_ns, within)
        if closed_loop:
            bins["goodput"] = shares.binned(good)
        else:
            arrivals = _arrivals(columns.scheduled_ns, within) / max(judged.sum(), 1)
            bins["goodput"] = _binned(columns.scheduled_ns, good, within) * arrivals
        stay_ns = (columns.end_ns - columns.sent_ns)[ended & completed]
        return cls(
            bins,
            length_s=(within[1] - within[0]) / 1e9,
            stay_s=float(stay_ns.mean()) / 1e9 if len(stay_ns) else 0.0,
            ended=len(stay_ns),
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
        if self.length_s <= 0 or self.ended < MIN_UNITS:
            return found
        width_s = self.length_s / _TIME_BINS
        stay = self.stay_s / width_s
        resampling = Resampling(_TIME_BINS, block_length(_TIME_BINS, stay), spread=stay)
        seconds = np.full(_TIME_BINS, width_s)
        return found | {name: resampling.ratio(bins, seconds) for name, bins in self.bins.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """Where each request counts, and how much of it: at its chunks, or at its end without any."""

    at_ns: Ints
    request: Ints
    share: Floats
    within: tuple[int, int]

    @classmethod
    def of(cls, columns: RequestColumns, within: tuple[int, int]) -> _Shares:
        whole = np.flatnonzero(per_request(columns.chunk_share, columns.offsets) == 0)
        streamed = np.repeat(np.arange(len(columns.end_ns)), columns.chunks)
        return cls(
            np.concatenate([columns.chunk_ns, columns.end_ns[whole]]),
            np.concatenate([streamed, whole]),
            np.concatenate([columns.chunk_share, np.ones(len(whole))]),
            within,
        )

    def binned(self, weights: Ints | Truths) -> Floats:
        """Sum, in each bin of the window, of the weights of the requests, in shares."""
        return _binned(self.at_ns, self.share * weights[self.request], self.within)


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
