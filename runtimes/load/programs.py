"""The programs that measure more than one load on a running engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from runtimes.load.arrivals import Load
from runtimes.load.max_under_slo import MaxUnderSloProgram
from runtimes.load.program import Bracket, LoadProgram, StageOutcome
from runtimes.load.sweep import SweepProgram

__all__ = ["Bracket", "MaxUnderSloProgram", "StagesProgram", "SweepProgram"]


@dataclass(frozen=True, slots=True)
class StagesProgram(LoadProgram):
    """Given loads, one after the other; the last one decides.

    Raises:
        ValueError: there is none.
    """

    loads: tuple[Load, ...]
    kind: ClassVar[str] = "stages"

    def __post_init__(self) -> None:
        if not self.loads:
            raise ValueError("stages: must have at least one load")

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        return self.loads[len(done)] if len(done) < len(self.loads) else None

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        return len(done) - 1

    @property
    def requests(self) -> int:
        return max(load.requests for load in self.loads)

    @property
    def warm_up(self) -> Load:
        return self.loads[0]
