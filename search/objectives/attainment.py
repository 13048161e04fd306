"""Attainment of the SLO: the share of requests that met its limits."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.measurement import Measurement
from search.objectives.base import OBJECTIVES, Direction, Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class SloAttainment(Objective):
    """Good requests over those that ended, failed ones included; None where none ended."""

    unit: str = "ratio"
    direction: Direction = "maximize"

    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        return measurement.slo_attainment


OBJECTIVES.add("slo_attainment", SloAttainment(name="slo_attainment"))
