"""Measurements made of what other tools say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from runtimes.latencies import Latency
from runtimes.load.result import LoadResult
from runtimes.measurement import Distribution, Measurement, RequestRecord
from runtimes.slo import Slo
from runtimes.statistics import summarise

_FOREIGN = frozenset({"client_limited", "long_output", "short_output", "usage_missing"})
"""Flags that rest on our client's health, on what was asked for and on `usage`, none of which
these files hold."""


def from_records(records: Sequence[RequestRecord]) -> Measurement:
    """Our own statistics of the tool's requests, window and intervals included."""
    result = LoadResult(
        tuple(records),
        min((record.scheduled_ns for record in records), default=0),
        max((record.end_ns for record in records), default=0),
        0.0,
    )
    measured = summarise(result, Slo())
    flags = tuple(flag for flag in measured.flags if flag not in _FOREIGN)
    return replace(measured, flags=flags, client_limits=())


def distribution_of(values_ms: Iterable[float]) -> Distribution | None:
    """Of one value a request; None without any."""
    values = np.fromiter(values_ms, dtype=np.float64)
    return Latency.of(values, np.ones(len(values), dtype=np.int64), 1.0).distribution()


def from_totals(
    *,
    completed: int,
    failed: int,
    duration_s: float,
    input_tokens: int,
    output_tokens: int,
    latencies: Mapping[str, Distribution | None],
) -> Measurement:
    """Figures of a whole run, without a window: rates are totals over its duration."""
    per_s = 1.0 / duration_s if duration_s > 0 else 0.0
    return Measurement(
        requests_completed=completed,
        requests_failed=failed,
        duration_s=duration_s,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        requested_output_tokens=0,
        ttft_ms=latencies.get("ttft_ms"),
        tpot_ms=latencies.get("tpot_ms"),
        itl_ms=latencies.get("itl_ms"),
        e2e_ms=latencies.get("e2e_ms"),
        request_throughput=completed * per_s,
        input_throughput=input_tokens * per_s,
        output_throughput=output_tokens * per_s,
        total_throughput=(input_tokens + output_tokens) * per_s,
        goodput=completed * per_s,
        flags=("request_errors",) if failed else (),
    )
