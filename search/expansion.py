"""A space before the first trial: how many points there are, which are excluded, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from random import Random

from runtimes.json_types import canonical_json
from search.admission import Admission, Exclusion
from search.samplers.random import uniform_point
from search.space import SearchSpace
from search.trial import LAYOUT_NAMES, PRECISION_NAMES, Params


@dataclass(frozen=True, slots=True)
class Excluded:
    """Points that one rule excludes.

    Attributes:
        rule, engine: as in `Exclusion`.
        message: the rule as it reads for the first of them.
        count: how many.
    """

    rule: str
    engine: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a space comes to.

    Attributes:
        valid: points to launch, each configuration once; None when the space is not counted.
        duplicates: admissible points whose configuration an earlier point already has.
        rules: what excludes the others, by engine and rule.
        points: valid points in order, at most as many as asked for.
        kinds: of all valid points, the first of each layout and precision; as many at most.
    """

    valid: int | None
    duplicates: int
    rules: tuple[Excluded, ...]
    points: tuple[Params, ...]
    kinds: tuple[Params, ...] = ()

    @property
    def excluded(self) -> Mapping[str, int]:
        """Excluded points by message; rules of several engines that read alike are one."""
        counts: Counter[str] = Counter()
        for rule in self.rules:
            counts[rule.message] += rule.count
        return dict(counts)


def expand(space: SearchSpace, admission: Admission, *, limit: int | None = None) -> Expansion:
    """Count a finite space exactly, and keep its first `limit` valid points (None: all), and the
    first of each of as many layouts and precisions.

    A space that is endless, or finite but beyond `search.space.COUNTABLE`, is not counted:
    `valid` is None and `points` empty.

    Raises:
        UserError: a constraint or condition has no truth value for some point.
    """
    if not space.countable:
        return Expansion(None, 0, (), ())
    seen: set[str] = set()
    duplicates = 0
    excluded = _Tally()
    kept: list[Params] = []
    kinds: dict[str, Params] = {}
    for params in space.points():
        exclusion = admission.check(params)
        if exclusion is not None:
            excluded.add(exclusion)
            continue
        config_id = admission.config_id(params)
        if config_id in seen:
            duplicates += 1
            continue
        seen.add(config_id)
        if limit is None or len(kept) < limit:
            kept.append(params)
        if limit is None or len(kinds) < limit:
            kinds.setdefault(_kind(params), params)
    return Expansion(len(seen), duplicates, excluded.rules(), tuple(kept), tuple(kinds.values()))


def _kind(params: Params) -> str:
    """Equal for points of one layout and precision."""
    return canonical_json([params.values.get(name) for name in (*LAYOUT_NAMES, *PRECISION_NAMES)])


def sampled_exclusions(
    space: SearchSpace, admission: Admission, *, count: int, seed: int
) -> tuple[Excluded, ...]:
    """What excludes `count` points of a space that is not counted, drawn at random."""
    excluded = _Tally()
    rng = Random(seed)
    for _ in range(count):
        exclusion = admission.check(uniform_point(space, rng))
        if exclusion is not None:
            excluded.add(exclusion)
    return excluded.rules()


class _Tally:
    """Counts exclusions by engine and rule, and keeps the first of each."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], Exclusion] = {}

    def add(self, exclusion: Exclusion) -> None:
        key = exclusion.engine, exclusion.rule
        self._counts[key] += 1
        self._first.setdefault(key, exclusion)

    def rules(self) -> tuple[Excluded, ...]:
        return tuple(
            Excluded(rule, engine, self._first[engine, rule].message, count)
            for (engine, rule), count in self._counts.items()
        )


_PLAIN = frozenset({"tp", "pp", "dp"})
"""Degrees that a user who tunes nothing knows of."""
_LAYOUTS_AT_MOST = 10_000
"""Layouts looked at for the defaults; millions of them would take hours before the first trial."""


def baseline(space: SearchSpace, admission: Admission, engine: str) -> Params | None:
    """The engine's defaults on the fewest GPUs: what a user has who tunes nothing.

    Holds layout values only, so that every searched argument is left to the engine. Among
    admissible layouts of equal size those of tp, pp and dp alone come first, then the smallest tp
    wins, then the smallest pp, then the one that uses the fewest degrees. None when no layout is
    admissible. Of endless lists of degrees only the first layouts are looked at.
    """
    dimensions = tuple(item for item in space.for_engine(engine) if item.name in LAYOUT_NAMES)
    layouts = SearchSpace((engine,), dimensions, known=space.known)
    admitted = (
        params
        for params in chain(
            islice(layouts.points(), _LAYOUTS_AT_MOST), _combined_layouts(space, engine)
        )
        if admission.check(params) is None
    )
    return min(admitted, key=lambda params: _rank(params, admission), default=None)


def _combined_layouts(space: SearchSpace, engine: str) -> Iterator[Params]:
    """Layouts of the combinations of `engine`."""
    for params in space.combinations:
        if params.engine == engine:
            layout = {name: params.values[name] for name in LAYOUT_NAMES if name in params.values}
            yield Params(engine, layout)


def _rank(params: Params, admission: Admission) -> tuple[int, int, int, int, int]:
    layout = admission.config(params).layout
    special = len(layout.used.keys() - _PLAIN)
    return admission.plan(params).gpus, special, layout.tp, layout.pp, len(layout.used)
