"""Every point of a finite space, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from runtimes.errors import InternalError, UserError
from search.admission import Admission
from search.goals import Goal
from search.samplers.base import SAMPLERS, Sampler
from search.space import SearchSpace
from search.trial import Params


@SAMPLERS.register("grid")
class GridSampler(Sampler):
    """The next admissible configuration in the space's own order; results change nothing.

    The space is walked lazily, so that a grid far larger than the budget costs nothing.

    Raises:
        UserError: the space is endless.
    """

    name = "grid"
    attempts = 0

    def __init__(
        self, *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
    ) -> None:
        super().__init__(space=space, admission=admission, goals=goals, seed=seed)
        endless = [item.name for item in space.dimensions if item.domain.count is None]
        if endless and space.product:
            raise UserError(
                f"sampler grid needs a finite space, and {', '.join(endless)} is a float range "
                "without a step. Give it a step or a list of values, or choose tpe or random."
            )

    def lead_with(self, choose: Callable[[], Iterable[Params]]) -> None:
        """Nothing comes first: the order is the space's own."""

    def _propose(self, number: int, attempt: int) -> Params:
        raise InternalError(f"grid walks the space and proposes nothing (trial {number})")

    def _walk(self) -> Iterator[Params]:
        return self.space.points()
