"""What may stand where a value is searched: `[a, b]`, `{int: [low, high]}`, `{choice: [...]}`."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.json_types import Json, canonical_json
from search.space import Choice, FloatRange, IntRange

_FORMS = "[a, b, …], {int: [low, high], log, step}, {float: [low, high], log, step}, {choice: […]}"
_RANGES = ("int", "float")


def parse_dimension(value: object) -> Choice | IntRange | FloatRange:
    """The domain written as `value`; a single value is a choice of one.

    Raises:
        ValueError: it is none of the forms; the message names them.
    """
    if isinstance(value, Choice | IntRange | FloatRange):
        return value
    if isinstance(value, list):
        return _choice(value)
    if isinstance(value, Mapping):
        return _structured(value)
    if value is None or isinstance(value, str | int | float | bool):
        return Choice((value,))
    raise ValueError(f"not a searched value; write one of {_FORMS}")


def domain_as_json(domain: Choice | IntRange | FloatRange) -> Json:
    """The form `parse_dimension` reads back."""
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
        raise ValueError("an empty list leaves nothing to try; give at least one value")
    spelled = [canonical_json(value) for value in values]
    for index, text in enumerate(spelled):
        if text in spelled[:index]:
            raise ValueError(f"{text} stands twice in the list; write each value once")
    return Choice(tuple(values))


def _structured(form: Mapping[str, Json]) -> Choice | IntRange | FloatRange:
    for later in ("when", "equals"):
        if later in form:
            raise ValueError(f"`{later}` is not yet supported by this version; remove it")
    kinds = [kind for kind in (*_RANGES, "choice") if kind in form]
    if len(kinds) != 1:
        raise ValueError(f"not a searched value; write one of {_FORMS}")
    kind = kinds[0]
    allowed = {kind, "log", "step"} if kind in _RANGES else {kind}
    if unknown := sorted(set(form) - allowed):
        raise ValueError(f"{unknown[0]!r} does not belong here; write one of {_FORMS}")
    if kind == "choice":
        values = form["choice"]
        if not isinstance(values, list):
            raise ValueError("`choice` takes a list")
        return _choice(values)
    return _range(kind, form)


def _range(kind: str, form: Mapping[str, Json]) -> IntRange | FloatRange:
    bounds = form[kind]
    if not (isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds))):
        raise ValueError(f"`{kind}` takes [low, high], two numbers")
    low, high = bounds
    log = form.get("log", False)
    step = form.get("step")
    if not isinstance(log, bool):
        raise ValueError("`log` is true or false")
    if step is not None and not (_is_number(step) and step > 0):  # type: ignore[operator]  # a number by the check before
        raise ValueError("`step` is a number above zero")
    if not low < high:  # type: ignore[operator]  # numbers by the check above
        raise ValueError(f"low must be below high, got [{low}, {high}]")
    if log and not low > 0:  # type: ignore[operator]  # numbers by the check above
        raise ValueError(f"a log range starts above zero, got low={low}")
    if kind == "int":
        if not all(isinstance(number, int) for number in (low, high, 1 if step is None else step)):
            raise ValueError("an int range takes whole numbers")
        return IntRange(low, high, log=log, step=1 if step is None else step)  # type: ignore[arg-type]  # ints by the check above
    return FloatRange(float(low), float(high), log=log, step=None if step is None else float(step))  # type: ignore[arg-type]  # numbers by the check above


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
