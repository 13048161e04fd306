"""The first trials of a search: the predicted best, spread over engines and layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from random import Random
from typing import TYPE_CHECKING

from runtimes.json_types import short_hash
from runtimes.plan import EngineConfig
from search.admission import Admission
from search.goals import Goal
from search.samplers.random import uniform_point
from search.space import SearchSpace
from search.trial import Params

if TYPE_CHECKING:
    from search.perfmodel.study import Forecast

POINTS = 10_000
"""Spaces up to this size are predicted whole."""
DRAWN = 2_000
"""Points of any other space that are predicted, drawn at random."""
LEAST = 3
SHARE = 0.2
"""Trials that are led by prediction: so many at least, or this part of the budget."""
_FAR = 2.0
"""A layout whose best is predicted so many times worse than its engine's best waits for all that
are not: no prediction is as wrong as that about two layouts of one engine."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A point, what is predicted of it, and the study's first goal there; None where that is not
    predicted.
    """

    params: Params
    config: EngineConfig
    forecast: Forecast
    value: float | None


def usual_count(trials: int) -> int:
    """Trials led by prediction in a study of `trials`."""
    return min(trials, max(LEAST, math.ceil(SHARE * trials)))


def predicted_best(
    space: SearchSpace,
    admission: Admission,
    goal: Goal,
    *,
    rate: Callable[[Sequence[Params]], Sequence[Rated]],
    seed: int,
    count: int,
) -> list[Params]:
    """`count` points to begin with, fewer where fewer are predicted.

    Engines take turns, the one with the best point first. Of an engine its layouts come first, each
    with its best point, then with its second, and so on; points that the model cannot tell apart
    count once. A point is better the more surely it is predicted to meet the limits, then by the
    goal, then, as where the goal is not predicted, by output tokens per GPU.

    `rate` says what is predicted of points, those left out of which nothing is; `seed` is that of
    the draws from a space of more than `POINTS` points.
    """
    admitted = [one for one in _candidates(space, seed) if admission.check(one) is None]
    ordered = sorted(rate(admitted), key=lambda one: _rank(one, goal))
    engines: dict[str, list[Rated]] = {}
    seen = set()
    for one in ordered:
        if (one.params.engine, one.forecast.configuration) not in seen:
            seen.add((one.params.engine, one.forecast.configuration))
            engines.setdefault(one.params.engine, []).append(one)
    queues = [_by_layout(points, goal) for points in engines.values()]
    turns = chain.from_iterable(zip_longest(*queues))
    return [one.params for one in turns if one is not None][:count]


def _candidates(space: SearchSpace, seed: int) -> Iterator[Params]:
    if space.size is not None and space.size <= POINTS:
        yield from space.points()
        return
    random = Random(int(short_hash([seed, "warm start"], 8), 16))
    for _ in range(DRAWN):
        yield uniform_point(space, random)


def _by_layout(points: Sequence[Rated], goal: Goal) -> list[Rated]:
    """Points of one engine, which come best first, in the order in which they are tried."""
    depth: dict[object, int] = {}
    best = points[0]
    keyed = []
    for place, one in enumerate(points):
        layout = one.config.layout
        depth[layout] = depth.get(layout, -1) + 1
        keyed.append((_hopeless(one, best, goal), depth[layout], place, one))
    return [one for *_, one in sorted(keyed, key=lambda item: item[:3])]


def _hopeless(one: Rated, best: Rated, goal: Goal) -> bool:
    """Whether the limits or the goal put `one` far behind `best`."""
    if one.forecast.verdict.standing == 2 and best.forecast.verdict.standing < 2:
        return True
    if not one.value or not best.value:
        return False
    ratio = best.value / one.value if goal.direction == "maximize" else one.value / best.value
    return ratio > _FAR


def _rank(one: Rated, goal: Goal) -> tuple[int, bool, float, float]:
    """Sorts the best first; what is equal stays in the order of the space."""
    value = 0.0 if one.value is None else one.value
    return (
        one.forecast.verdict.standing,
        one.value is None,
        -value if goal.direction == "maximize" else value,
        -one.forecast.prediction.output_throughput_per_gpu,
    )
