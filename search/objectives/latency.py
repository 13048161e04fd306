"""Latencies of requests: `ttft_p99_ms`, `itl_p99_9_ms`, `e2e_scheduled_mean_ms`, …"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from runtimes.measurement import PERCENTILES, Distribution, Measurement, percentile_name
from search.objectives.base import OBJECTIVES, Direction, Objective

METRICS = ("ttft", "ttft_scheduled", "tpot", "itl", "e2e", "e2e_scheduled")
STATISTICS = ("mean", *map(percentile_name, PERCENTILES))


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency(Objective):
    """One statistic of one latency, in ms; None when no request had that latency."""

    unit: str = "ms"
    direction: Direction = "minimize"
    read: Callable[[Measurement], Distribution | None]
    statistic: Callable[[Distribution], float | None]

    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        latency = self.read(measurement)
        return None if latency is None else self.statistic(latency)


for _metric in METRICS:
    for _statistic in STATISTICS:
        _name = f"{_metric}_{_statistic}_ms"
        _read, _reduce = attrgetter(f"{_metric}_ms"), attrgetter(_statistic)
        OBJECTIVES.add(_name, Latency(name=_name, read=_read, statistic=_reduce))
