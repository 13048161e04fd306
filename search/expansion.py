"""A space before the first trial: how many points there are, which are excluded, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from search.admission import Admission
from search.space import Dimension, SearchSpace
from search.trial import LAYOUT_NAMES, Params


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a space comes to.

    Attributes:
        valid: points to launch, each configuration once; None when the space is not counted.
        duplicates: admissible points whose configuration an earlier point already has.
        excluded: points by the rule that excludes them; a rule reads as it did for the first.
        points: valid points in order, at most as many as asked for.
    """

    valid: int | None
    duplicates: int
    excluded: Mapping[str, int]
    points: tuple[Params, ...]


def expand(space: SearchSpace, admission: Admission, *, limit: int | None = None) -> Expansion:
    """Count a finite space exactly, and keep its first `limit` valid points (None: all).

    A space that is endless, or finite but beyond `search.space.COUNTABLE`, is not counted:
    `valid` is None and `points` empty.

    Raises:
        UserError: a constraint has no truth value for some point.
    """
    if not space.countable:
        return Expansion(None, 0, {}, ())
    seen: set[str] = set()
    duplicates = 0
    excluded: Counter[str] = Counter()
    messages: dict[str, str] = {}
    kept: list[Params] = []
    for params in space.points():
        exclusion = admission.check(params)
        if exclusion is not None:
            excluded[exclusion.rule] += 1
            messages.setdefault(exclusion.rule, exclusion.message)
            continue
        config_id = admission.config_id(params)
        if config_id in seen:
            duplicates += 1
            continue
        seen.add(config_id)
        if limit is None or len(kept) < limit:
            kept.append(params)
    shown: Counter[str] = Counter()
    for rule, count in excluded.items():
        shown[messages[rule]] += count
    return Expansion(len(seen), duplicates, dict(shown), tuple(kept))


def baseline(space: SearchSpace, admission: Admission, engine: str) -> Params | None:
    """The engine's defaults on the fewest GPUs: what a user has who tunes nothing.

    Holds layout values only, so that every searched argument is left to the engine. Among
    admissible layouts of equal size the smallest tp wins, then the smallest pp. None when no
    layout is admissible.
    """
    layouts = SearchSpace((engine,), tuple(_layout_dimensions(space, engine)))
    for params in sorted(layouts.points(), key=_layout_rank):
        if admission.check(params) is None:
            return params
    return None


def _layout_dimensions(space: SearchSpace, engine: str) -> list[Dimension]:
    return [item for item in space.for_engine(engine) if item.name in LAYOUT_NAMES]


def _layout_rank(params: Params) -> tuple[int, int, int]:
    tp, pp, dp = (_degree(params, name) for name in LAYOUT_NAMES)
    return tp * pp * dp, tp, pp


def _degree(params: Params, name: str) -> int:
    value = params.values.get(name, 1)
    return value if isinstance(value, int) else 1
