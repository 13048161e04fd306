"""What an engine is to servetune: commands from neutral values, and how to read it back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from runtimes.cache_state import PrefixCache
from runtimes.engines import _arguments
from runtimes.engines._flags import FlagTable
from runtimes.engines._search import SearchHint
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig
from runtimes.quantization import Quantization
from runtimes.registry import Registry
from runtimes.serving_limits import ServingLimits
from runtimes.telemetry.prometheus_text import read_metrics

CANONICAL_METRICS = (
    "requests_running",
    "requests_waiting",
    "kv_cache_usage_ratio",
    "prompt_tokens_total",
    "generation_tokens_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "preemptions_total",
    "requests_finished_total",
    "queue_seconds_total",
    "queue_requests_total",
    "prefill_seconds_total",
    "prefill_requests_total",
    "decode_seconds_total",
    "decode_requests_total",
    "spec_decode_drafts_total",
    "spec_decode_draft_tokens_total",
    "spec_decode_accepted_tokens_total",
    "lateness_seconds_total",
)
"""Names under which samples of every engine are recorded. `*_total` are counters (tokens,
requests, seconds), `*_ratio` is in [0, 1], the others are gauges of requests.

`queue` is a request's time in the engine before its prefill, `prefill` that from there to its first
token, `decode` that from there to its last; `*_requests_total` are those that `*_seconds_total` is
the sum of."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What a running engine says about itself.

    Attributes:
        version: version of the engine; empty when it does not say.
        config: the configuration it resolved to, flattened to text.
        prefix_cache: what of its prefix cache follows from that.
    """

    version: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    prefix_cache: PrefixCache = field(default_factory=PrefixCache)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an engine would not run a configuration.

    Attributes:
        rule: name of the rule, the same for all that it refuses (`heads_divided`).
        message: the rule with the values at hand and the nearest valid ones.
    """

    rule: str
    message: str


class Engine(ABC):
    """One serving engine. Stateless; every method is pure and may be called anywhere.

    Class attributes:
        name: the registered name.
        distribution: name of the Python distribution that has the engine; empty when it has none.
        reserved_args: arguments servetune sets itself.
        metrics: engine's metric name → canonical name (see `CANONICAL_METRICS`). Series of one
            metric that differ in labels are summed; `*_ratio` takes their maximum.
        request_fields: fields that pin sampling in the engine's own spelling: greedy, with
            nothing left to a default that a model brings along; the load adds lengths (which
            every engine spells `max_tokens` and `min_tokens`) and prompts.
        cache_reset_path: where a POST empties the prefix cache of an idle server, if it is
            allowed to; None for engines that have no such route.
        api_key_env: variable that, when set for the engine, holds the key clients must send.
        options: settings of this engine in the experiment file that are not its own arguments,
            each with its default; a default's type is the type users must write.
        executable: command looked for on PATH when no environment is named; None for engines
            that bring their own.
        loads_model: False for engines that never open the model's files.
        cache_env: variable → folder name: where the engine keeps compiled kernels.
        offline_env: variables that cut its access to the Hub and its telemetry.
        metrics_path: where a server of it answers with the metrics that `read_metrics` reads.
        version_path: where a server of it answers with its version, as `describe` reads it.
        attaches: True for a server that is somebody else's: measured, never started or stopped,
            and therefore without arguments, variables, interpreter or layout.
        required_options: options that users must give, each with an example.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    metrics: ClassVar[Mapping[str, str]]
    request_fields: ClassVar[Mapping[str, Json]]
    cache_reset_path: ClassVar[str | None] = None
    api_key_env: ClassVar[str | None] = None
    executable: ClassVar[str | None] = None
    options: ClassVar[Mapping[str, Json]] = {}
    reserved_args: ClassVar[frozenset[str]] = frozenset()
    loads_model: ClassVar[bool] = True
    cache_env: ClassVar[Mapping[str, str]] = {}
    offline_env: ClassVar[Mapping[str, str]] = {}
    metrics_path: ClassVar[str] = "/metrics"
    version_path: ClassVar[str] = "/version"
    attaches: ClassVar[bool] = False
    required_options: ClassVar[Mapping[str, Json]] = {}

    @abstractmethod
    def gpus(self, layout: ParallelLayout) -> int:
        """GPUs that the engine takes for `layout`, replicas included; the source stands there."""

    @abstractmethod
    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """Map a configuration to processes. Deterministic: equal configs give equal plans.

        May be asked for a configuration that `refuse` refuses, to show its command.
        """

    @abstractmethod
    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        """Return the first rule of the engine that `config` breaks; None if it breaks none.

        `model` and `accelerator` are None when unknown; rules that need them are then skipped.
        """

    @abstractmethod
    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        """Read what a ready engine says of itself.

        Args:
            log: its output so far.
            metrics_text: body of its `/metrics`.
            version_json: body of a GET of `version_path`; empty when it has none.
        """

    def read_metrics(self, body: str) -> dict[str, tuple[str, float]]:
        """Canonical name → (engine's name, value), from the body of a GET of `metrics_path`.

        What cannot be read is left out; see `runtimes.telemetry.prometheus_text.read_metrics`.
        """
        return read_metrics(body, self.metrics)

    def flags(self, version: str | None) -> FlagTable | None:
        """Arguments of the engine's command; None when they are not known.

        Without a `version`, or for one that has no table, those that the known versions share.
        """
        return None

    def search_hints(
        self, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> tuple[SearchHint, ...]:
        """Arguments worth searching for this model and accelerator, the most telling first.

        Both are None when unknown; what depends on them is then left out.
        """
        return ()

    def serving_limits(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> ServingLimits:
        """What limits its batches and memory: what `config` says, else the engine's own defaults.

        May be asked for a configuration that `refuse` refuses. `model` and `accelerator` are None
        when unknown.
        """
        return ServingLimits(max_model_len=model.max_context if model is not None else 0)

    def layout(self, config: EngineConfig) -> ParallelLayout:
        """How it spreads the model: the layout, over which arguments win.

        As many GPUs as `config.layout`. What arguments say that no degree stands for is left out.
        """
        return config.layout

    def precision(self, config: EngineConfig, model: ModelFacts | None) -> Quantization:
        """What it computes and stores in: the precision, over which arguments win.

        What arguments say in words that no neutral format stands for is left out. `model` is None
        when unknown.
        """
        return config.quantization

    def check_args(self, args: Mapping[str, Json]) -> list[str]:
        """Names in `args` that servetune itself sets, which a user therefore must not.

        A name counts however it is spelled: with underscores, as an alias, in a negative form.
        """
        table = self.flags(None)
        own = {name: table.read(name, True)[0] if table else name for name in args}
        return sorted(name for name in args if {name, own[name]} & self.reserved_args)

    def argument_problems(self, args: Mapping[str, Json], version: str | None) -> dict[str, str]:
        """Argument → what is wrong with it and what to write, for those the engine would not take.

        Names, kinds and choices are those of `version`, or what the known versions share. Empty
        when nothing is wrong, and for an engine whose arguments are not known.
        """
        table = self.flags(version)
        return _arguments.argument_problems(table, args) if table else {}


ENGINES: Registry[type[Engine]] = Registry(
    "engine", package="runtimes.engines", group="servetune.engines"
)
"""Every engine by name. Use `create_engine` for an instance."""


def create_engine(name: str) -> Engine:
    """An instance of the engine called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    return ENGINES.get(name)()
