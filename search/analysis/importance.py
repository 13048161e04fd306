"""How much each parameter decides whether a configuration is among the best, by PED-ANOVA.

PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023, arXiv 2304.10255) compares where the best trials
lie with where all of them lie, one parameter at a time; its conditional form (arXiv 2601.20800)
takes parameters that only some trials have. Only the order of the trials counts, so that the
limits of an SLO and doubts enter as they do when the best trial is chosen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from runtimes.json_types import Json, canonical_json
from search.goals import Goal

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

MIN_TRIALS = 10
"""Fewer trials say nothing of single parameters."""
_BEST_SHARE = 0.1
_BEST_TRIALS = 5
"""PED-ANOVA is stable from about five trials among the best on, says its documentation."""
_SHUFFLES = 40
_CHANCE_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Importance:
    """One parameter.

    Attributes:
        share: its part of what all of them explain, 0 to 1; all shares together are 1.
        by_chance: the share that the same trials would give it in 19 of 20 random orders at most.
    """

    name: str
    share: float
    by_chance: float

    @property
    def shown(self) -> bool:
        """Whether it is more than chance makes of it."""
        return self.share > self.by_chance


@dataclass(frozen=True, slots=True)
class Importances:
    """The parameters that vary, the most important one first.

    Attributes:
        trials: how many it rests on.
        best: how many of them count as the best.
    """

    parameters: tuple[Importance, ...]
    trials: int
    best: int


def importances(ranked: Sequence[Mapping[str, Json]], *, seed: int = 0) -> Importances | None:
    """What tells the best trials from the rest.

    Args:
        ranked: settings of the measured trials by name, the best trial first; a name that a trial
            lacks was not searched there.
        seed: of the random orders.

    Returns:
        None below `MIN_TRIALS`, and where nothing varies or nothing is explained.
    """
    count = len(ranked)
    if count < MIN_TRIALS:
        return None
    best = max(math.ceil(_BEST_SHARE * count), _BEST_TRIALS)
    study = _study(ranked)
    explained = _explained(study, list(range(count)), best)
    total = sum(explained.values())
    if total <= 0:
        return None
    orders = Random(seed)
    shuffled = [
        _explained(study, orders.sample(range(count), count), best) for _ in range(_SHUFFLES)
    ]
    position = math.ceil(_CHANCE_QUANTILE * _SHUFFLES) - 1
    found = [
        Importance(name, value / total, sorted(one[name] for one in shuffled)[position] / total)
        for name, value in explained.items()
    ]
    return Importances(tuple(sorted(found, key=lambda item: (-item.share, item.name))), count, best)


def _study(ranked: Sequence[Mapping[str, Json]]) -> optuna.Study:
    """The trials as Optuna holds them; the value of each is its position."""
    from optuna.trial import create_trial

    from search.samplers._optuna import create_study

    domains = _domains(ranked)
    trials = []
    for rank, settings in enumerate(ranked):
        names = [name for name in settings if name in domains]
        trials.append(
            create_trial(
                value=rank,
                params={name: domains[name][0][canonical_json(settings[name])] for name in names},
                distributions={name: domains[name][1] for name in names},
            )
        )
    return create_study([Goal("rank", "minimize")], trials)


def _domains(
    ranked: Sequence[Mapping[str, Json]],
) -> dict[str, tuple[dict[str, int], BaseDistribution]]:
    """By name of what takes several values, each value's index, and how indices are distributed.

    Numbers are an ordered range over their indices: 8 lies between 4 and 16.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    found: dict[str, tuple[dict[str, int], BaseDistribution]] = {}
    for name in dict.fromkeys(name for settings in ranked for name in settings):
        values = {
            canonical_json(settings[name]): settings[name]
            for settings in ranked
            if name in settings
        }
        if len(values) < 2:
            continue
        numbers = {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        ordered = len(numbers) == len(values)
        keys = sorted(values, key=lambda key: (numbers.get(key, 0.0), key))
        distribution: BaseDistribution = (
            IntDistribution(0, len(keys) - 1)
            if ordered
            else CategoricalDistribution(range(len(keys)))
        )
        found[name] = ({key: index for index, key in enumerate(keys)}, distribution)
    return found


def _explained(study: optuna.Study, order: Sequence[int], best: int) -> dict[str, float]:
    """By parameter how far the `best` trials lie from all, where trial n has the rank `order[n]`.

    Optuna warns that a target is minimised, which is meant, and of conditions that hold in a
    single trial, which it leaves out.
    """
    from optuna.importance import PedAnovaImportanceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=best / len(order))
        return dict(evaluator.evaluate(study, target=lambda trial: float(order[trial.number])))
