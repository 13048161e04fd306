"""Records of one load stage, made into the figures that are kept and judged.

Percentiles are exact, of all completed requests' values, with linear interpolation between
ranks (numpy's default, type 7 of Hyndman and Fan 1996).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from runtimes.load.result import LoadResult
from runtimes.measurement import Distribution, Measurement, RequestRecord
from runtimes.slo import Slo, SloLimit, SloVerdict

MIN_OUTPUT_RATIO = 0.99
"""Below this share of the requested output tokens a measurement is flagged `short_output`."""
MAX_SEND_LATENESS_MS = 10.0
"""p99 of sent minus scheduled beyond which the client was late: flag `client_late`. In a closed
loop a request is scheduled when its predecessor ends, so that connecting and a busy loop count."""

_Values = npt.NDArray[np.float64]


def summarise(result: LoadResult, slo: Slo) -> Measurement:
    """Figures of a stage: everything but counts of failures is over completed requests.

    ITL is every gap between content chunks, pooled over requests; TTFT, TPOT and E2E are one
    value a request (`RequestRecord`). Where nothing completed, distributions are None and
    figures 0.

    Flags: `request_errors` when a request failed, `usage_missing` when a completed one carried no
    token counts (they count as 0), `short_output` and `client_late` as this module's constants say.
    """
    completed = [record for record in result.records if record.error is None]
    values = _values_ms(completed)
    duration_s = _duration_s(result.records)
    per_s = 1.0 / duration_s if duration_s > 0 else 0.0
    input_tokens = sum(record.prompt_tokens or 0 for record in completed)
    output_tokens = sum(record.output_tokens or 0 for record in completed)
    return Measurement(
        requests_completed=len(completed),
        requests_failed=len(result.records) - len(completed),
        duration_s=duration_s,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        requested_output_tokens=sum(record.requested_output_tokens for record in completed),
        ttft_ms=_distribution(values["ttft_ms"]),
        tpot_ms=_distribution(values["tpot_ms"]),
        itl_ms=_distribution(values["itl_ms"]),
        e2e_ms=_distribution(values["e2e_ms"]),
        request_throughput=len(completed) * per_s,
        input_throughput=input_tokens * per_s,
        output_throughput=output_tokens * per_s,
        total_throughput=(input_tokens + output_tokens) * per_s,
        goodput=_good(completed, slo.request_limits_ms()) * per_s,
        slo=tuple(
            SloVerdict(limit, _statistic(values[limit.metric], limit)) for limit in slo.limits
        ),
        flags=_flags(result.records, completed),
    )


def gaps_ms(record: RequestRecord) -> _Values:
    """Gaps between the record's content chunks, ms."""
    arrivals_ns = np.array(record.chunk_ns, dtype=np.int64)
    return (arrivals_ns[1:] - arrivals_ns[:-1]) / 1e6


def _values_ms(completed: Sequence[RequestRecord]) -> Mapping[str, _Values]:
    """All values of each latency metric."""
    return {
        "ttft_ms": _present(record.ttft_ms for record in completed),
        "tpot_ms": _present(record.tpot_ms for record in completed),
        "itl_ms": np.concatenate([np.empty(0), *(gaps_ms(record) for record in completed)]),
        "e2e_ms": _present(record.e2e_ms for record in completed),
    }


def _present(values: Iterable[float | None]) -> _Values:
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _distribution(values: _Values) -> Distribution | None:
    if not len(values):
        return None
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    return Distribution(len(values), float(values.mean()), p50, p90, p95, p99, float(values.max()))


def _statistic(values: _Values, limit: SloLimit) -> float | None:
    if not len(values):
        return None
    if limit.percentile is None:
        return float(values.mean())
    return float(np.percentile(values, limit.percentile))


def _duration_s(records: Sequence[RequestRecord]) -> float:
    """First scheduled send to last end, of all requests, the failed ones included."""
    if not records:
        return 0.0
    start_ns = min(record.scheduled_ns for record in records)
    return (max(record.end_ns for record in records) - start_ns) / 1e9


def _mean_gap_ms(record: RequestRecord) -> float | None:
    """What stands for one request's ITL: a pooled percentile has no meaning for one request."""
    if len(record.chunk_ns) < 2:
        return None
    return (record.chunk_ns[-1] - record.chunk_ns[0]) / (len(record.chunk_ns) - 1) / 1e6


_REQUEST_VALUE_MS: Mapping[str, Callable[[RequestRecord], float | None]] = {
    "ttft_ms": lambda record: record.ttft_ms,
    "tpot_ms": lambda record: record.tpot_ms,
    "itl_ms": _mean_gap_ms,
    "e2e_ms": lambda record: record.e2e_ms,
}


def _good(completed: Sequence[RequestRecord], limits_ms: Mapping[str, float]) -> int:
    """Completed requests within every limit; a value that a request cannot have passes."""
    return sum(
        all(
            (value := _REQUEST_VALUE_MS[metric](record)) is None or value <= limit_ms
            for metric, limit_ms in limits_ms.items()
        )
        for record in completed
    )


def _flags(records: Sequence[RequestRecord], completed: Sequence[RequestRecord]) -> tuple[str, ...]:
    flags = []
    if len(completed) < len(records):
        flags.append("request_errors")
    if any(record.output_tokens is None for record in completed):
        flags.append("usage_missing")
    received = sum(record.output_tokens or 0 for record in completed)
    requested = sum(record.requested_output_tokens for record in completed)
    if received < MIN_OUTPUT_RATIO * requested:
        flags.append("short_output")
    lateness_ms = [(record.sent_ns - record.scheduled_ns) / 1e6 for record in completed]
    if lateness_ms and np.percentile(lateness_ms, 99) > MAX_SEND_LATENESS_MS:
        flags.append("client_late")
    return tuple(flags)
