"""The sampler for users who do not want to choose one."""

from __future__ import annotations

from collections.abc import Sequence

from search.admission import Admission
from search.goals import Goal
from search.samplers.base import SAMPLERS, Sampler, create_sampler
from search.space import SearchSpace

GRID_POINTS = 32
"""Up to so many points trying them all is cheaper than learning which to try."""


@SAMPLERS.register("auto")
def choose_sampler(
    *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
) -> Sampler:
    """`grid` for a space of at most `GRID_POINTS` points, `tpe` for any other."""
    small = space.size is not None and space.size <= GRID_POINTS
    return create_sampler(
        "grid" if small else "tpe", space=space, admission=admission, goals=goals, seed=seed
    )
