"""The tree-structured Parzen estimator, by Optuna."""

from __future__ import annotations

from collections.abc import Sequence

from search.admission import Admission
from search.goals import Goal
from search.samplers.base import SAMPLERS, Sampler
from search.space import SearchSpace


@SAMPLERS.register("tpe")
def create_tpe(
    *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
) -> Sampler:
    """A `TpeSampler`; only now is Optuna imported, which takes most of a second."""
    from search.samplers._tpe import TpeSampler

    return TpeSampler(space=space, admission=admission, goals=goals, seed=seed)
