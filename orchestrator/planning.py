"""What an experiment would run, worked out without starting anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.mapping import MappedRow, mapped_rows
from orchestrator.spec.experiment import Experiment
from orchestrator.wiring import Study, wire
from runtimes.json_types import Json
from runtimes.plan import DeploymentPlan
from search.expansion import Excluded, Expansion, baseline, expand, sampled_exclusions
from search.trial import Params

if TYPE_CHECKING:
    from search.perfmodel.expected import Expected

_PROPOSALS = 20
"""Seeded proposals listed at most of a space that is not counted."""
_BY_CONTENT = ("speculative", "eplb", "redundant-experts", "load-balancer")
"""Parts of the names of all arguments about drafts, which an engine accepts by content, and about
copies of the experts that texts need most. Written with dashes."""
_EXPERTS = ("ep", "moe_ep")
"""Degrees whose balance hangs on which experts a text needs."""
_DRAWN = 200
"""Points of such a space that are looked at for reasons when none of it can be launched."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """One trial that would run.

    Attributes:
        expected: what it is predicted to show; None where nothing is.
        goal: the study's first objective as predicted; None where the model does not tell it.
        gpu_hours: GPU-hours that it is expected to hold.
        warm_start: place among the trials that the search begins with, from 1; None for the others.
    """

    params: Params
    plan: DeploymentPlan
    baseline: bool = False
    expected: Expected | None = None
    goal: float | None = None
    gpu_hours: float | None = None
    warm_start: int | None = None

    def document(self) -> dict[str, Json]:
        return {
            "engine": self.params.engine,
            "gpus": self.plan.gpus,
            "command": list(self.plan.argv),
            "processes": [
                {
                    "command": list(process.argv),
                    "server": process.server,
                    "node": process.node,
                    "gpus": process.gpus,
                    "files": dict(process.files),
                }
                for process in self.plan.processes
            ],
            "deploy_command": list(self.plan.deploy),
            "env": dict(self.plan.env),
            "parameters": dict(self.params.values),
            "baseline": self.baseline,
            "notes": list(self.plan.notes),
            "lossy": list(self.plan.lossy),
            "predicted": self._predicted(),
            "gpu_hours": self.gpu_hours,
            "warm_start": self.warm_start,
        }

    def _predicted(self) -> Json:
        """`{"stable", "goal", "ttft_ms", …}`, each figure with its bounds; null where nothing is
        predicted. Where requests arrive faster than they can be served `stable` is false, and the
        figures that then have no end are null.
        """
        if self.expected is None:
            return None
        finite = self.expected.finite()
        figures: dict[str, Json] = {
            name: {"value": one.value, "low": one.low, "high": one.high} if name in finite else None
            for name, one in self.expected.figures().items()
        }
        return {"stable": self.expected.stable, "goal": self.goal, **figures}


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan.

    Attributes:
        name: of the experiment.
        size: combinations in all; None when there is no end of them.
        valid: of them, those to launch; None when the space is not counted, being too large.
        duplicates: combinations that give the command of an earlier one.
        excluded: combinations by the message of the rule that excludes them.
        rules: the same by engine and rule; of a space that is not counted and in which nothing
            was found to launch, counts among `drawn` combinations.
        drawn: combinations drawn at random for that; 0 for none.
        trials: valid combinations; of a space that is not counted, the baselines and proposals.
        baselines: the engines' defaults, which run before anything else.
        mapped: every layout and precision of valid combinations, listed or not, and what each
            engine makes of it; of a space that is not counted, those of the trials.
        sampler: who chooses the order.
        budget: trials that run in all, baselines included; None for as many as there are.
        load: what each trial sends, in words.
        notes: what to know of the experiment as a whole before its results are read.
        goal: name of the study's first objective.
        gpu_hours: expected of the trials that the budget allows, from the mean of those listed;
            None where none of them is predicted.
        unpredicted: listed trials by the reason for which nothing is predicted of them.
    """

    name: str
    size: int | None
    valid: int | None
    duplicates: int
    excluded: Mapping[str, int]
    rules: tuple[Excluded, ...]
    drawn: int
    trials: tuple[PlannedTrial, ...]
    baselines: tuple[PlannedTrial, ...]
    mapped: tuple[MappedRow, ...]
    sampler: str
    budget: int | None
    load: tuple[str, ...]
    notes: tuple[str, ...]
    goal: str
    gpu_hours: float | None
    unpredicted: Mapping[str, int]

    @property
    def nothing_to_run(self) -> bool:
        """True when no combination was found that may be launched."""
        if self.valid is not None:
            return self.valid == 0
        return all(trial.baseline for trial in self.trials)

    def document(self) -> dict[str, Json]:
        """`{"valid", "duplicates", "excluded", "trials", "rules", "mapped", "gpu_hours"}`."""
        return {
            "valid": self.valid,
            "duplicates": self.duplicates,
            "excluded": [
                {"reason": reason, "count": count} for reason, count in self.excluded.items()
            ],
            "trials": [trial.document() for trial in self.trials],
            "rules": [
                {
                    "rule": rule.rule,
                    "engine": rule.engine or None,
                    "reason": rule.message,
                    "count": rule.count,
                }
                for rule in self.rules
            ],
            "mapped": [row.document() for row in self.mapped],
            "gpu_hours": self.gpu_hours,
            "unpredicted": dict(self.unpredicted),
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
    seen = [trial.plan.config_id for trial in first]
    expansion = expand(study.space, study.admission, limit=limit)
    if expansion.valid is not None:
        trials = [_planned(study, params) for params in expansion.points]
    else:
        trials = [*first, *_proposals(study, seen, min(limit, _PROPOSALS))]
    first, unpredicted = _predicted(study, first)
    trials, others = _predicted(study, _led(study, trials, seen))
    drawn = _DRAWN if expansion.valid is None and all(trial.baseline for trial in trials) else 0
    return Plan(
        name=experiment.spec.name,
        size=study.space.size,
        valid=expansion.valid,
        duplicates=expansion.duplicates,
        excluded=dict(expansion.excluded),
        rules=_reasons(study, expansion, drawn),
        drawn=drawn,
        trials=tuple(trials),
        baselines=tuple(first),
        mapped=mapped_rows(study, expansion.kinds or [trial.params for trial in trials]),
        sampler=experiment.spec.search.sampler,
        budget=study.limits().trials,
        load=study.load_words(),
        notes=(*_content_notes(study), *_reference_notes(study), *study.predictions.notes()),
        goal=study.goals[0].name,
        gpu_hours=_gpu_hours(study, first, trials, expansion.valid),
        unpredicted=dict(unpredicted | others),
    )


def _content_notes(study: Study) -> Iterator[str]:
    """What is searched although its gain depends on content, which the requests do not have."""
    if not study.workload.content_free:
        return
    searched = [item.name for item in study.space.dimensions if item.domain.count != 1]
    names = [
        name
        for name in searched
        if name in _EXPERTS or any(part in name.replace("_", "-") for part in _BY_CONTENT)
    ]
    if names:
        yield (
            f"{', '.join(dict.fromkeys(names))}: what is gained depends on what requests say, and "
            f"{study.workload.name} ones say nothing; such results are flagged content_sensitive"
        )


def _reasons(study: Study, expansion: Expansion, drawn: int) -> tuple[Excluded, ...]:
    if not drawn:
        return expansion.rules
    seed = study.experiment.spec.search.seed
    return sampled_exclusions(study.space, study.admission, count=drawn, seed=seed)


def _reference_notes(study: Study) -> Iterator[str]:
    """What runs once for each node, of which a plan does not know how many there are."""
    if (params := reference(study)) is not None:
        yield (
            f"where several nodes can hold them, the defaults of {params.engine} are measured once "
            "more on each, so that a slow node shows (search.reference_per_node)"
        )


def baselines(study: Study) -> list[Params]:
    """The defaults of each engine, in the order of the file; none when the search wants none."""
    spec = study.experiment.spec
    if not spec.search.baseline:
        return []
    found = [baseline(study.space, study.admission, engine) for engine in spec.engines]
    return [params for params in found if params is not None]


def reference(study: Study) -> Params | None:
    """The configuration by which nodes are told apart: the first engine's defaults.

    None where the file does not ask for it, or that engine's defaults cannot run.
    """
    spec = study.experiment.spec
    if not spec.search.reference_per_node:
        return None
    return baseline(study.space, study.admission, next(iter(spec.engines)))


def _led(study: Study, trials: Sequence[PlannedTrial], seen: Sequence[str]) -> list[PlannedTrial]:
    """`trials`, those marked with which the search begins after the configurations `seen`."""
    seen = [*seen, *map(study.admission.config_id, study.space.combinations)]
    leading = [study.admission.config_id(params) for params in study.sampler().leading()]
    left = [config_id for config_id in leading if config_id not in seen]
    place = {config_id: index for index, config_id in enumerate(left, start=1)}
    return [replace(trial, warm_start=place.get(trial.plan.config_id)) for trial in trials]


def _predicted(
    study: Study, trials: Sequence[PlannedTrial]
) -> tuple[list[PlannedTrial], Counter[str]]:
    """`trials` with what is predicted of them, and how often each reason is why nothing is."""
    from search.perfmodel.expected import expected_of

    points = [trial.params for trial in trials]
    made = study.predictions.forecasts(points)
    hours = study.predictions.gpu_hours(points)
    known = [
        trial
        if isinstance(forecast, str)
        else replace(
            trial,
            expected=expected_of(forecast.prediction),
            goal=study.predictions.goal(forecast),
            gpu_hours=lasts,
        )
        for trial, forecast, lasts in zip(trials, made, hours, strict=True)
    ]
    return known, Counter(forecast for forecast in made if isinstance(forecast, str))


def _gpu_hours(
    study: Study,
    first: Sequence[PlannedTrial],
    trials: Sequence[PlannedTrial],
    valid: int | None,
) -> float | None:
    """GPU-hours of all trials that the budget allows: the baselines', and for each of the others
    the mean of those that are listed. At most the budget's own.
    """
    budget = study.limits()
    listed = [
        trial.gpu_hours for trial in trials if not trial.baseline and trial.gpu_hours is not None
    ]
    others = valid if budget.trials is None else budget.trials - len(first)
    if valid is not None and others is not None:
        others = min(others, valid)
    if not listed or others is None:
        return None
    total = sum(trial.gpu_hours or 0.0 for trial in first) + max(0, others) * fmean(listed)
    return total if budget.gpu_seconds is None else min(total, budget.gpu_seconds / 3600)


def _proposals(study: Study, seen: Sequence[str], count: int) -> list[PlannedTrial]:
    """The first `count` proposals after the baselines, whose configurations are `seen`, numbered
    as in a run.
    """
    planned: list[PlannedTrial] = []
    sampler = study.sampler()
    for config_id in seen:
        sampler.mark_seen(config_id)
    for number in range(len(seen), len(seen) + count):
        params = sampler.ask(number)
        if params is None:
            break
        planned.append(_planned(study, params))
    return planned


def _planned(study: Study, params: Params, *, baseline: bool = False) -> PlannedTrial:
    return PlannedTrial(params, study.admission.plan(params), baseline)
