"""The simulated engine: a real process with another engine's routes, arguments and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from runtimes.engines._flags import FlagTable
from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal, create_engine
from runtimes.engines.vllm import VllmEngine
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import HOST, PORT, PYTHON, DeploymentPlan, EngineConfig, Environment, ProcessPlan
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits

DEFAULT_ACCELERATOR = "H100"
_IMITATED_VERSION = "0.33.0"
_IMITATED = ("vllm",)
_RANGES = {"startup_s": 86_400.0, "jitter": 1.0}
"""Option → its largest value; the smallest is 0."""
_OWN_OPTIONS = {"startup_s": "--startup-s", "jitter": "--jitter", "seed": "--seed"}


@ENGINES.register("simulated")
class SimulatedEngine(Engine):
    """Serves at the speed an engine model gives it; nothing is computed.

    Options:
        imitates: the engine whose arguments, routes and metrics it has (default "vllm").
        accelerator: what it pretends to run on (default "H100").
        startup_s: seconds from start to healthy.
        jitter: relative standard deviation of step durations.
        seed: of the jitter.
    """

    name: ClassVar[str] = "simulated"
    options: ClassVar[Mapping[str, Json]] = {"imitates": "vllm", "startup_s": 0.5, "jitter": 0.0}
    request_fields: ClassVar[Mapping[str, Json]] = VllmEngine.request_fields
    cache_reset_path: ClassVar[str | None] = VllmEngine.cache_reset_path
    metrics: ClassVar[Mapping[str, str]] = {
        **VllmEngine.metrics,
        "servetune_simulator_lateness_seconds_total": "lateness_seconds_total",
    }
    api_key_env: ClassVar[str | None] = VllmEngine.api_key_env
    loads_model: ClassVar[bool] = False
    reserved_args: ClassVar[frozenset[str]] = VllmEngine.reserved_args

    def flags(self, version: str | None) -> FlagTable | None:
        """Those of the imitated version, whichever is asked for."""
        return VllmEngine().flags(_IMITATED_VERSION)

    def gpus(self, layout: ParallelLayout) -> int:
        """Those of vLLM, the only engine that can be imitated."""
        return VllmEngine().gpus(layout)

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """The simulator's processes, one a node; `deploy` is the imitated engine's command.

        Raises:
            UserError: the option `imitates` names an engine that cannot be simulated, or another
                option lies outside its range.
        """
        imitated = _imitated(config)
        _check_ranges(config.options)
        real = imitated.plan(_for_imitated(config, imitated.name))
        own = (
            *("--accelerator", str(config.options.get("accelerator", DEFAULT_ACCELERATOR))),
            *("--model", config.model, "--imitates", imitated.name),
            *_own_settings(config.options),
        )
        return DeploymentPlan(
            engine=self.name,
            processes=tuple(_stand_in(process, own) for process in real.processes),
            deploy=real.deploy,
            simulated=True,
            secrets=config.secrets,
            # Its interpreter is ours, but the nodes may be as few as the real engine's.
            environment=Environment(label=config.environment.label),
            effective=[self.name, _settings(config.options), real.effective],
            notes=real.notes,
            lossy=real.lossy,
        )

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        imitated = _imitated(config)
        return imitated.refuse(_for_imitated(config, imitated.name), model, accelerator)

    def serving_limits(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> ServingLimits:
        imitated = _imitated(config)
        return imitated.serving_limits(_for_imitated(config, imitated.name), model, accelerator)

    def layout(self, config: EngineConfig) -> ParallelLayout:
        imitated = _imitated(config)
        return imitated.layout(_for_imitated(config, imitated.name))

    def precision(self, config: EngineConfig, model: ModelFacts | None) -> Quantization:
        imitated = _imitated(config)
        return imitated.precision(_for_imitated(config, imitated.name), model)

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        # The simulator says of itself what the imitated engine would, in the same words.
        return VllmEngine().describe(log=log, metrics_text=metrics_text, version_json=version_json)


def _imitated(config: EngineConfig) -> Engine:
    name = config.options.get("imitates", "vllm")
    if name not in _IMITATED:
        raise UserError(
            f"simulated: option imitates is one of {', '.join(_IMITATED)}, got {name!r}"
        )
    return create_engine(str(name))


def _check_ranges(options: Mapping[str, Json]) -> None:
    for name, most in _RANGES.items():
        value = options.get(name, 0.0)
        if isinstance(value, int | float) and not 0 <= value <= most:
            raise UserError(f"simulated: option {name} lies between 0 and {most:,g}, got {value:g}")


def _for_imitated(config: EngineConfig, name: str) -> EngineConfig:
    """`config` as the imitated engine sees it: its own command from PATH, none of our options."""
    environment = Environment(version=_IMITATED_VERSION)
    return replace(config, engine=name, environment=environment, options={})


def _stand_in(real: ProcessPlan, own: tuple[str, ...]) -> ProcessPlan:
    """The simulator in place of one process of the imitated engine."""
    address = () if real.node else ("--host", HOST, "--port", PORT)
    command = real.argv[real.argv.index("serve") + 1 :]
    return replace(real, argv=(PYTHON, "-m", "runtimes.simulator", *address, *own, "--", *command))


def _settings(options: Mapping[str, Json]) -> Json:
    """The simulator's own settings with their defaults: part of a configuration's identity."""
    defaults: dict[str, Json] = {"accelerator": DEFAULT_ACCELERATOR, "seed": 0}
    given = {name: value for name, value in options.items() if value is not None}
    return {**SimulatedEngine.options, **defaults, **given}


def _own_settings(options: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(
        part
        for option, flag in _OWN_OPTIONS.items()
        if options.get(option) is not None
        for part in (flag, str(options[option]))
    )
