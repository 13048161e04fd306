"""An engine that spreads its replicas over servers of one each; run as a driver script."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import ClassVar

from orchestrator import Experiment, run
from runtimes.engines.base import ENGINES
from runtimes.engines.simulated import SimulatedEngine
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig


@ENGINES.register("pair")
class PairEngine(SimulatedEngine):
    """The simulated engine without a flag for data parallelism."""

    name: ClassVar[str] = "pair"

    def gpus(self, layout: ParallelLayout) -> int:
        return layout.tp * layout.dp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        alone = super().plan(replace(config, layout=replace(config.layout, dp=1)))
        (process,) = alone.processes
        servers = tuple(replace(process, server=number) for number in range(config.layout.dp))
        effective: Json = [self.name, config.layout.dp, alone.effective]
        return replace(alone, engine=self.name, processes=servers, effective=effective)


if __name__ == "__main__":
    result = run(Experiment.load(sys.argv[1]), results=sys.argv[2])
    sys.exit(0 if result.best is not None else 1)
