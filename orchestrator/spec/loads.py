"""The section `workload.load`: the stages of a trial, and what sends them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from orchestrator.spec.base import Section
from orchestrator.spec.load_stages import (
    AnyStage,
    ConcurrencyStage,
    ConstantStage,
    GammaStage,
    PoissonStage,
    RampStage,
    Rate,
    ReplayStage,
    Share,
    StageSpec,
    StopKeys,
    Supply,
    listed,
)
from orchestrator.spec.refusal import RefusedValueError
from orchestrator.spec.values import Count
from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.load.capacity import requests_of_stage
from runtimes.load.program import LoadProgram, SingleStage
from runtimes.load.programs import MaxUnderSloProgram, StagesProgram, SweepProgram
from runtimes.slo import Slo
from tracking.words import count

_MOST_PROCESSES = 256
_STAGE_REQUESTS = 1000
"""Of each stage of a sweep at most, where the file does not say."""


def _processes(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_PROCESSES:
        raise RefusedValueError(
            f"takes auto or a number of processes, 1 to {_MOST_PROCESSES}", "write auto"
        )
    return value


Processes: TypeAlias = Annotated[Literal["auto"] | int, BeforeValidator(_processes)]


LoadEngine: TypeAlias = Literal["own", "vllm-bench", "guidellm", "aiperf"]
"""What sends a load: ours alone, or once more another one (`runtimes.peers.command.PEERS`)."""


class WholeLoad(Section):
    """A load: what one trial sends to its engine, and with what.

    Class attributes:
        needs_slo: True when it looks for the limits of the experiment.
    """

    processes: Processes = "auto"
    engine: LoadEngine = "own"
    needs_slo: ClassVar[bool] = False

    @abstractmethod
    def program(self, slo: Slo, supply: Supply) -> LoadProgram:
        """The same, as it is run.

        Args:
            slo: the limits of the experiment.
            supply: what the workload has, for each stage.
        """

    @abstractmethod
    def heaviest(self, supply: Supply) -> Sequence[Load]:
        """Stages of which one takes most of what sends it; none where that shows only later."""

    @abstractmethod
    def lines(self, slo: Slo, supply: Supply) -> Iterator[str]:
        """What is sent, for a reader; arguments as above."""

    @abstractmethod
    def parts(self) -> Mapping[str, StageSpec]:
        """The stages that are written out, by their place below the load."""


class SingleLoad(WholeLoad, StageSpec):
    """One stage."""

    def program(self, slo: Slo, supply: Supply) -> LoadProgram:
        return SingleStage(self.load(self.bounded(supply)))

    def heaviest(self, supply: Supply) -> Sequence[Load]:
        return [self.load(self.bounded(supply))]

    def lines(self, slo: Slo, supply: Supply) -> Iterator[str]:
        yield f"{self.words}, until {self.end_words(self.bounded(supply))}"

    def parts(self) -> Mapping[str, StageSpec]:
        return {"": self}


class ConcurrencyLoadSpec(ConcurrencyStage, SingleLoad):
    """Closed loop: `value` requests always in flight."""


class ConstantLoadSpec(ConstantStage, SingleLoad):
    """Open loop with equal gaps."""


class PoissonLoadSpec(PoissonStage, SingleLoad):
    """Open loop with exponential gaps."""


class GammaLoadSpec(GammaStage, SingleLoad):
    """Open loop with gamma gaps."""


class RampLoadSpec(RampStage, SingleLoad):
    """Concurrency or rate that changes evenly."""


class ReplayLoadSpec(ReplayStage, SingleLoad):
    """Recorded arrivals."""


class StagesLoadSpec(WholeLoad, StopKeys):
    """Stages one after the other; what ends one stands here for those that do not say it."""

    kind: Literal["stages"]
    stages: Annotated[list[AnyStage], Field(min_length=1)]

    @model_validator(mode="after")
    def _enough_for_each(self) -> StagesLoadSpec:
        for stage in self._complete():
            stage.check_requests(stage.requests)
        return self

    def program(self, slo: Slo, supply: Supply) -> LoadProgram:
        return StagesProgram(tuple(self.heaviest(supply)))

    def lines(self, slo: Slo, supply: Supply) -> Iterator[str]:
        yield f"{count(len(self.stages), 'stage')} on one running engine, the last decides:"
        for stage in self._complete():
            yield f"  {stage.words}, until {stage.end_words(stage.bounded(supply))}"

    def heaviest(self, supply: Supply) -> Sequence[Load]:
        return [stage.load(stage.bounded(supply)) for stage in self._complete()]

    def parts(self) -> Mapping[str, StageSpec]:
        return {f".stages[{index}]": stage for index, stage in enumerate(self.stages)}

    def _complete(self) -> list[StageSpec]:
        """The stages, with the keys that they leave to the load."""
        keys = [key for key in StopKeys.model_fields if key != "kind"]
        common = {key: getattr(self, key) for key in keys if getattr(self, key) is not None}
        return [
            stage.model_copy(
                update={key: value for key, value in common.items() if getattr(stage, key) is None}
            )
            for stage in self.stages
        ]


class SearchLoad(WholeLoad, StopKeys):
    """Stages that are chosen while they are measured."""

    def parts(self) -> Mapping[str, StageSpec]:
        return {}

    def _most(self, supply: Supply, usual: int = _STAGE_REQUESTS) -> int:
        """Requests of one stage at most: `usual` where nothing is written."""
        wanted = self.requests or usual
        return wanted if supply.size is None else min(wanted, supply.size)


class SweepLoadSpec(SearchLoad):
    """From one stream to saturation, at `points` loads."""

    kind: Literal["sweep"]
    points: Annotated[Count, Field(ge=2)] = 8
    max_concurrency: Count = 512

    def program(self, slo: Slo, supply: Supply) -> LoadProgram:
        requests = self._most(supply)
        return SweepProgram(self.points, requests, slo, self.stop_rules(), self.max_concurrency)

    def heaviest(self, supply: Supply) -> Sequence[Load]:
        return [ConcurrencyLoad(self.max_concurrency, self._most(supply))]

    def lines(self, slo: Slo, supply: Supply) -> Iterator[str]:
        best = "goodput" if slo.limits else "output throughput"
        ends = self.end_words(self._most(supply))
        yield f"from one stream to saturation, {self.points} stages, each until {ends};"
        yield f"  the one with the highest {best} decides"


class MaxUnderSloLoadSpec(SearchLoad):
    """The highest rate at which the limits hold, to `resolution` of it."""

    kind: Literal["max_under_slo"]
    start_rate: Rate | None = None
    max_rate: Rate | None = None
    resolution: Share = 0.05
    needs_slo: ClassVar[bool] = True

    @model_validator(mode="after")
    def _start_below_end(self) -> MaxUnderSloLoadSpec:
        if self.start_rate and self.max_rate and self.start_rate > self.max_rate:
            raise RefusedValueError(
                "`start_rate` lies above `max_rate`", "lower the one or raise the other"
            )
        return self

    def program(self, slo: Slo, supply: Supply) -> LoadProgram:
        return MaxUnderSloProgram(
            slo,
            self._longest(slo, supply),
            self.stop_rules(),
            start_rate=self.start_rate,
            max_rate=self.max_rate,
            resolution=self.resolution,
        )

    def heaviest(self, supply: Supply) -> Sequence[Load]:
        if self.max_rate is None:
            return []
        return [PoissonLoad(self.max_rate, self._most(supply))]

    def lines(self, slo: Slo, supply: Supply) -> Iterator[str]:
        limits = listed([str(limit) for limit in slo.limits], "and")
        verb = "hold" if len(slo.limits) > 1 else "holds"
        yield f"the highest rate at which {limits} {verb}, to {100 * self.resolution:g} %;"
        ends = self.end_words(self._longest(slo, supply))
        yield f"  each stage until {ends}, or sooner where it is far from the limit"

    def _longest(self, slo: Slo, supply: Supply) -> int:
        """Requests of a stage at most: as many as its most extreme percentile takes."""
        needed = [requests_of_stage(limit, self.resolution) for limit in slo.limits]
        return self._most(supply, max(needed, default=_STAGE_REQUESTS))


LoadSpec: TypeAlias = Annotated[
    ConcurrencyLoadSpec
    | ConstantLoadSpec
    | PoissonLoadSpec
    | GammaLoadSpec
    | RampLoadSpec
    | ReplayLoadSpec
    | StagesLoadSpec
    | SweepLoadSpec
    | MaxUnderSloLoadSpec,
    Field(discriminator="kind"),
]
