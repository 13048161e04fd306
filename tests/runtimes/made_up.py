"""Measurements of a made-up engine, for programs: whatever they ask, without an engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import TypeAlias

from runtimes.load.arrivals import Load
from runtimes.load.program import LoadProgram, StageOutcome
from runtimes.measurement import (
    PERCENTILES,
    Distribution,
    Interval,
    Measurement,
    Window,
    percentile_name,
)
from runtimes.slo import Slo, SloLimit, SloVerdict

Engine: TypeAlias = Callable[[Load], Measurement]

TTFT_SLO = Slo((SloLimit("ttft_ms", "p99", 100.0),))


def measurement(
    *,
    ttft_ms: float = 50.0,
    requests: int = 1000,
    throughput: float = 10.0,
    goodput: float | None = None,
    e2e_ms: float = 1000.0,
    slo: Slo = TTFT_SLO,
    interval: float = 0.05,
) -> Measurement:
    """A stage whose TTFT has `ttft_ms` as its p99 and as its mean, known to ± `interval` of it."""
    ttft = replace(distribution(ttft_ms, requests), mean=ttft_ms)
    return Measurement(
        requests_completed=requests,
        requests_failed=0,
        duration_s=requests / throughput,
        input_tokens=requests,
        output_tokens=100 * requests,
        requested_output_tokens=100 * requests,
        ttft_ms=ttft,
        tpot_ms=None,
        itl_ms=None,
        e2e_ms=distribution(e2e_ms, requests),
        request_throughput=throughput,
        input_throughput=throughput,
        output_throughput=100 * throughput,
        total_throughput=101 * throughput,
        goodput=throughput if goodput is None else goodput,
        slo=tuple(SloVerdict(limit, ttft_ms) for limit in slo.limits),
        window=Window(0.0, requests / throughput, requests=requests),
        intervals={
            f"ttft_{statistic}_ms": Interval(ttft_ms * (1 - interval), ttft_ms * (1 + interval))
            for statistic in ("mean", "p99")
        },
    )


def distribution(p99: float, count: int) -> Distribution:
    """`count` values of a lognormal distribution."""

    def at(percentile: float) -> float:
        normal = NormalDist().inv_cdf
        return p99 * math.exp(0.3 * (normal(percentile / 100) - normal(0.99)))

    shares = {percentile_name(percentile): at(percentile) for percentile in PERCENTILES}
    return Distribution(
        count=count, mean=at(50) * math.exp(0.045), max=at(100 - 50 / count), min=at(50 / count),
        **shares,
    )  # fmt: skip


def play(program: LoadProgram, engine: Engine, *, most: int = 60) -> list[StageOutcome]:
    """All stages of a program; at most `most`, which is more than any needs."""
    done: list[StageOutcome] = []
    while (load := program.next_stage(done)) is not None:
        assert len(done) < most, [outcome.load for outcome in done]
        assert load.requests <= program.requests
        done.append(StageOutcome(load, engine(load)))
    return done


def flagged(base: Measurement, *flags: str) -> Measurement:
    return replace(base, flags=flags)
