"""What is kept of a prediction beside a trial: three figures, each with its bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from runtimes.measurement import Measurement
from search.perfmodel.answer import Interval, Prediction


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the bounds that hold the true one nine times of ten, in one unit."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, interval: Interval) -> Estimate:
        return cls(value, interval.low, interval.high)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a trial's deciding stage was predicted to show.

    Attributes:
        ttft_ms, tpot_ms: means, ms.
        output_throughput: output tokens per second of the whole deployment.
        running: sequences that run at once per replica.
    """

    ttft_ms: Estimate
    tpot_ms: Estimate
    output_throughput: Estimate
    running: float

    @property
    def stable(self) -> bool:
        """Whether the load can be served at the rate at which it arrives."""
        return len(self.finite()) == len(FIGURES)

    def finite(self) -> dict[str, float]:
        """The values by name, but for those of a load that cannot be served, which have none."""
        values = {name: estimate.value for name, estimate in self.figures().items()}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def figures(self) -> Mapping[str, Estimate]:
        """The figures by name."""
        return {name: getattr(self, name) for name in FIGURES}


FIGURES = ("ttft_ms", "tpot_ms", "output_throughput")
"""Names of what is predicted and measured, as fields of `Expected`."""


def expected_of(prediction: Prediction) -> Expected:
    """What is kept of `prediction`."""
    return Expected(
        Estimate.of(prediction.ttft_ms, prediction.ttft_interval_ms),
        Estimate.of(prediction.tpot_ms, prediction.tpot_interval_ms),
        Estimate.of(prediction.output_throughput, prediction.throughput_interval),
        prediction.running,
    )


def measured_figures(measurement: Measurement) -> dict[str, float]:
    """The same figures as they were measured; those that were not are absent."""
    found = {
        "ttft_ms": measurement.ttft_ms.mean if measurement.ttft_ms is not None else None,
        "tpot_ms": measurement.tpot_ms.mean if measurement.tpot_ms is not None else None,
        "output_throughput": measurement.output_throughput,
    }
    return {name: value for name, value in found.items() if value is not None and value > 0}
