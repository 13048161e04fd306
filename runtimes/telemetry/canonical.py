"""Readings of several servers made one, and counters that go on when a server starts them anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Reading: TypeAlias = Mapping[str, tuple[str, float]]
"""Canonical metric → (engine's name, value): one scrape of one server."""


class CounterTrack:
    """Makes the counters of one server monotonic.

    A counter that falls below its former value was started anew; it goes on from where it stood,
    as Prometheus' `increase` takes it.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._lost: dict[str, float] = {}

    def continued(self, reading: Reading) -> dict[str, tuple[str, float]]:
        """`reading` with every `*_total` continued; values that are no finite number left out."""
        made: dict[str, tuple[str, float]] = {}
        for metric, (name, value) in reading.items():
            if not math.isfinite(value):
                continue
            if metric.endswith("_total"):
                before = self._last.get(metric, 0.0)
                if value < before:
                    self._lost[metric] = self._lost.get(metric, 0.0) + before
                self._last[metric] = value
                value += self._lost.get(metric, 0.0)
            made[metric] = (name, value)
        return made


def merged(readings: Sequence[Reading]) -> dict[str, tuple[str, float]]:
    """One reading of all servers: sums; of a `*_ratio` the maximum.

    A metric that one of the servers does not have is left out: its sum would be of the others only.
    """
    if not readings:
        return {}
    first, *others = readings
    made: dict[str, tuple[str, float]] = {}
    for metric, (name, _) in first.items():
        if all(metric in other for other in others):
            values = [reading[metric][1] for reading in readings]
            made[metric] = (name, max(values) if metric.endswith("_ratio") else sum(values))
    return made
