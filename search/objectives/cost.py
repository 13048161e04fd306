"""What serving costs."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.measurement import Measurement
from search.objectives.base import OBJECTIVES, Direction, Objective

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CostPerMillionTokens(Objective):
    """Price of the GPUs while they serve a million tokens, input and output together.

    price per GPU hour · GPUs / 3600 / (tokens per second) · 10⁶, in the currency of the price.
    """

    unit: str = "per 1M tokens"
    direction: Direction = "minimize"
    requires_price: bool = True

    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        if gpu_price_per_hour is None or not measurement.total_throughput:
            return None
        price_per_s = gpu_price_per_hour * gpus / _SECONDS_PER_HOUR
        return price_per_s / measurement.total_throughput * 1e6


OBJECTIVES.add("cost_per_million_tokens", CostPerMillionTokens(name="cost_per_million_tokens"))
