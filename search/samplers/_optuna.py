"""Our points and outcomes in Optuna's terms, and back.

Values go by index wherever a domain is finite: Optuna then never sees JSON that it cannot hold,
and `1`, `1.0` and `true` stay apart. Numbers listed in order become an integer range over their
indices, because a categorical would forget that 8 lies between 4 and 16.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from runtimes.errors import InternalError
from runtimes.json_types import Json
from search.domains import Choice, Domain, IntRange, is_number
from search.goals import Goal
from search.space import SearchSpace
from search.trial import Completed, Infeasible, Outcome, Params, Pruned

ENGINE = "engine"
INFEASIBLE_EXCESS = 1e6
"""Constraint value of a configuration that cannot run: behind every SLO violation, whose
unmeasured limits count 1e3 each (`runtimes.slo.SloVerdict.violation`)."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
optuna.logging.disable_default_handler()
optuna.logging.enable_propagation()


def create_study(goals: Sequence[Goal], trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study in memory that knows `trials`."""
    study = optuna.create_study(directions=[goal.direction for goal in goals])
    study.add_trials(trials)
    return study


def create_tpe_sampler(seed: int) -> optuna.samplers.TPESampler:
    """TPE that models each engine's parameters jointly and counts running trials as poor ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        )


def suggest_point(trial: optuna.Trial, space: SearchSpace) -> Params:
    """The point that the study's sampler chooses for `trial`."""
    engine = trial.suggest_categorical(ENGINE, space.engines)
    return space.point(engine, lambda item: _suggest(trial, _key(engine, item.name), item.domain))


def freeze(
    space: SearchSpace, goals: Sequence[Goal], params: Params, outcome: Outcome | None
) -> FrozenTrial:
    """One trial as Optuna records it; an outcome of None is a trial that still runs.

    `params` are a point of the product; dimensions that are not searched there stay out of it.
    Completed without a finite value of every goal is FAIL: it says nothing about the goals.
    """
    encoded: dict[str, str | int | float] = {ENGINE: params.engine}
    distributions: dict[str, BaseDistribution] = {ENGINE: CategoricalDistribution(space.engines)}
    for item in space.for_engine(params.engine):
        if item.name not in params.values:
            continue
        key = _key(params.engine, item.name)
        encoded[key] = _encode(item.domain, params.values[item.name])
        distributions[key] = _distribution(item.domain)
    state, values, constraints = _result(goals, outcome)
    return create_trial(
        state=state,
        values=values,
        params=encoded,
        distributions=distributions,
        constraints=constraints,
    )


def _result(
    goals: Sequence[Goal], outcome: Outcome | None
) -> tuple[TrialState, list[float] | None, dict[str, float] | None]:
    match outcome:
        case None:
            return TrialState.RUNNING, None, None
        case Completed(objectives=objectives, violations=violations):
            values = [objectives.get(goal.name, math.nan) for goal in goals]
            if not all(math.isfinite(value) for value in values):
                return TrialState.FAIL, None, None
            return TrialState.COMPLETE, values, dict(violations)
        case Infeasible():
            return TrialState.PRUNED, None, {"infeasible": INFEASIBLE_EXCESS}
        case Pruned():
            return TrialState.PRUNED, None, None
        case _:
            return TrialState.FAIL, None, None


def _key(engine: str, name: str) -> str:
    return f"{engine}.{name}"


def _distribution(domain: Domain) -> BaseDistribution:
    match domain:
        case Choice(values=values) if not domain.ordered:
            return CategoricalDistribution(range(len(values)))
        case IntRange(low=low, high=high, log=True):
            return IntDistribution(low, high, log=True)
        case _:
            if domain.count is None:
                return FloatDistribution(domain.low, domain.high, log=domain.log)
            return IntDistribution(0, domain.count - 1)


def _suggest(trial: optuna.Trial, key: str, domain: Domain) -> Json:
    match _distribution(domain):
        case CategoricalDistribution(choices=choices):
            return domain.at(trial.suggest_categorical(key, range(len(choices))))
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(key, low, high, log=log)
        case IntDistribution(low=low, high=high, log=True):
            return trial.suggest_int(key, low, high, log=True)
        case IntDistribution(high=high):
            return domain.at(trial.suggest_int(key, 0, high))
        case other:
            raise InternalError(f"no value of {key} can be drawn from {other!r}")


def _encode(domain: Domain, value: Json) -> int | float:
    by_value = domain.count is None or (isinstance(domain, IntRange) and domain.log)
    encoded = value if by_value else domain.index_of(value)
    if not is_number(encoded):
        raise InternalError(f"{value!r} is not a value of {domain!r}")
    return encoded
