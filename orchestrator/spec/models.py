"""The sections of the experiment file. Unknown keys are errors; values are checked here once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orchestrator.spec.base import Section
from orchestrator.spec.combinations import Combination
from orchestrator.spec.environments import EnvironmentSpec
from orchestrator.spec.layouts import ParallelSpec, QuantizationSpec
from orchestrator.spec.names import (
    CPU,
    ConstraintText,
    EngineName,
    LatencyName,
    ObjectiveName,
    SamplerName,
    StatisticName,
    accelerator_name,
)
from orchestrator.spec.refusal import NOT_YET, RefusedValueError, closest
from orchestrator.spec.values import (
    Amount,
    Arguments,
    Count,
    DurationS,
    ExpandedPath,
    FolderOrId,
    Name,
    Natural,
    ResultsFolder,
    Revision,
    SearchedArguments,
    VariableName,
    WaitS,
    as_text,
    file_path,
    variable_name,
)
from orchestrator.spec.workloads import WorkloadSpec
from orchestrator.user_facts import hardware_of, load_hardware_yaml
from runtimes.errors import SpecError, UserError
from runtimes.node_curves import load_curves
from runtimes.slo import Slo, SloLimit

__all__ = ["CPU", "EngineSpec", "ExperimentSpec", "SecretSpec", "Section", "WorkloadSpec"]

_PRESETS = ("maximize_throughput", "minimize_latency", "balanced")


class ModelSpec(Section):
    """Which model: a Hub `id` with an optional `revision`, or a local `path`.

    `tokenizer` is a Hub id or a folder as well, where prompts are not made with the model's own.
    """

    id: Annotated[str, Field(min_length=1)] | None = None
    revision: Revision | None = None
    path: ExpandedPath | None = None
    tokenizer: FolderOrId | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        if isinstance(value, str):
            return {"id": value}
        if not isinstance(value, Mapping | ModelSpec):
            raise RefusedValueError("names no model", "write a Hub id, {id: …} or {path: FOLDER}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        if (self.id is None) == (self.path is None):
            given = "neither" if self.id is None else "both"
            raise RefusedValueError(
                f"names {given} of `id` and `path`",
                "name the model by `id` (of the Hub) or by `path` (a folder), one of the two",
            )
        if self.path is not None and self.revision is not None:
            raise RefusedValueError("`revision` belongs to a Hub `id`, not to a `path`")
        return self

    @property
    def source(self) -> str:
        """What an engine is told to load."""
        return self.id or self.path or ""

    @property
    def tokenizer_source(self) -> tuple[str, str | None]:
        """Hub id or folder of the tokenizer and of the chat template, and its revision."""
        if self.tokenizer is not None:
            return self.tokenizer, None
        return self.source, self.revision


class SecretSpec(Section):
    """A variable's value, taken from servetune's own environment when a trial is launched."""

    from_env: VariableName


_VARIABLE_FORMS = "write text, a list of texts to search, or {from_env: NAME} for a secret"


def _variable(value: object) -> object:
    """One of the forms a variable may have; said once, not once for every form."""
    if isinstance(value, SecretSpec):
        return value
    if isinstance(value, Mapping):
        if set(value) != {"from_env"}:
            wrong = next((str(key) for key in value if key != "from_env"), "")
            meant = "did you mean `from_env`? " if closest(wrong, ["from_env"]) else ""
            raise RefusedValueError("is no value of a variable", meant + _VARIABLE_FORMS)
        return SecretSpec(from_env=variable_name(_text(value["from_env"])))
    if not isinstance(value, list):
        return _text(value)
    texts = [_text(item) for item in value]
    if not texts:
        raise RefusedValueError("an empty list leaves nothing to try", "give at least one value")
    if len(set(texts)) < len(texts):
        raise RefusedValueError("a value stands twice in the list", "write each value once")
    return texts


def _text(value: object) -> str:
    text = as_text(value)
    if not isinstance(text, str):
        raise RefusedValueError("is no value of a variable", _VARIABLE_FORMS)
    return text


Variable: TypeAlias = Annotated[str | list[str] | SecretSpec, BeforeValidator(_variable)]


class EngineSpec(Section):
    """One engine: fixed and searched arguments and variables, and the engine's own options."""

    environment: EnvironmentSpec | None = None
    args: Arguments = {}
    env: dict[VariableName, Variable] = {}
    search: SearchedArguments = {}

    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        return {} if value is None else value

    @property
    def options(self) -> dict[str, JsonValue]:
        """Keys of the engine itself; `checks` holds them against `Engine.options`."""
        return dict(self.model_extra or {})


class ObjectiveSpec(Section):
    """`{maximize: NAME}` or `{minimize: NAME}`."""

    maximize: ObjectiveName | None = None
    minimize: ObjectiveName | None = None

    @model_validator(mode="before")
    @classmethod
    def _form(cls, value: object) -> object:
        if isinstance(value, str):
            raise RefusedValueError(
                "names no direction", f"write {{maximize: {value}}} or {{minimize: {value}}}"
            )
        return value

    @model_validator(mode="after")
    def _one_direction(self) -> ObjectiveSpec:
        if (self.maximize is None) == (self.minimize is None):
            raise RefusedValueError(
                "names no direction, or two",
                "write {maximize: NAME} or {minimize: NAME}, one of the two",
            )
        return self

    @property
    def name(self) -> str:
        return self.maximize or self.minimize or ""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "maximize" if self.maximize is not None else "minimize"


def _warm_start(value: object) -> object:
    """`off` is what YAML reads as false."""
    if value is False:
        return "off"
    number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000
    if value in ("auto", "off") or number:
        return value
    raise RefusedValueError(
        "takes auto, off or a number of trials, 1 to 10000", "write auto, which is the default"
    )


WarmStart: TypeAlias = Annotated[Literal["auto", "off"] | int, BeforeValidator(_warm_start)]


class SearchSpec(Section):
    """Who decides what to try."""

    sampler: SamplerName = "auto"
    warm_start: WarmStart = "auto"
    seed: Annotated[Natural, Field(le=10**18)] = 0
    baseline: bool = True
    reference_per_node: bool = False


class BudgetSpec(Section):
    """What the study may spend; the first limit reached ends it."""

    trials: Count | None = None
    gpu_hours: Amount | None = None
    wall_clock: DurationS | None = None


def _hardware_file(value: str) -> str:
    path = file_path(value)
    try:
        load_hardware_yaml(path)
    except SpecError as error:
        raise RefusedValueError(str(error)) from None
    return path


HardwareFile: TypeAlias = Annotated[str, AfterValidator(_hardware_file)]


def _curves_file(value: str) -> str:
    path = file_path(value)
    try:
        load_curves(path)
    except UserError as error:
        raise RefusedValueError(str(error)) from None
    return path


CurvesFile: TypeAlias = Annotated[str, AfterValidator(_curves_file)]


class ClusterSpec(Section):
    """Where the devices are."""

    kind: Literal["ray", "local", "in_process"] = "ray"
    address: str = "auto"
    hardware: list[HardwareFile] = []
    curves: list[CurvesFile] = []
    accelerator: str | None = None
    gpu_price_per_hour: Amount | None = None
    max_gpus: Count | None = None
    simulated_gpus: Annotated[Count, Field(le=4096)] | None = None
    gpus_per_node: Count | None = None
    isolation: Literal["gpu"] = "gpu"

    @field_validator("accelerator")
    @classmethod
    def _defined(cls, name: str | None, info: ValidationInfo) -> str | None:
        files = info.data.get("hardware")
        if name is None or files is None:  # a file of hardware that is wrong may define it
            return name
        return accelerator_name(name, list(hardware_of(files)))


class MetricsSpec(Section):
    """The driver's Prometheus exporter, and how often engines are scraped."""

    host: str = "127.0.0.1"
    port: Annotated[Natural, Field(le=65535)] = 0
    sample_hz: Annotated[Amount, Field(le=100)] = 10.0
    linger: WaitS = 15.0


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
    release: DurationS = 60.0


class ExperimentSpec(Section):
    """The whole file. Times in seconds once parsed; see docs for the meaning of every key."""

    name: Name
    model: ModelSpec
    engines: Annotated[dict[EngineName, EngineSpec], Field(min_length=1)]
    weights: Literal["checkpoint", "dummy"] = "checkpoint"
    offline: bool = False
    parallel: ParallelSpec = ParallelSpec()
    quantization: QuantizationSpec = QuantizationSpec()
    constraints: list[ConstraintText] = []
    combinations: list[Combination] = []
    deployment: DeploymentSpec = DeploymentSpec()
    workload: WorkloadSpec = WorkloadSpec()
    slo: dict[LatencyName, dict[StatisticName, Amount]] = {}
    objectives: Annotated[list[ObjectiveSpec], Field(min_length=1)] = [
        ObjectiveSpec(maximize="output_throughput_per_gpu")
    ]
    search: SearchSpec = SearchSpec()
    budget: BudgetSpec = BudgetSpec()
    cluster: ClusterSpec = ClusterSpec()
    metrics: MetricsSpec = MetricsSpec()
    timeouts: TimeoutsSpec = TimeoutsSpec()
    results: ResultsFolder = "./runs"

    @field_validator("objectives", mode="before")
    @classmethod
    def _no_preset(cls, value: object) -> object:
        if isinstance(value, str) and value in _PRESETS:
            raise RefusedValueError(NOT_YET, "write [{maximize: NAME}] or [{minimize: NAME}]")
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
