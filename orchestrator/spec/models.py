"""The sections of the experiment file. Unknown keys are errors; values are checked here once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from orchestrator.spec.values import (
    ArgumentName,
    Domain,
    DurationS,
    EnvText,
    ExpandedPath,
    Name,
    ResultsFolder,
    VariableName,
)
from runtimes.engines.base import ENGINES
from runtimes.errors import UserError
from runtimes.hardware import find_accelerator
from runtimes.slo import LATENCY_METRICS, STATISTIC, Slo, SloLimit
from runtimes.workloads.base import WORKLOADS
from search.constraints import Constraint
from search.objectives.base import OBJECTIVES
from search.samplers.base import SAMPLERS

T = TypeVar("T")

CPU = "cpu"
"""Stands as accelerator where engines run on the processor; no memory rule applies then."""


def _lookup(find: Callable[[], T]) -> T:
    """What `find` finds; a name nobody knows becomes a problem at this place of the file."""
    try:
        return find()
    except UserError as error:
        raise ValueError(str(error)) from None


class Section(BaseModel):
    """Base of every section: closed, frozen, strict about what a number is."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelSpec(Section):
    """Which model: a Hub `id` with an optional `revision`, or a local `path`."""

    id: str | None = None
    revision: str | None = None
    path: ExpandedPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        return {"id": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        if (self.id is None) == (self.path is None):
            raise ValueError(
                "name the model by `id` (a Hub id) or by `path` (a folder), one of both"
            )
        if self.path is not None and self.revision is not None:
            raise ValueError("`revision` belongs to a Hub id, not to a `path`")
        return self

    @property
    def source(self) -> str:
        """What an engine is told to load."""
        return self.id or self.path or ""


class EnvironmentSpec(Section):
    """Where the engine's interpreter comes from; without it, its command is taken from PATH."""

    python: ExpandedPath


class SecretSpec(Section):
    """A variable's value, taken from servetune's own environment when a trial is launched."""

    from_env: VariableName


class EngineSpec(Section):
    """One engine: fixed and searched arguments and variables, and the engine's own options."""

    environment: EnvironmentSpec | None = None
    args: dict[ArgumentName, JsonValue] = {}
    env: dict[VariableName, EnvText | list[EnvText] | SecretSpec] = {}
    search: dict[ArgumentName, Domain] = {}

    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)

    @property
    def options(self) -> dict[str, JsonValue]:
        """Keys of the engine itself; `checks` holds them against `Engine.options`."""
        return dict(self.model_extra or {})


class ParallelSpec(Section):
    """Degrees to try; a single number is fixed."""

    tp: list[int] = [1]
    pp: list[int] = [1]
    dp: list[int] = [1]

    @field_validator("tp", "pp", "dp", mode="before")
    @classmethod
    def _degrees(cls, value: object) -> object:
        degrees = value if isinstance(value, list) else [value]
        for degree in degrees:
            if not isinstance(degree, int) or isinstance(degree, bool) or degree < 1:
                raise ValueError("degrees are whole numbers from 1, as 2 or [1, 2, 4]")
        if not degrees or len(set(degrees)) != len(degrees):
            raise ValueError("name each degree once, and at least one")
        return degrees


class ConcurrencyLoadSpec(Section):
    """Closed loop: `value` requests always in flight."""

    kind: Literal["concurrency"]
    value: Annotated[int, Field(ge=1)]
    requests: Annotated[int, Field(ge=1)] | None = None


class PoissonLoadSpec(Section):
    """Open loop: `rate` requests a second with exponential gaps."""

    kind: Literal["poisson"]
    rate: Annotated[float, Field(gt=0)]
    requests: Annotated[int, Field(ge=1)] = 200


LoadSpec = Annotated[ConcurrencyLoadSpec | PoissonLoadSpec, Field(discriminator="kind")]


class WorkloadSpec(Section):
    """What the requests are, and when they are sent."""

    kind: str = "synthetic"
    input_tokens: JsonValue = 512
    output_tokens: JsonValue = 128
    load: LoadSpec = ConcurrencyLoadSpec(kind="concurrency", value=16)
    warmup_requests: Annotated[int, Field(ge=0)] | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        _lookup(lambda: WORKLOADS.get(value))
        return value


class ObjectiveSpec(Section):
    """`{maximize: NAME}` or `{minimize: NAME}`."""

    maximize: str | None = None
    minimize: str | None = None

    @model_validator(mode="after")
    def _one_direction(self) -> ObjectiveSpec:
        if (self.maximize is None) == (self.minimize is None):
            raise ValueError("write {maximize: NAME} or {minimize: NAME}, one of both")
        _lookup(lambda: OBJECTIVES.get(self.name))
        return self

    @property
    def name(self) -> str:
        return self.maximize or self.minimize or ""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "maximize" if self.maximize is not None else "minimize"


class SearchSpec(Section):
    """Who decides what to try."""

    sampler: str = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    baseline: bool = True

    @field_validator("sampler")
    @classmethod
    def _known(cls, value: str) -> str:
        _lookup(lambda: SAMPLERS.get(value))
        return value


class BudgetSpec(Section):
    """What the study may spend; the first limit reached ends it."""

    trials: Annotated[int, Field(ge=1)] | None = None
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    wall_clock: DurationS | None = None


class ClusterSpec(Section):
    """Where the devices are."""

    kind: Literal["ray", "local", "in_process"] = "ray"
    address: str = "auto"
    accelerator: str | None = None
    gpu_price_per_hour: Annotated[float, Field(gt=0)] | None = None
    max_gpus: Annotated[int, Field(ge=1)] | None = None
    simulated_gpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    isolation: Literal["gpu"] = "gpu"

    @field_validator("accelerator")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is None or value.lower() == CPU:
            return value
        return _lookup(lambda: find_accelerator(value).name)


class MetricsSpec(Section):
    """The driver's Prometheus exporter, and how often engines are scraped."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    sample_hz: Annotated[float, Field(gt=0, le=100)] = 10.0


class DeploymentSpec(Section):
    """How the processes of one deployment are arranged."""

    kind: Literal["colocated"] = "colocated"


class TimeoutsSpec(Section):
    """Limits after which a trial counts as failed."""

    start: DurationS = 1800.0
    stall: DurationS = 60.0
    request: DurationS = 600.0
    trial: DurationS = 7200.0
    stop: DurationS = 15.0


class ExperimentSpec(Section):
    """The whole file. Times in seconds once parsed; see docs for the meaning of every key."""

    name: Name
    model: ModelSpec
    engines: Annotated[dict[str, EngineSpec], Field(min_length=1)]
    parallel: ParallelSpec = ParallelSpec()
    constraints: list[str] = []
    deployment: DeploymentSpec = DeploymentSpec()
    workload: WorkloadSpec = WorkloadSpec()
    slo: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = {}
    objectives: Annotated[list[ObjectiveSpec], Field(min_length=1)] = [
        ObjectiveSpec(maximize="output_throughput_per_gpu")
    ]
    search: SearchSpec = SearchSpec()
    budget: BudgetSpec = BudgetSpec()
    cluster: ClusterSpec = ClusterSpec()
    metrics: MetricsSpec = MetricsSpec()
    timeouts: TimeoutsSpec = TimeoutsSpec()
    results: ResultsFolder = "./runs"

    @field_validator("engines")
    @classmethod
    def _known_engines(cls, value: dict[str, EngineSpec]) -> dict[str, EngineSpec]:
        for name in value:
            _lookup(lambda name=name: ENGINES.get(name))  # type: ignore[misc]  # bound now
        return value

    @field_validator("constraints")
    @classmethod
    def _parsable(cls, value: list[str]) -> list[str]:
        for text in value:
            Constraint.parse(text)
        return value

    @field_validator("slo")
    @classmethod
    def _known_latencies(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for metric, limits in value.items():
            if metric not in LATENCY_METRICS:
                raise ValueError(f"{metric!r} is no latency; known: {', '.join(LATENCY_METRICS)}")
            for statistic in limits:
                if not STATISTIC.match(statistic):
                    raise ValueError(
                        f"{metric}.{statistic!r} is no statistic; write mean, p50, p99"
                    )
        return value

    def limits(self) -> Slo:
        """The `slo` section as limits."""
        return Slo(
            tuple(
                SloLimit(metric, statistic, limit_ms)
                for metric, limits in self.slo.items()
                for statistic, limit_ms in limits.items()
            )
        )
