"""Requests, records and figures for the tests of metrics, and a reader of what is exposed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtimes.measurement import RequestRecord
from runtimes.request_counts import RequestCounts
from runtimes.slo import Slo
from tracking.exporter import Exporter
from tracking.run_data import Goal

_LINE = re.compile(r"^(?P<series>[^#\s]\S*?(?:\{.*?\})?) (?P<value>\S+)")


def request(
    index: int = 0,
    *,
    ttft_ms: float | None = 100.0,
    tpot_ms: float = 20.0,
    e2e_ms: float | None = None,
    tokens: int = 3,
    error: str | None = None,
) -> RequestRecord:
    """A request whose tokens came evenly; `ttft_ms` None for one that got none."""
    begin_ns = index * 10_000_000
    chunks = (
        []
        if ttft_ms is None
        else [begin_ns + round((ttft_ms + i * tpot_ms) * 1e6) for i in range(tokens)]
    )
    last_ns = chunks[-1] if chunks else begin_ns
    return RequestRecord(
        index=index,
        scheduled_ns=begin_ns,
        sent_ns=begin_ns,
        chunk_ns=chunks,
        end_ns=last_ns if e2e_ms is None else begin_ns + round(e2e_ms * 1e6),
        prompt_tokens=16,
        output_tokens=len(chunks),
        requested_output_tokens=tokens,
        error=error,
    )


def counts(*requests: RequestRecord, slo: Slo | None = None) -> RequestCounts:
    return RequestCounts.of(requests or [request()], slo or Slo())


def exporter_of(*engines: str, slo: Slo | None = None, capacity_gpus: int = 8) -> Exporter:
    """An exporter that has seen nothing."""
    return Exporter(
        run="demo-20260101T000000Z-abcd",
        name="demo",
        model="meta-llama/Llama-3.1-8B",
        goals=[Goal("goodput_per_gpu", "maximize")],
        slo=slo or Slo(),
        capacity_gpus=capacity_gpus,
        version="1.2.3",
        sampler="tpe",
        engines=engines,
    )


def exposed(text: str) -> dict[str, float]:
    """Value by series of an exposition, exemplars left out."""
    found = (_LINE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return {match["series"]: float(match["value"]) for match in found if match}


def fallen(before: dict[str, float], after: dict[str, float], kinds: Sequence[str]) -> list[str]:
    """Series that end like one of `kinds` and whose value fell, or that went away."""
    return [
        series
        for series, value in before.items()
        if series.partition("{")[0].endswith(tuple(kinds)) and after.get(series, -1.0) < value
    ]
