"""Latencies of requests: `ttft_p99_ms`, `tpot_mean_ms`, `itl_p50_ms`, `e2e_p95_ms`, …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtimes.measurement import Distribution, Measurement
from search.objectives.base import OBJECTIVES, Direction, Objective

_METRICS: Mapping[str, Callable[[Measurement], Distribution | None]] = {
    "ttft": lambda measurement: measurement.ttft_ms,
    "tpot": lambda measurement: measurement.tpot_ms,
    "itl": lambda measurement: measurement.itl_ms,
    "e2e": lambda measurement: measurement.e2e_ms,
}
_STATISTICS: Mapping[str, Callable[[Distribution], float]] = {
    "mean": lambda latency: latency.mean,
    "p50": lambda latency: latency.p50,
    "p90": lambda latency: latency.p90,
    "p95": lambda latency: latency.p95,
    "p99": lambda latency: latency.p99,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency(Objective):
    """One statistic of one latency, in ms; None when no request had that latency."""

    unit: str = "ms"
    direction: Direction = "minimize"
    read: Callable[[Measurement], Distribution | None]
    statistic: Callable[[Distribution], float]

    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        latency = self.read(measurement)
        return None if latency is None else self.statistic(latency)


for _metric, _read in _METRICS.items():
    for _statistic, _reduce in _STATISTICS.items():
        _name = f"{_metric}_{_statistic}_ms"
        OBJECTIVES.add(_name, Latency(name=_name, read=_read, statistic=_reduce))
