"""When the load generator, not the engine, may have been what a stage measured.

The limits are chosen so that what they let pass changes a reported mean by about 1 %, or by about a
millisecond where that is more:

- `MAX_CPU_SHARE`: a loop that is busy for a share u of the time lets an event wait for
  u / (1 − u) / 2 services (Pollaczek-Khinchine, even services). Up to 0.8 that is two services,
  some 20 µs; beyond it grows without bound, and a fifth is left for bursts.
- `MAX_LAG_MS`, `MAX_LAG_SHARE`: every arrival is stamped late by the loop's lag. Where lags are
  spread as widely as exponential ones, their mean is p99 / ln 100, so that p99 at 5 ms is a mean of
  1.1 ms, and p99 at 5 % of the median TTFT a mean of 1.1 % of it. Rarer, longer lags have a smaller
  mean beside their p99.
- `MAX_LAG_GAPS`: of chunks that come in between, the mean gap stays what it is, but a lag lengthens
  one gap and shortens those after it. A TTFT that is long because requests queue says nothing of
  how short gaps are, so that it excuses no lag of more than half of a gap.
- `MIN_HELD`: throughput follows concurrency at most proportionally: 2 % fewer streams are at most
  2 % of it.
- `MAX_LATENESS_MS`, `MAX_LAG_SHARE`: a late send shifts the load and the latencies from the
  schedule, not those from the send, so that the bound is twice that of the lag. A connection that
  is opened in the middle of a stage delays the request that waits for it: the lateness holds its
  cost, and `connections_opened` needs no limit of its own.

A request that could not be sent because the client's own machine had no connection left for it is
no failure of the server either (`shortage_reason`): one of them is too many.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable

from runtimes.measurement import ClientHealth

MAX_CPU_SHARE = 0.8
"""CPU time of the busiest process over the stage's duration."""
MAX_LAG_MS = 5.0
"""p99 of the event loop's lag, or `MAX_LAG_SHARE` of the median TTFT where that is more, up to
`MAX_LAG_GAPS` of the mean ITL."""
MAX_LATENESS_MS = 10.0
"""p99 of sent minus scheduled, or `MAX_LAG_SHARE` of the median TTFT where that is more."""
MAX_LAG_SHARE = 0.05
MAX_LAG_GAPS = 0.5
MIN_HELD = 0.98
"""Mean requests in flight of a closed loop over those asked for."""

_SHORT_OF = "client limit: "
_MEMORY = "free memory on the machine that sends the load"
_SHORTAGES = {
    errno.EMFILE: "raise the hard limit on open files (`ulimit -Hn`) where the load is sent",
    errno.ENFILE: "raise `fs.file-max` on the machine that sends the load",
    errno.EADDRNOTAVAIL: (
        "widen `net.ipv4.ip_local_port_range` on the machine that sends the load, or send fewer "
        "requests at once"
    ),
    errno.ENOBUFS: _MEMORY,
    errno.ENOMEM: _MEMORY,
}
"""What to do where a connection cannot be made for want of something on this side of it."""
_REMEDIES = {_SHORT_OF + os.strerror(code): remedy for code, remedy in _SHORTAGES.items()}


def shortage_reason(code: int | None) -> str | None:
    """The error of a request that met `code` of `errno` when connecting, for the record.

    None where the code says nothing of this machine.
    """
    return _SHORT_OF + os.strerror(code) if code in _SHORTAGES else None


def shortage_remedy(error: str | None) -> str | None:
    """What to do about a request's `error`; None where it is none of `shortage_reason`."""
    return None if error is None else _REMEDIES.get(error)


def shortages(errors: Iterable[str | None]) -> list[str]:
    """What the client was short of in words with figures, of the errors of a stage's requests."""
    found = Counter(error for error in errors if error in _REMEDIES)
    return [
        f"it could not send {number} of its requests: {error.removeprefix(_SHORT_OF)} "
        f"({_REMEDIES[error]})"
        for error, number in found.items()
    ]


def limits_exceeded(
    health: ClientHealth, median_ttft_ms: float | None, mean_itl_ms: float | None = None
) -> list[str]:
    """What the client did not keep, in words with figures; empty when it was no limit.

    `median_ttft_ms` is None where no request had content, `mean_itl_ms` where none had two chunks.
    """
    relative_ms = MAX_LAG_SHARE * (median_ttft_ms or 0.0)
    gaps_ms = relative_ms if mean_itl_ms is None else MAX_LAG_GAPS * mean_itl_ms
    lag_ms = max(MAX_LAG_MS, min(relative_ms, gaps_ms))
    lateness_ms = max(MAX_LATENESS_MS, relative_ms)
    words = []
    if health.cpu_share > MAX_CPU_SHARE:
        words.append(
            f"its busiest process used {health.cpu_share:.0%} of a core (limit {MAX_CPU_SHARE:.0%})"
        )
    if health.lag_p99_ms > lag_ms:
        words.append(f"event loop lag p99 {health.lag_p99_ms:.1f} ms (limit {lag_ms:.1f} ms)")
    if health.held_ratio is not None and health.held_ratio < MIN_HELD:
        words.append(
            f"held {health.held_ratio:.2%} of the requests in flight (limit {MIN_HELD:.0%})"
        )
    if health.send_lateness_p99_ms > lateness_ms:
        words.append(
            f"sent late, p99 {health.send_lateness_p99_ms:.1f} ms (limit {lateness_ms:.1f} ms)"
        )
    return words
