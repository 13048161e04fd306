"""TPE on a study in memory; imported through `search.samplers.tpe` only."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import optuna
from optuna.trial import FrozenTrial

from search.admission import Admission
from search.goals import Goal
from search.samplers._optuna import create_study, create_tpe_sampler, freeze, suggest_point
from search.samplers.base import Sampler
from search.samplers.random import uniform_point
from search.space import SearchSpace
from search.trial import Outcome, Params

_MODEL_ATTEMPTS = 32
_REMEMBERED = 1000


class TpeSampler(Sampler):
    """Learns from every outcome told, with any number of trials still running.

    Each `ask` builds its own study from what is known, so that a proposal depends on nothing
    else. A proposal that is refused stays in that study as a running trial, which pushes the
    next attempt away from it; after `_MODEL_ATTEMPTS` of them the point is drawn at random.

    Only the `_REMEMBERED` newest trials are modelled: the time of one decision stays bounded,
    and TPE gives older ones little weight anyway. Parameters that are no point of the product (a
    baseline leaves the searched arguments out, a combination may name others) are not modelled.
    """

    name = "tpe"

    def __init__(
        self, *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
    ) -> None:
        super().__init__(space=space, admission=admission, goals=goals, seed=seed)
        self._trials: dict[int, FrozenTrial] = {}
        self._study: optuna.Study | None = None

    def _propose(self, number: int, attempt: int) -> Params:
        if attempt >= _MODEL_ATTEMPTS:
            return uniform_point(self.space, Random(self._entropy(number, attempt)))
        if self._study is None or attempt == 0:
            newest = sorted(self._trials)[-_REMEMBERED:]
            self._study = create_study(self.goals, [self._trials[known] for known in newest])
        self._study.sampler = create_tpe_sampler(self._entropy(number, attempt))
        return suggest_point(self._study.ask(), self.space)

    def _observe(self, number: int, params: Params, outcome: Outcome | None) -> None:
        if self.space.product_holds(params):
            self._trials[number] = freeze(self.space, self.goals, params, outcome)
