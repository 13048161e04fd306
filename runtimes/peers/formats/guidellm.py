"""GuideLLM's JSON report (schema version 2, GuideLLM 0.8.1): one result a benchmark.

Its TTFT is ours. What it calls inter-token latency is our TPOT, and what it calls time per output
token has the first token in it: that one is not taken, and our ITL, of gaps between chunks, cannot
be had, since it keeps the times of a request's first and last token alone. Requests that it cut off
at the end of a benchmark are neither completed nor failed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from runtimes.measurement import Distribution, Measurement, RequestRecord
from runtimes.peers.fields import Fields
from runtimes.peers.figures import from_records, from_totals
from runtimes.peers.result import RESULT_FORMATS, PeerResult, ResultFormat

_PERCENTILES = {
    "p0_1": "p001", "p1": "p01", "p5": "p05", "p10": "p10", "p25": "p25", "p75": "p75",
    "p99_9": "p999",
}  # fmt: skip
"""Our name of a percentile → GuideLLM's."""
_UNLIMITED_RATE = "throughput"


@RESULT_FORMATS.register("guidellm")
class GuideLlmFormat(ResultFormat):
    name: ClassVar[str] = "guidellm"
    keys: ClassVar[frozenset[str]] = frozenset({"metadata", "config", "benchmarks"})

    def read(self, document: Fields) -> list[PeerResult]:
        version = document.section("metadata").find_text("guidellm_version") or ""
        return [
            _result(document, benchmark, version) for benchmark in document.sections("benchmarks")
        ]


def _result(document: Fields, benchmark: Fields, version: str) -> PeerResult:
    metrics, clock = benchmark.section("metrics"), benchmark.section("scheduler_metrics")
    requests = benchmark.section("requests")
    records = tuple(_records(requests))
    counts = metrics.section("request_totals")
    # With `sample_size` a report keeps some of its requests only; figures come from its own then.
    expected = counts.count("successful") + (counts.find_count("errored") or 0)
    complete = bool(records) and len(records) == expected
    load, value = _load(benchmark.section("config").section("strategy"), expected)
    return PeerResult(
        tool=GuideLlmFormat.name,
        model=_model(document, benchmark),
        load=load,
        load_value=value,
        started_unix_s=clock.number("measure_start_time"),
        ended_unix_s=clock.number("measure_end_time"),
        measurement=_measured(requests, records) if complete else _totals(metrics, clock),
        records=records if complete else (),
        facts={"guidellm": version} if version else {},
    )


def _model(document: Fields, benchmark: Fields) -> str:
    """The one that was asked for; empty where it was left to the server."""
    spec = document.section("config").find_section("spec")
    configured = spec.find_section("backend").find_text("model")
    used = benchmark.section("config").find_section("backend").find_text("model")
    return used or configured or ""


def _load(strategy: Fields, requests: int) -> tuple[str, float]:
    kind = strategy.text("type_")
    if kind == "synchronous":
        return "concurrency", 1.0
    if kind == "concurrent":
        return "concurrency", strategy.number("streams")
    if kind == _UNLIMITED_RATE:
        return "concurrency", strategy.find_number("max_concurrency") or float(requests)
    if kind in ("constant", "poisson"):
        return kind, strategy.number("rate")
    if kind == "trace":
        return "replay", 1.0 / strategy.number("time_scale")
    raise strategy.wrong("type_", "a strategy of GuideLLM 0.8 (synchronous, concurrent, …)")


def _totals(metrics: Fields, clock: Fields) -> Measurement:
    counts = metrics.section("request_totals")
    started, ended = clock.number("measure_start_time"), clock.number("measure_end_time")
    return from_totals(
        completed=counts.count("successful"),
        failed=counts.find_count("errored") or 0,
        duration_s=ended - started,
        input_tokens=round(_sum(metrics, "prompt_token_count")),
        output_tokens=round(_sum(metrics, "output_token_count")),
        latencies={
            "ttft_ms": _summary(metrics, "time_to_first_token_ms"),
            "tpot_ms": _summary(metrics, "inter_token_latency_ms"),
            "e2e_ms": _summary(metrics, "request_latency", scale=1e3),
        },
    )


def _sum(metrics: Fields, name: str) -> float:
    return metrics.section(name).find_section("successful").find_number("total_sum") or 0.0


def _summary(metrics: Fields, name: str, *, scale: float = 1.0) -> Distribution | None:
    found = metrics.section(name).find_section("successful")
    if not (found.find_count("count") or 0):
        return None
    at = found.section("percentiles")
    others = {ours: scale * at.number(theirs) for ours, theirs in _PERCENTILES.items()}
    return Distribution(
        count=found.count("count"),
        mean=scale * found.number("mean"),
        p50=scale * at.number("p50"),
        p90=scale * at.number("p90"),
        p95=scale * at.number("p95"),
        p99=scale * at.number("p99"),
        max=scale * found.number("max"),
        min=scale * found.number("min"),
        **others,
    )


def _records(requests: Fields) -> list[RequestRecord]:
    found: list[RequestRecord] = []
    for status in ("successful", "errored"):
        if requests.values.get(status) is None:
            continue
        for request in requests.sections(status):
            found.append(_record(request, len(found), failed=status == "errored"))
    return found


def _record(request: Fields, index: int, *, failed: bool) -> RequestRecord:
    info = request.section("info")
    times = info.section("timings")
    started = times.find_number("request_start") or times.number("resolve_start")
    first, last = (
        times.find_number("first_token_iteration"),
        times.find_number("last_token_iteration"),
    )
    scheduled = times.find_number("targeted_start")
    output = request.section("output_metrics").find_count("text_tokens")
    if output is None:
        output = times.find_count("token_iterations") or None
    content = () if first is None or last is None else (_ns(first), _ns(last))
    return RequestRecord(
        index=index,
        # A closed loop has no schedule; its targets are the benchmark's start.
        scheduled_ns=_ns(started if scheduled is None else min(scheduled, started)),
        sent_ns=_ns(started),
        chunk_ns=content[:1] if output == 1 else content,
        end_ns=_ns(times.find_number("request_end") or times.number("resolve_end")),
        prompt_tokens=request.section("input_metrics").find_count("text_tokens"),
        output_tokens=output,
        requested_output_tokens=output or 0,
        error=(info.find_text("error") or "failed")[:200] if failed else None,
        cached_tokens=request.section("input_metrics").find_count("cached_tokens"),
        turn=info.find_count("turn_index") or 0,
    )


def _measured(requests: Fields, records: Sequence[RequestRecord]) -> Measurement:
    """Our statistics, with a request's tokens spread evenly from its first to its last."""
    spread = []
    for record in records:
        tokens = record.output_tokens or 0
        if len(record.chunk_ns) == 2 and tokens > 2:
            first, last = record.chunk_ns
            even = tuple(np.linspace(first, last, num=tokens).astype(np.int64).tolist())
            spread.append(replace(record, chunk_ns=even))
        else:
            spread.append(record)
    measured = from_records(spread)
    intervals = {
        name: interval
        for name, interval in measured.intervals.items()
        if not name.startswith("itl_")
    }
    return replace(measured, itl_ms=None, intervals=intervals, tokens_per_chunk=None)


def _ns(unix_s: float) -> int:
    return round(unix_s * 1e9)
