"""What an objective is: one number made of a measurement, with a unit and a better direction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from runtimes.measurement import Measurement
from runtimes.registry import Registry

Direction: TypeAlias = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective(ABC):
    """One figure to optimise. Pure; values only depend on the arguments of `value`.

    Attributes:
        name: as users write it.
        unit: of its values, for display.
        direction: the better one, unless an experiment says otherwise.
        requires_price: True when it cannot be computed without the price of a GPU hour.
    """

    name: str
    unit: str
    direction: Direction
    requires_price: bool = False

    @abstractmethod
    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        """The objective of a deployment on `gpus` GPUs; None when it cannot be computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate(Objective):
    """A figure per second, more being better, of the whole deployment or of one of its GPUs."""

    direction: Direction = "maximize"
    read: Callable[[Measurement], float | None]
    per_gpu: bool = False

    def value(
        self, measurement: Measurement, *, gpus: int, gpu_price_per_hour: float | None = None
    ) -> float | None:
        figure = self.read(measurement)
        return figure / gpus if self.per_gpu and figure is not None else figure


OBJECTIVES: Registry[Objective] = Registry(
    "objective", package="search.objectives", group="servetune.objectives"
)
"""Every objective by name."""


def add_rate(name: str, unit: str, read: Callable[[Measurement], float | None]) -> None:
    """Register `name` and `name_per_gpu`."""
    OBJECTIVES.add(name, Rate(name=name, unit=unit, read=read))
    per_gpu = f"{name}_per_gpu"
    OBJECTIVES.add(per_gpu, Rate(name=per_gpu, unit=f"{unit}/GPU", read=read, per_gpu=True))
