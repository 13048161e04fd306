"""What an experiment would run, worked out without starting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.spec.experiment import Experiment
from orchestrator.wiring import Study, wire
from runtimes.json_types import Json
from runtimes.plan import DeploymentPlan
from search.expansion import baseline, expand
from search.trial import Params

_PROPOSALS = 20
"""Seeded proposals listed at most of a space that is not counted."""


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
            "command": list(self.plan.argv),
            "deploy_command": list(self.plan.deploy),
            "env": dict(self.plan.env),
            "parameters": dict(self.params.values),
            "baseline": self.baseline,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan.

    Attributes:
        name: of the experiment.
        size: combinations in all; None when there is no end of them.
        valid: of them, those to launch; None when the space is not counted, being too large.
        duplicates: combinations that give the command of an earlier one.
        excluded: combinations by the rule that excludes them.
        trials: valid combinations; of a space that is not counted, the baselines and proposals.
        baselines: the engines' defaults, which run before anything else.
        sampler: who chooses the order.
        budget: trials that run in all, baselines included; None for as many as there are.
    """

    name: str
    size: int | None
    valid: int | None
    duplicates: int
    excluded: Mapping[str, int]
    trials: tuple[PlannedTrial, ...]
    baselines: tuple[PlannedTrial, ...]
    sampler: str
    budget: int | None

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

    A space that can be counted lists its valid combinations. Any other lists the baselines and
    seeded proposals, which are the ones a run would begin with as long as no result is in.

    Raises:
        UserError: a constraint has no truth value for some combination.
    """
    study = wire(experiment)
    first = [_planned(study, params, baseline=True) for params in baselines(study)]
    expansion = expand(study.space, study.admission, limit=limit)
    if expansion.valid is not None:
        trials = [_planned(study, params) for params in expansion.points]
    else:
        trials = [*first, *_proposals(study, first, min(limit, _PROPOSALS))]
    return Plan(
        name=experiment.spec.name,
        size=study.space.size,
        valid=expansion.valid,
        duplicates=expansion.duplicates,
        excluded=dict(expansion.excluded),
        trials=tuple(trials),
        baselines=tuple(first),
        sampler=experiment.spec.search.sampler,
        budget=study.limits().trials,
    )


def baselines(study: Study) -> list[Params]:
    """The defaults of each engine, in the order of the file; none when the search wants none."""
    spec = study.experiment.spec
    if not spec.search.baseline:
        return []
    found = [baseline(study.space, study.admission, engine) for engine in spec.engines]
    return [params for params in found if params is not None]


def _proposals(study: Study, first: Sequence[PlannedTrial], count: int) -> list[PlannedTrial]:
    """The first `count` proposals after the baselines, numbered as in a run."""
    planned: list[PlannedTrial] = []
    sampler = study.sampler()
    for trial in first:
        sampler.mark_seen(trial.plan.config_id)
    for number in range(len(first), len(first) + count):
        params = sampler.ask(number)
        if params is None:
            break
        planned.append(_planned(study, params))
    return planned


def _planned(study: Study, params: Params, *, baseline: bool = False) -> PlannedTrial:
    return PlannedTrial(params, study.admission.plan(params), baseline)
