"""Parameters of a run as Optuna's distributions: readable values, one distribution a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from runtimes.json_types import Json, canonical_json
from tracking.records import TrialRecord
from tracking.run_data import RunData

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value: TypeAlias = "str | int | float | bool | None"
_ENGINE = "engine"
_SECTIONS = (("parallel", ""), ("quantization", "quantization."))
"""Sections of the experiment whose lists are searched, and how their parameters begin."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One trial's parameters and the distribution of each, by name."""

    values: dict[str, Value] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)


def encode(data: RunData, records: Sequence[TrialRecord]) -> list[Encoded]:
    """The parameters of `records` in their order.

    A name has one distribution in all of them: what the experiment declares where it holds every
    value that ran, otherwise the values that ran. Names are `ENGINE.NAME` with several engines.
    """
    engines = sorted({record.engine for record in records})
    several = len(engines) > 1
    points = [_named(record, several=several) for record in records]
    declared = dict(_declared(data, engines, several=several))
    seen: dict[str, list[Json]] = {}
    for point in points:
        for name, value in point.items():
            seen.setdefault(name, []).append(value)
    known = {name: _distribution(declared.get(name), values) for name, values in seen.items()}
    return [
        Encoded(
            {name: _stored(known[name], value) for name, value in point.items()},
            {name: known[name] for name in point},
        )
        for point in points
    ]


def _named(record: TrialRecord, *, several: bool) -> dict[str, Json]:
    prefix = f"{record.engine}." if several else ""
    own = {f"{prefix}{name}": value for name, value in record.params.items()}
    return {_ENGINE: record.engine, **own}


def _declared(
    data: RunData, engines: Sequence[str], *, several: bool
) -> Iterator[tuple[str, Json]]:
    """What the experiment file says of each name, in its own form."""
    sections = data.experiment.get("engines")
    for engine in engines:
        prefix = f"{engine}." if several else ""
        for section, begin in _SECTIONS:
            listed = data.experiment.get(section)
            for name, form in listed.items() if isinstance(listed, Mapping) else ():
                yield f"{prefix}{begin}{name}", form
        own = sections.get(engine) if isinstance(sections, Mapping) else None
        search = own.get("search") if isinstance(own, Mapping) else None
        yield from (
            (f"{prefix}{name}", form)
            for name, form in (search.items() if isinstance(search, Mapping) else ())
        )


def _distribution(form: Json, seen: Sequence[Json]) -> BaseDistribution:
    ranged = _range(form)
    if ranged is not None and all(_within(form, value) for value in seen):
        return ranged
    return _categorical([*_choices(form), *seen])


def _range(form: Json) -> BaseDistribution | None:
    """The distribution of `{int: [low, high], log, step}` or `{float: …}`; None of other forms."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if not isinstance(form, Mapping):
        return None
    log, step = form.get("log") is True, form.get("step")
    if isinstance(bounds := form.get("int"), list):
        low, high = (int(str(bound)) for bound in bounds)
        return IntDistribution(low, high, log=log, step=step if isinstance(step, int) else 1)
    if isinstance(bounds := form.get("float"), list):
        low_f, high_f = (float(str(bound)) for bound in bounds)
        stepped = float(step) if isinstance(step, int | float) else None
        return FloatDistribution(low_f, high_f, log=log, step=stepped)
    return None


def _choices(form: Json) -> list[Json]:
    if isinstance(form, list):
        return form
    listed = form.get("choice") if isinstance(form, Mapping) else None
    return listed if isinstance(listed, list) else []


def _within(form: Json, value: Json) -> bool:
    """Whether a range in the experiment's form holds `value`."""
    if not isinstance(form, Mapping) or isinstance(value, bool):
        return False
    bounds = form.get("int", form.get("float"))
    if not isinstance(bounds, list) or not isinstance(value, int | float):
        return False
    low, high = (float(str(bound)) for bound in bounds)
    if not low <= value <= high or ("int" in form and not isinstance(value, int)):
        return False
    step = form.get("step")
    steps = (value - low) / step if isinstance(step, int | float) else 0.0
    return abs(steps - round(steps)) < 1e-8


def _categorical(values: Sequence[Json]) -> BaseDistribution:
    """The values in their order, each once; as JSON text where some are alike or nested."""
    from optuna.distributions import CategoricalDistribution

    spelled = dict.fromkeys(map(canonical_json, values))
    distinct = {canonical_json(value): value for value in values}
    plain = [value for value in distinct.values() if not isinstance(value, list | dict)]
    if len(plain) == len(spelled) and len(set(plain)) == len(plain):
        return CategoricalDistribution(tuple(plain))
    return CategoricalDistribution(tuple(spelled))


def _stored(distribution: BaseDistribution, value: Json) -> Value:
    from optuna.distributions import CategoricalDistribution

    if isinstance(distribution, CategoricalDistribution):
        text = canonical_json(value)
        for choice in distribution.choices:
            if canonical_json(choice) == text:
                return choice
        return text
    return value if isinstance(value, int | float) else None
