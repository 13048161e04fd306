"""What a sampler is: it proposes points that may be launched, each configuration once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Protocol

from runtimes.json_types import short_hash
from runtimes.registry import Registry
from search.admission import Admission
from search.goals import Goal
from search.space import SearchSpace
from search.trial import Outcome, Params


class Sampler(ABC):
    """Proposes parameters for numbered trials; any number may be running at once.

    A proposal is a function of (space, seed, trial number, what was asked and told so far), so
    a sampler that is rebuilt with `restore` goes on as an unbroken one would. Calls come from
    one thread at a time.

    The combinations of the space come first, in order; then what `lead_with` gives, where it was
    called; then what the sampler itself chooses.

    A subclass gives `_propose`, and `_observe` if it learns. It need not know what may be
    launched or was proposed before: `ask` calls it again until a proposal passes, `attempts`
    times, and then walks a countable space for a point that is left.
    """

    name: ClassVar[str]
    attempts: ClassVar[int] = 100

    def __init__(
        self, *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
    ) -> None:
        self.space = space
        self.goals = tuple(goals)
        self.seed = seed
        self._admission = admission
        self._seen: set[str] = set()
        self._combinations = iter(space.combinations)
        self._lead: Callable[[], Iterable[Params]] = tuple
        self._leading: Iterator[Params] = iter(())
        self._rest: Iterator[Params] | None = None

    def mark_seen(self, config_id: str) -> None:
        """Never propose this configuration; for what was chosen elsewhere, as a baseline is."""
        self._seen.add(config_id)

    def lead_with(self, choose: Callable[[], Iterable[Params]]) -> None:
        """Propose what `choose` gives before anything of the sampler's own.

        Called before the first `ask`. `choose` is called once, as late as it can be, and has to
        give the same points again to a sampler that is rebuilt; those that may not be launched,
        or were proposed, are passed over.
        """
        self._lead = choose
        self._leading = _when_asked(choose)

    def leading(self) -> list[Params]:
        """What `lead_with` gives, in order; empty for a sampler that is not led."""
        return list(self._lead())

    def ask(self, number: int) -> Params | None:
        """Parameters for trial `number`: admissible, of a new configuration; None: nothing left."""
        # What these iterators have passed was seen or inadmissible and stays so.
        params = next(filter(self._is_new, self._combinations), None)
        if params is None and self.space.product:
            params = next(filter(self._is_new, self._leading), None)
        if params is None and self.space.product:
            proposals = (self._propose(number, attempt) for attempt in range(self.attempts))
            params = next(filter(self._is_new, proposals), None) or self._next_left()
        if params is not None:
            self.restore(number, params, None)
        return params

    def tell(self, number: int, params: Params, outcome: Outcome) -> None:
        """Learn how trial `number` ended; the last outcome told for a number counts."""
        self._observe(number, params, outcome)

    def restore(self, number: int, params: Params, outcome: Outcome | None) -> None:
        """Take up a proposal of an earlier driver; an outcome of None is still to come."""
        self.mark_seen(self._admission.config_id(params))
        self._observe(number, params, outcome)

    @abstractmethod
    def _propose(self, number: int, attempt: int) -> Params:
        """A point of the product; `attempt` counts from 0 for each `number`."""

    def _observe(self, number: int, params: Params, outcome: Outcome | None) -> None:
        """Trial `number` runs `params`, or ended; `params` need not be a point of the space."""
        return

    def _entropy(self, number: int, attempt: int) -> int:
        """A seed in [0, 2³²) of its own for each attempt."""
        return int(short_hash([self.seed, number, attempt], 8), 16)

    def _is_new(self, params: Params) -> bool:
        if self._admission.check(params) is not None:
            return False
        return self._admission.config_id(params) not in self._seen

    def _next_left(self) -> Params | None:
        if self._rest is None:
            self._rest = self._walk()
        return next(filter(self._is_new, self._rest), None)

    def _walk(self) -> Iterator[Params]:
        return self.space.points() if self.space.countable else iter(())


def _when_asked(choose: Callable[[], Iterable[Params]]) -> Iterator[Params]:
    """What `choose` gives, which is called when the first is asked for."""
    yield from choose()


class SamplerFactory(Protocol):
    """A sampler's class, or a function that chooses one."""

    def __call__(
        self, *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
    ) -> Sampler: ...


SAMPLERS: Registry[SamplerFactory] = Registry(
    "sampler", package="search.samplers", group="servetune.samplers"
)
"""Every sampler by name. Use `create_sampler` for an instance."""


def create_sampler(
    name: str, *, space: SearchSpace, admission: Admission, goals: Sequence[Goal], seed: int
) -> Sampler:
    """The sampler called `name`.

    Raises:
        UnknownNameError: there is none.
        UserError: it cannot work on this space.
    """
    return SAMPLERS.get(name)(space=space, admission=admission, goals=goals, seed=seed)
