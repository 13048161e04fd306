"""What a trial measures on one running engine: stages of load, each chosen from those before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from runtimes.load.arrivals import Load
from runtimes.measurement import Measurement


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """A stage that was measured."""

    load: Load
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Bracket:
    """Bounds of the highest rate at which an SLO holds, in sessions per second.

    Attributes:
        low: end of its interval, or the highest rate at which the SLO was seen to hold; None where
            it held at none, or nobody looked.
        high: likewise, or the lowest rate at which it did not hold; None where it always held, or
            failed only where the client was the limit.
    """

    low: float | None = None
    high: float | None = None


class LoadProgram(ABC):
    """The stages of a trial, a frozen value that is pickled to where the load runs.

    Pure: no clock and no I/O, so that it can be tried on made-up measurements.

    Attributes:
        kind: as users write it.
    """

    __slots__ = ()
    kind: ClassVar[str]

    @abstractmethod
    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        """The stage after `done`; None when there is nothing left to find out.

        A function of `done` alone. The first stage is asked for with nothing done.
        """

    @abstractmethod
    def deciding(self, done: Sequence[StageOutcome]) -> int:
        """Index of the stage in `done`, which is not empty, whose measurement is the trial's."""

    def bracket(self, done: Sequence[StageOutcome]) -> Bracket:
        """What `done` says of the highest rate that the SLO allows, where that is looked for."""
        return Bracket()

    @property
    @abstractmethod
    def requests(self) -> int:
        """Requests of its longest stage."""

    @property
    @abstractmethod
    def warm_up(self) -> Load:
        """A load as heavy as what is measured first, for the warm-up before it."""


@dataclass(frozen=True, slots=True)
class SingleStage(LoadProgram):
    """One load, measured once."""

    load: Load
    kind: ClassVar[str] = "single"

    def next_stage(self, done: Sequence[StageOutcome]) -> Load | None:
        return None if done else self.load

    def deciding(self, done: Sequence[StageOutcome]) -> int:
        return 0

    @property
    def requests(self) -> int:
        return self.load.requests

    @property
    def warm_up(self) -> Load:
        return self.load
