"""What an experiment would run, worked out without starting anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.spec.experiment import Experiment
from orchestrator.wiring import Study, wire
from runtimes.json_types import Json
from runtimes.plan import DeploymentPlan
from search.expansion import baseline, expand
from search.trial import Params

_PROPOSALS = 20
"""Seeded proposals shown of an infinite space."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """One trial that would run."""

    params: Params
    plan: DeploymentPlan
    baseline: bool = False

    def document(self) -> dict[str, Json]:
        return {
            "engine": self.params.engine,
            "gpus": self.plan.gpus,
            "command": list(self.plan.process.argv),
            "deploy_command": list(self.plan.deploy),
            "env": dict(self.plan.process.env),
            "parameters": dict(self.params.values),
            "baseline": self.baseline,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan; `valid` is None for an infinite space, where `trials` are proposals."""

    valid: int | None
    duplicates: int
    excluded: Mapping[str, int]
    trials: tuple[PlannedTrial, ...]

    def document(self) -> dict[str, Json]:
        """`{"valid", "duplicates", "excluded": [{"reason", "count"}], "trials": […]}`."""
        return {
            "valid": self.valid,
            "duplicates": self.duplicates,
            "excluded": [
                {"reason": reason, "count": count} for reason, count in self.excluded.items()
            ],
            "trials": [trial.document() for trial in self.trials],
        }


def make_plan(experiment: Experiment, *, limit: int) -> Plan:
    """Plan `experiment`, listing at most `limit` trials.

    A finite space lists its valid combinations. An infinite one lists the baselines and seeded
    proposals, which are the ones a run would begin with as long as no result is in.
    """
    study = wire(experiment)
    expansion = expand(study.space, study.admission, limit=limit)
    if expansion.valid is not None:
        points = [_planned(study, params) for params in expansion.points]
    else:
        points = _proposals(study, min(limit, _PROPOSALS))
    return Plan(expansion.valid, expansion.duplicates, dict(expansion.excluded), tuple(points))


def baselines(study: Study) -> list[Params]:
    """The defaults of each engine, in the order of the file; none when the search wants none."""
    spec = study.experiment.spec
    if not spec.search.baseline:
        return []
    found = [baseline(study.space, study.admission, engine) for engine in spec.engines]
    return [params for params in found if params is not None]


def _proposals(study: Study, count: int) -> list[PlannedTrial]:
    planned = [_planned(study, params, baseline=True) for params in baselines(study)]
    sampler = study.sampler()
    for trial in planned:
        sampler.mark_seen(trial.plan.config_id)
    for number in range(len(planned), len(planned) + count):
        params = sampler.ask(number)
        if params is None:
            break
        planned.append(_planned(study, params))
    return planned


def _planned(study: Study, params: Params, *, baseline: bool = False) -> PlannedTrial:
    return PlannedTrial(params, study.admission.plan(params), baseline)
