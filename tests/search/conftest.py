"""A toy engine and what is built on it: commands from values, one rule, no process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from runtimes.engines.base import Engine, EngineReport, Refusal
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig, ProcessPlan
from search.admission import Admission
from search.materialize import EngineTemplate
from search.space import SearchSpace


class ToyEngine(Engine):
    """Spells arguments in sorted order, leaves out nulls, and refuses tp = 3."""

    name = "toy"
    metrics: ClassVar[Mapping[str, str]] = {}
    request_fields: ClassVar[Mapping[str, Json]] = {}

    def gpus(self, layout: ParallelLayout) -> int:
        return layout.tp * layout.pp * layout.dp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        args = [
            f"--{name}={value}" for name, value in sorted(config.args.items()) if value is not None
        ]
        argv = ("toy", config.engine, str(config.layout), *args)
        process = ProcessPlan(argv, dict(config.env), self.gpus(config.layout))
        return DeploymentPlan(self.name, (process,), argv)

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        if config.layout.tp == 3:
            words = f"32 heads cannot be shared by tp={config.layout.tp} (pp={config.layout.pp})"
            return Refusal("heads_shared", words)
        return None

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return EngineReport()


@pytest.fixture
def templates() -> dict[str, EngineTemplate]:
    return {name: EngineTemplate(name, "acme/model") for name in ("toy", "toy-other")}


@pytest.fixture
def admit(templates: dict[str, EngineTemplate]) -> Callable[..., Admission]:
    """Builds the admission of a space on a cluster of `gpus` GPUs (keyword, default 8)."""

    def build(space: SearchSpace, *, gpus: int = 8) -> Admission:
        def capacity(plan: DeploymentPlan) -> str | None:
            fits = plan.gpus <= gpus
            return None if fits else f"needs {plan.gpus} GPUs, the cluster has {gpus}"

        return Admission(
            space,
            templates,
            model=None,
            accelerator=None,
            capacity=capacity,
            engine_of=lambda name: ToyEngine(),
        )

    return build
