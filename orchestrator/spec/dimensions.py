"""What may stand where a value is searched: `[a, b]`, `{int: [low, high]}`, `{choice: [...]}`,
`{equals: concurrency}`, the last three with `when`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias, TypeGuard

from orchestrator.spec.refusal import RefusedValueError
from orchestrator.spec.ties import Tie, parse_tie
from runtimes.json_types import Json, canonical_json
from search.constraints import Condition
from search.space import Choice, FloatRange, IntRange

_FORMS = (
    "write [a, b, …], {int: [low, high], log, step}, {float: [low, high], log, step}, "
    "{choice: […]} or {equals: concurrency}, the last four also with `when`"
)
_RANGES = ("int", "float")
_KINDS = (*_RANGES, "choice", "equals")
_STEPS = 2**53
"""Steps of a range at most: beyond them, neighbouring whole numbers are the same float."""

Unconditional: TypeAlias = Choice | IntRange | FloatRange | Tie


@dataclass(frozen=True, slots=True)
class Conditional:
    """What is searched only where `when` holds."""

    domain: Unconditional
    when: Condition


Searched: TypeAlias = Unconditional | Conditional


def parse_dimension(value: object) -> Searched:
    """What `value` says is searched; a single value is a choice of one.

    Raises:
        ValueError: it is none of the forms; the remedy names them.
    """
    if isinstance(value, Choice | IntRange | FloatRange | Tie | Conditional):
        return value
    if isinstance(value, list):
        return _choice(value)
    if isinstance(value, Mapping):
        return _structured(value)
    if value is None or isinstance(value, str | int | float):
        return _choice([value])
    raise RefusedValueError("is no searched value", _FORMS)


def domain_as_json(domain: Searched) -> Json:
    """The form `parse_dimension` reads back."""
    if isinstance(domain, Conditional):
        inner = domain_as_json(domain.domain)
        return {**inner, "when": domain.when.text} if isinstance(inner, dict) else inner
    if isinstance(domain, Tie):
        return {"equals": domain.to}
    if isinstance(domain, Choice):
        return {"choice": list(domain.values)}
    kind = "int" if isinstance(domain, IntRange) else "float"
    form: dict[str, Json] = {kind: [domain.low, domain.high]}
    if domain.log:
        form["log"] = True
    if domain.step is not None and not (kind == "int" and domain.step == 1):
        form["step"] = domain.step
    return form


def _choice(values: list[Json]) -> Choice:
    if not values:
        raise RefusedValueError("an empty list leaves nothing to try", "give at least one value")
    spelled: set[str] = set()
    for value in values:
        if not _is_json(value):
            raise RefusedValueError(
                "holds what is no JSON value",
                "put dates in quotes; numbers must be finite, keys must be text",
            )
        text = canonical_json(value)
        if text in spelled:
            raise RefusedValueError("a value stands twice in the list", "write each value once")
        spelled.add(text)
    return Choice(tuple(values))


def _structured(form: Mapping[str, Json]) -> Searched:
    if "when" not in form:
        return _kind(form)
    domain = _kind({key: value for key, value in form.items() if key != "when"})
    return Conditional(domain, _condition(form["when"]))


def _condition(text: Json) -> Condition:
    if not isinstance(text, str):
        raise RefusedValueError("`when` takes an expression", 'write {choice: […], when: "tp > 1"}')
    try:
        return Condition.parse(text)
    except ValueError as error:
        raise RefusedValueError(f"`when`: {error}") from None


def _kind(form: Mapping[str, Json]) -> Unconditional:
    kinds = [kind for kind in _KINDS if kind in form]
    if len(kinds) != 1:
        raise RefusedValueError("is no searched value", _FORMS)
    kind = kinds[0]
    allowed = {kind, "log", "step"} if kind in _RANGES else {kind}
    if unknown := [key for key in form if key not in allowed]:
        raise RefusedValueError(f"{unknown[0]!r} does not belong here", _FORMS)
    if (tie := parse_tie(form)) is not None:
        return tie
    if kind in _RANGES:
        return _range(kind, form)
    values = form["choice"]
    if not isinstance(values, list):
        raise RefusedValueError("`choice` takes a list", "write {choice: [a, b]}")
    return _choice(values)


def _range(kind: str, form: Mapping[str, Json]) -> IntRange | FloatRange:
    bounds = form[kind]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise RefusedValueError(f"`{kind}` takes two numbers", f"write {{{kind}: [low, high]}}")
    low, high = bounds
    if not _is_number(low) or not _is_number(high):
        raise RefusedValueError(f"`{kind}` takes two numbers", f"write {{{kind}: [low, high]}}")
    log, step = form.get("log", False), form.get("step")
    if not isinstance(log, bool):
        raise RefusedValueError("`log` takes true or false")
    if step is not None and not (_is_number(step) and step > 0):
        raise RefusedValueError("`step` takes a number above zero")
    if not low < high:
        raise RefusedValueError("low must be below high", f"write {{{kind}: [low, high]}}")
    if log and step is not None:
        raise RefusedValueError("a log range takes no step", "remove `log` or `step`")
    if log and not low > 0:
        raise RefusedValueError("a log range must start above zero")
    _check_span(kind, low, high, step)
    return _built(kind, low, high, log=log, step=step)


def _check_span(kind: str, low: float, high: float, step: float | None) -> None:
    """Refuse what samplers could not draw from."""
    if kind == "float" and not math.isfinite(float(high) - float(low)):
        raise RefusedValueError("spans more than a float can hold", "bring low and high together")
    if step is not None and Decimal(str(high)) - Decimal(str(low)) > _STEPS * Decimal(str(step)):
        raise RefusedValueError(
            "has more steps than floats can tell apart", "write a larger `step`, or none"
        )


def _built(
    kind: str, low: float, high: float, *, log: bool, step: float | None
) -> IntRange | FloatRange:
    if kind == "float":
        return FloatRange(
            float(low), float(high), log=log, step=None if step is None else float(step)
        )
    step = 1 if step is None else step
    if not (isinstance(low, int) and isinstance(high, int) and isinstance(step, int)):
        raise RefusedValueError("an int range takes whole numbers", "or write `float`")
    return IntRange(low, high, log=log, step=step)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, str | bool) or _is_number(value)
