"""What an engine is to servetune: commands from neutral values, and how to read it back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.plan import DeploymentPlan, EngineConfig
from runtimes.registry import Registry

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
    "lateness_seconds_total",
)
"""Names under which samples of every engine are recorded. `*_total` are counters (tokens,
requests, seconds), `*_ratio` is in [0, 1], the others are gauges of requests."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What a running engine says about itself.

    Attributes:
        version: version of the engine; empty when it does not say.
        config: the configuration it resolved to, flattened to text.
    """

    version: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


class Engine(ABC):
    """One serving engine. Stateless; every method is pure and may be called anywhere.

    Class attributes:
        name: the registered name.
        reserved_args: arguments servetune sets itself.
        metrics: engine's metric name → canonical name (see `CANONICAL_METRICS`). Series of one
            metric that differ in labels are summed; `*_ratio` takes their maximum.
        request_fields: fields that pin sampling in the engine's own spelling; the load adds
            lengths and prompts.
        api_key_env: variable that, when set for the engine, holds the key clients must send.
        options: settings of this engine in the experiment file that are not its own arguments,
            each with its default; a default's type is the type users must write.
        executable: command looked for on PATH when no environment is named; None for engines
            that bring their own.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, str]]
    request_fields: ClassVar[Mapping[str, Json]]
    api_key_env: ClassVar[str | None] = None
    executable: ClassVar[str | None] = None
    options: ClassVar[Mapping[str, Json]] = {}
    reserved_args: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """Map a configuration to processes. Deterministic: equal configs give equal plans."""

    @abstractmethod
    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> str | None:
        """Return why the engine would not run `config`, with the arithmetic; None if it would.

        `model` and `accelerator` are None when unknown; rules that need them are then skipped.
        """

    @abstractmethod
    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        """Read what a ready engine says of itself.

        Args:
            log: its output so far.
            metrics_text: body of its `/metrics`.
            version_json: body of its `/version`; empty when it has none.
        """

    def check_args(self, args: Mapping[str, Json]) -> list[str]:
        """Names in `args` that servetune itself sets, which a user therefore must not."""
        return sorted(set(args) & self.reserved_args)


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
