"""From a single stream to saturation: how latency and throughput go with the load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad, StopRules
from runtimes.load.program import LoadProgram, StageOutcome
from runtimes.measurement import Measurement
from runtimes.slo import Slo

WARM_UP_STREAMS = 16
SATURATED_GAIN = 0.05
"""A closed loop whose throughput is above the last one's by less saturates the engine."""
ROUNDS = 10
"""Requests of a closed loop for each of its streams, so that its ends weigh little."""
STREAM_REQUESTS = 20
NAMED_DIFFERENCE = 0.01
"""Stages whose figures differ by less are equal in them; of such the lightest load decides."""


@dataclass(frozen=True, slots=True)
class SweepProgram(LoadProgram):
    """A single stream, saturation, and evenly spaced Poisson rates between the two.

    Saturation is a closed loop with as many streams as there may be. Where there are points for it,
    smaller loops come before it, up to half the points in all, and the first one that gains little
    throughput over the one before is saturation already.

    Attributes:
        points: stages, closed loops included; fewer only where no rate lies between the single
            stream and saturation.
        requests: of a stage at most.
        slo: with limits, the stage with the highest goodput decides; without, the one with the
            highest output throughput.
        max_concurrency: streams of the closed loops at most.

    Raises:
        ValueError: a number is out of range.
    """

    points: int
    requests: int = field()
    slo: Slo = field(default_factory=Slo)
    stop: StopRules = field(default_factory=StopRules)
    max_concurrency: int = 512
    kind: ClassVar[str] = "sweep"

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points: must be at least 2, got {self.points}")
        if self.requests < 1:
            raise ValueError(f"requests: must be at least 1, got {self.requests}")
        if self.max_concurrency < 1:
            raise ValueError(f"max_concurrency: must be at least 1, got {self.max_concurrency}")

    @property
    def warm_up(self) -> Load:
        return self._closed_loop(min(WARM_UP_STREAMS, self._most_streams))

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        """Closed loops up to saturation, then the rates, from the lowest."""
        if not done:
            return self._closed_loop(1)
        loops = [outcome for outcome in done if isinstance(outcome.load, ConcurrencyLoad)]
        if loops[-1].load.value < self._most_streams and not _saturated(loops):
            return self._closed_loop(self._streams(loops))
        lowest = loops[0].measurement.request_throughput
        highest = max(outcome.measurement.request_throughput for outcome in loops)
        rates, number = self.points - len(loops), 1 + len(done) - len(loops)
        if number > rates or highest <= lowest * (1 + SATURATED_GAIN):
            return None
        rate = lowest + (highest - lowest) * number / (rates + 1)
        return PoissonLoad(rate, self.requests, self.stop)

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        """The best stage; of several that are within `NAMED_DIFFERENCE`, that of the least load."""
        figures = [self._figure(outcome.measurement) for outcome in done]
        enough = (1 - NAMED_DIFFERENCE) * max(figures)
        good = [number for number, figure in enumerate(figures) if figure >= enough]
        return min(good, key=lambda number: _in_flight(done[number].measurement))

    @property
    def _most_streams(self) -> int:
        return min(self.max_concurrency, max(1, self.requests // 4))

    def _streams(self, loops: Sequence[StageOutcome]) -> int:
        """Of the next closed loop: they grow by the same factor each time, up to the most."""
        most = self._most_streams
        grown = round(math.pow(most, len(loops) / (max(2, self.points // 2) - 1)))
        return min(max(grown, int(loops[-1].load.value) + 1), most)

    def _closed_loop(self, streams: int) -> ConcurrencyLoad:
        requests = min(self.requests, max(STREAM_REQUESTS, ROUNDS * streams))
        return ConcurrencyLoad(streams, requests, self.stop)

    def _figure(self, measurement: Measurement) -> float:
        if self.slo.limits:
            return measurement.goodput
        return measurement.output_throughput or 0.0


def _saturated(loops: Sequence[StageOutcome]) -> bool:
    """Whether the last closed loop has gained little over the one before."""
    if len(loops) < 2:
        return False
    before, last = (outcome.measurement.request_throughput for outcome in loops[-2:])
    return last <= before * (1 + SATURATED_GAIN)


def _in_flight(measurement: Measurement) -> float:
    """Mean requests in flight, by Little's law."""
    mean_ms = measurement.e2e_ms.mean if measurement.e2e_ms is not None else 0.0
    return measurement.request_throughput * mean_ms / 1e3
