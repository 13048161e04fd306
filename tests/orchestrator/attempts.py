"""Attempts on simulated engines, run in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.messages import (
    AttemptDone,
    Broken,
    CrossChecked,
    Measured,
    PhaseEntered,
    StageDone,
    StartStep,
    TrialEvent,
    TrialOrder,
)
from orchestrator.scheduler import Waiting
from orchestrator.spec import Experiment
from orchestrator.trial_body import TrialBody
from orchestrator.wiring import wire
from runtimes.failure import Failure
from runtimes.json_types import Json
from runtimes.plan import Allocation, DeploymentPlan, ProcessPlan
from search.trial import Params
from tests.e2e import studies
from tracking.records import StageRecord


def order(*, requests: int = 12, streams: int = 4, gpus: int = 1, **timeouts: float) -> TrialOrder:
    """One trial of one simulated server; `timeouts` are fields of `Timeouts`."""
    load: Json = {"kind": "concurrency", "value": streams, "requests": requests}
    workload: Json = {"input_tokens": 16, "output_tokens": 8, "load": load, "warmup_requests": 2}
    study = wire(Experiment.from_dict(studies.experiment(workload=workload)))
    params = Params("simulated", {"tp": 1, "pp": 1, "dp": 1, "max-num-seqs": 4})
    plan = study.admission.plan(params)
    devices = Allocation("bundle", "node", tuple(map(str, range(gpus))), visible=False)
    made = study.order("run", Waiting(0, params, gpus), plan, devices)
    return replace(made, timeouts=replace(made.timeouts, stop_s=2.0, **timeouts))


def several(base: TrialOrder, *envs: Mapping[str, str]) -> TrialOrder:
    """`base` on as many servers as there are environments."""
    (process,) = base.plan.processes
    servers = tuple(
        replace(process, server=server, env={**process.env, **env})
        for server, env in enumerate(envs)
    )
    return planned(base, *servers)


def planned(base: TrialOrder, *processes: ProcessPlan) -> TrialOrder:
    """`base` with other processes, on devices that are only counted."""
    gpus = tuple(map(str, range(sum(process.gpus for process in processes))))
    plan: DeploymentPlan = replace(base.plan, processes=processes)
    return replace(base, plan=plan, allocation=replace(base.allocation, gpu_ids=gpus))


@dataclass
class Attempt:
    """One attempt and what it told."""

    order: TrialOrder
    events: list[TrialEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.body = TrialBody(self.order, self.events.append)

    async def run(self) -> None:
        await self.body.run()

    async def until_step(self, word: str) -> None:
        """Return when a step with `word` in it was told."""
        async with asyncio.timeout(60):
            while True:
                if any(word in words for words in self.steps):
                    return
                await asyncio.sleep(0.02)

    @property
    def done(self) -> AttemptDone:
        last = self.events[-1]
        assert isinstance(last, AttemptDone)
        return last

    @property
    def failure(self) -> Failure:
        assert isinstance(self.done.result, Broken), self.done.result
        return self.done.result.failure

    @property
    def measured(self) -> Measured:
        assert isinstance(self.done.result, Measured), self.done.result
        return self.done.result

    @property
    def stages(self) -> list[StageDone]:
        return [event for event in self.events if isinstance(event, StageDone)]

    @property
    def cross_checked(self) -> list[StageRecord]:
        return [event.record for event in self.events if isinstance(event, CrossChecked)]

    @property
    def steps(self) -> list[str]:
        return [event.words for event in self.events if isinstance(event, StartStep)]

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The last that were told."""
        told = [event.process_ids for event in self.events if isinstance(event, PhaseEntered)]
        return told[-1]


def attempted(order: TrialOrder) -> Attempt:
    """The attempt of `order`, run to its end."""
    attempt = Attempt(order)
    asyncio.run(attempt.run())
    return attempt
