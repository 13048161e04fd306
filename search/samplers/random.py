"""Points at random."""

from __future__ import annotations

import math
from random import Random

from runtimes.json_types import Json
from search.domains import Domain, IntRange
from search.samplers.base import SAMPLERS, Sampler
from search.space import SearchSpace
from search.trial import Params


@SAMPLERS.register("random")
class RandomSampler(Sampler):
    """Uniform over engines and over each domain, log ranges over orders of magnitude."""

    name = "random"

    def _propose(self, number: int, attempt: int) -> Params:
        return uniform_point(self.space, Random(self._entropy(number, attempt)))


def uniform_point(space: SearchSpace, rng: Random) -> Params:
    """A point of the product of `space`, each engine as likely as another."""
    engine = rng.choice(space.engines)
    return space.point(engine, lambda item: uniform_value(item.domain, rng))


def uniform_value(domain: Domain, rng: Random) -> Json:
    """A value of `domain`."""
    if isinstance(domain, IntRange) and domain.log:
        # Each integer owns the interval half a step to either side of it.
        drawn = round(_log_uniform(domain.low - 0.5, domain.high + 0.5, rng))
        return min(max(drawn, domain.low), domain.high)
    if domain.count is None:
        if not domain.log:
            return rng.uniform(domain.low, domain.high)
        return min(max(_log_uniform(domain.low, domain.high, rng), domain.low), domain.high)
    return domain.at(rng.randrange(domain.count))


def _log_uniform(low: float, high: float, rng: Random) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
