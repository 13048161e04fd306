"""What a study is after: objectives by name, each with the direction that is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """One objective and the direction that is better."""

    name: str
    direction: Literal["maximize", "minimize"]

    def better(self, value: float, than: float) -> bool:
        return value > than if self.direction == "maximize" else value < than
