"""Records of one load stage, made into the figures that are kept and judged.

`runtimes.transients` says which part of a stage counts, `runtimes.latencies` and `runtimes.rates`
what it comes to, `runtimes.bootstrap` how sure that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from runtimes.client_limits import limits_exceeded, shortages
from runtimes.latencies import (
    STREAMED_METRICS,
    Latency,
    came_whole,
    good_requests,
    latencies_of,
)
from runtimes.load.arrivals import Load
from runtimes.load.result import LoadResult
from runtimes.measurement import ClientHealth, Interval, Measurement, RequestRecord, Window
from runtimes.rates import Rates
from runtimes.request_columns import RequestColumns
from runtimes.slo import Slo, SloVerdict
from runtimes.transients import measured_window

MIN_OUTPUT_RATIO = 0.99
"""Below this share of the requested output tokens a measurement is flagged `short_output`."""
MAX_OUTPUT_RATIO = 1.01
"""Above it, `long_output`."""
_HOPELESS = "hopeless"


def summarise(result: LoadResult, slo: Slo, load: Load | None = None) -> Measurement:
    """Figures of a stage: everything but counts of failures is over completed requests.

    Counts are of the whole stage. Throughputs are per second of the window: requests and their
    tokens count where chunks come (a request's tokens are spread evenly over its chunks unless the
    server says how many each holds). Goodput and attainment count requests of an open loop where
    they were scheduled (`runtimes.rates`).
    Latencies are of the requests that were scheduled within the window. ITL is every gap between
    content chunks, pooled over requests (`RequestColumns.gaps_ms`); the others are one value a
    request (`RequestRecord`). Where nothing completed, distributions and the window are None and
    figures 0. Tokens and their throughputs are None where a completed request carried no count.

    Intervals are of 95 %: a block bootstrap over requests in order of their schedule for
    latencies, over bins of time for throughputs and goodput; Wilson's for `slo_attainment`.

    What a stage abandoned as hopeless is in no figure: those of the requests that ended before are
    too good. Where by them every limit holds, each verdict says that nothing was measured.

    Flags: `request_errors` when a request failed, `usage_missing` when a completed one carried no
    count of its prompt's or its output's tokens, `short_output` and `long_output` as
    `MIN_OUTPUT_RATIO` and `MAX_OUTPUT_RATIO` say of those that carried one, `not_streamed` as
    `latencies.came_whole` says, `client_limited` as `runtimes.client_limits`, `not_steady` as
    `runtimes.transients`. What is not streamed meets no limit on TPOT or ITL.

    Args:
        result: every request that was started; what ended a load early does not matter.
        slo: what makes a request good, and what is judged.
        load: what was sent; without it, an open loop.
    """
    records = sorted(result.records, key=lambda record: record.scheduled_ns)
    completed = [record for record in records if record.error is None]
    columns = RequestColumns.of(records)
    closed_loop = load is not None and load.held(0.0) is not None
    window, within = _window(columns, records, result, closed_loop=closed_loop)
    latencies = latencies_of(columns, within)
    distributions = {name: latency.distribution() for name, latency in latencies.items()}
    good = good_requests(columns, slo.request_limits_ms())
    rates = Rates.of(columns, good, within, closed_loop=closed_loop)
    per_second = rates.per_second()
    ttft, itl = distributions["ttft_ms"], distributions["itl_ms"]
    health = result.client or _lateness_alone(columns)
    limits = shortages(record.error for record in records)
    if completed:  # otherwise there is no figure that the client could have spoilt
        limits += limits_exceeded(
            health,
            None if ttft is None else ttft.p50,
            None if itl is None else itl.mean,
        )
    whole = came_whole(columns)
    return Measurement(
        requests_completed=len(completed),
        requests_failed=len(records) - len(completed),
        duration_s=_duration_s(columns),
        input_tokens=_total(record.prompt_tokens for record in completed),
        output_tokens=_total(record.output_tokens for record in completed),
        requested_output_tokens=sum(record.requested_output_tokens for record in completed),
        ttft_ms=ttft,
        tpot_ms=distributions["tpot_ms"],
        itl_ms=itl,
        e2e_ms=distributions["e2e_ms"],
        request_throughput=per_second["request_throughput"],
        input_throughput=per_second.get("input_throughput"),
        output_throughput=per_second.get("output_throughput"),
        total_throughput=per_second.get("total_throughput"),
        goodput=per_second["goodput"],
        slo=_verdicts(slo, latencies, result, streamed=not whole),
        flags=_flags(records, completed, limits, window, whole=whole),
        ttft_scheduled_ms=distributions["ttft_scheduled_ms"],
        e2e_scheduled_ms=distributions["e2e_scheduled_ms"],
        slo_attainment=rates.attainment,
        tokens_per_chunk=_tokens_per_chunk(columns),
        sent_prompt_tokens=_total(record.sent_tokens for record in completed) or 0,
        template_tokens=_template_tokens(completed),
        shared_prompt_tokens=sum(record.shared_tokens for record in completed),
        cached_prompt_tokens=_cached_tokens(completed),
        window=window,
        client=result.client,
        intervals=_intervals(latencies, rates),
        stopped_by=result.stopped_by,
        client_limits=tuple(limits),
    )


def _window(
    columns: RequestColumns,
    records: Sequence[RequestRecord],
    result: LoadResult,
    *,
    closed_loop: bool,
) -> tuple[Window | None, tuple[int, int]]:
    """The stage's window and its two ends on the records' clock; None where nothing completed."""
    if not records:
        return None, (0, 0)
    last_ns = result.last_arrival_ns
    if last_ns is None:
        arrivals_ns = columns.sent_ns if closed_loop else columns.scheduled_ns
        first_turns = np.array([record.turn == 0 for record in records])
        last_ns = int(arrivals_ns[first_turns].max(initial=arrivals_ns.min()))
    window, start_ns, end_ns = measured_window(columns, last_ns)
    return window if columns.completed.any() else None, (start_ns, end_ns)


def _verdicts(
    slo: Slo, latencies: Mapping[str, Latency], result: LoadResult, *, streamed: bool
) -> tuple[SloVerdict, ...]:
    found = tuple(
        SloVerdict(
            limit,
            latencies[limit.metric].statistic(limit)
            if streamed or limit.metric not in STREAMED_METRICS
            else None,
        )
        for limit in slo.limits
    )
    if result.stopped_by == _HOPELESS and all(verdict.met for verdict in found):
        return tuple(SloVerdict(verdict.limit, None) for verdict in found)
    return found


def _intervals(latencies: Mapping[str, Latency], rates: Rates) -> dict[str, Interval]:
    found = dict(rates.intervals())
    for name, latency in latencies.items():
        metric = name.removesuffix("_ms")
        found |= {f"{metric}_{key}_ms": value for key, value in latency.intervals().items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def _duration_s(columns: RequestColumns) -> float:
    """First scheduled send to last end, of all requests, the failed ones included."""
    if not len(columns.end_ns):
        return 0.0
    return int(columns.end_ns.max() - columns.scheduled_ns.min()) / 1e9


def _tokens_per_chunk(columns: RequestColumns) -> float | None:
    """Of the completed requests whose tokens are known."""
    known = columns.completed & (columns.output_tokens > 0)
    chunks = int(columns.chunks[known].sum())
    return int(columns.output_tokens[known].sum()) / chunks if chunks else None


def _total(counts: Iterable[int | None]) -> int | None:
    """None where one of them is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _template_tokens(completed: Sequence[RequestRecord]) -> int | None:
    """As `Measurement.template_tokens`: a sum would grow with the turns of the chats that came."""
    return min(
        (
            record.prompt_tokens - record.content_tokens
            for record in completed
            if record.prompt_tokens is not None and record.content_tokens is not None
        ),
        default=None,
    )


def _cached_tokens(completed: Sequence[RequestRecord]) -> int | None:
    """Servers leave the count out of a request's `usage` where it is 0."""
    cached = [record.cached_tokens for record in completed if record.cached_tokens is not None]
    return sum(cached) if cached else None


def _lateness_alone(columns: RequestColumns) -> ClientHealth:
    """What the records themselves tell of the client, where nothing else does."""
    late_ms = (columns.sent_ns - columns.scheduled_ns)[columns.completed] / 1e6
    return ClientHealth(
        send_lateness_p99_ms=float(np.percentile(late_ms, 99)) if len(late_ms) else 0.0
    )


def _flags(
    records: Sequence[RequestRecord],
    completed: Sequence[RequestRecord],
    limits: Sequence[str],
    window: Window | None,
    *,
    whole: bool,
) -> tuple[str, ...]:
    counted = [record for record in completed if record.output_tokens is not None]
    received = sum(record.output_tokens or 0 for record in counted)
    requested = sum(record.requested_output_tokens for record in counted)
    found = {
        "request_errors": len(completed) < len(records),
        "usage_missing": any(
            None in (record.prompt_tokens, record.output_tokens) for record in completed
        ),
        "short_output": received < MIN_OUTPUT_RATIO * requested,
        "long_output": received > MAX_OUTPUT_RATIO * requested,
        "not_streamed": whole,
        "client_limited": bool(limits),
        "not_steady": window is not None and not window.steady,
    }
    return tuple(flag for flag, holds in found.items() if holds)
