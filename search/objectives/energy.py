"""What serving takes from the wall, as far as the GPUs' own counters see it."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.measurement import Measurement
from search.objectives.base import OBJECTIVES, Direction, Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyPerToken(Objective):
    """Energy of the deployment's GPUs over the whole stage, per output token; None without NVML."""

    unit: str = "J/token"
    direction: Direction = "minimize"

    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        return measurement.energy_per_token_j


OBJECTIVES.add("energy_per_token_j", EnergyPerToken(name="energy_per_token_j"))
