"""Service-level objectives: limits on latency percentiles, and what makes one request good."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LATENCY_METRICS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
"""Latencies of a request. ttft: first content minus send. tpot: (last − first content) /
(output tokens − 1). itl: gap between content chunks, pooled over requests. e2e: end minus send."""

STATISTIC = re.compile(r"^(mean|p(?:100|\d{1,2}(?:\.\d+)?))$")


@dataclass(frozen=True, slots=True)
class SloLimit:
    """`metric`'s `statistic` (`p99`, `mean`) must not exceed `limit_ms`."""

    metric: str
    statistic: str
    limit_ms: float

    @property
    def percentile(self) -> float | None:
        """The percentile as a number in [0, 100]; None for the mean."""
        return None if self.statistic == "mean" else float(self.statistic[1:])

    def __str__(self) -> str:
        return f"{self.metric.removesuffix('_ms')} {self.statistic} ≤ {self.limit_ms:g} ms"


@dataclass(frozen=True, slots=True)
class SloVerdict:
    """One limit beside what was measured; `value_ms` is None when nothing could be measured."""

    limit: SloLimit
    value_ms: float | None

    @property
    def met(self) -> bool:
        return self.value_ms is not None and self.value_ms <= self.limit.limit_ms

    @property
    def violation(self) -> float:
        """Relative excess over the limit: ≤ 0 is met, 0.5 is half as much again, 1e3 unmeasured."""
        if self.value_ms is None:
            return 1e3
        return self.value_ms / self.limit.limit_ms - 1.0


@dataclass(frozen=True, slots=True)
class Slo:
    """All limits of an experiment; empty means every completed request is good."""

    limits: tuple[SloLimit, ...] = ()

    def request_limits(self) -> Mapping[str, SloLimit]:
        """Per metric, what one request must meet: the limit of the highest percentile named.

        A metric limited only in its mean puts no limit on a single request.
        """
        highest: dict[str, SloLimit] = {}
        for limit in self.limits:
            known = highest.get(limit.metric)
            if limit.percentile is None:
                continue
            if known is None or limit.percentile > (known.percentile or 0.0):
                highest[limit.metric] = limit
        return highest

    def request_limits_ms(self) -> Mapping[str, float]:
        """`request_limits` as numbers, ms."""
        return {metric: limit.limit_ms for metric, limit in self.request_limits().items()}
