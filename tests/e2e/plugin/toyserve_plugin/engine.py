"""toyserve, seen from servetune: what somebody else's package has to bring."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from runtimes.engines.base import Engine, EngineReport, Refusal
from runtimes.hardware import Accelerator
from runtimes.json_types import Json, canonical_json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import HOST, PORT, DeploymentPlan, EngineConfig, ProcessPlan


class ToyserveEngine(Engine):
    """Serves one token after the other; `depth` is its only argument."""

    name: ClassVar[str] = "toyserve"
    loads_model: ClassVar[bool] = False
    metrics: ClassVar[Mapping[str, str]] = {
        "toy_running": "requests_running",
        "toy_tokens_total": "generation_tokens_total",
    }
    request_fields: ClassVar[Mapping[str, Json]] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 1,
        "ignore_eos": True,
    }

    def gpus(self, layout: ParallelLayout) -> int:
        return layout.tp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        server = Path(__file__).with_name("server.py")
        argv = [sys.executable, str(server), "--host", HOST, "--port", PORT]
        argv += ["--tp", str(config.layout.tp)]
        for name, value in sorted(config.args.items()):
            argv += [f"--{name}", canonical_json(value)]
        process = ProcessPlan(tuple(argv), dict(config.env), self.gpus(config.layout))
        return DeploymentPlan(self.name, (process,), tuple(argv), secrets=config.secrets)

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        if config.layout.tp == 4:
            return Refusal("no_four", "toyserve cannot count to tp=4; valid: 1, 2")
        return None

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return EngineReport(version=version_json.strip('"'))
