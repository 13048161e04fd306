"""One of `combinations`: a point in one flat mapping, whatever sections it was written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, JsonValue

from orchestrator.spec.refusal import RefusedValueError, suggestion
from orchestrator.spec.values import argument_name
from runtimes.json_types import Json
from runtimes.parallel import DEGREES
from runtimes.quantization import PARTS
from search.materialize import ENV_PREFIX
from search.trial import LAYOUT_NAMES, LAYOUT_PRESET, PRECISION_NAMES

ENGINE = "engine"
_NESTED = ("parallel", "quantization", "args", "env")


def parse_combination(value: object) -> dict[str, Json]:
    """The point written as `value`: names as in `search.trial.Params`, and `engine`.

    Raises:
        RefusedValueError: it is no mapping, or names something twice or nothing at all.
    """
    if not isinstance(value, Mapping):
        raise RefusedValueError("is no combination", "write {tp: 2, max-num-seqs: 64}")
    written: dict[str, str] = {}
    flat: dict[str, Json] = {}
    for spelled, name, item in _entries(value):
        other = written.setdefault(name, spelled)
        if name in flat:
            raise RefusedValueError(f"{other!r} and {spelled!r} are the same", "keep one of them")
        flat[name] = item
    return flat


def _entries(value: Mapping[object, Json]) -> Iterator[tuple[str, str, Json]]:
    """Each value as it was spelt, by its name, and itself."""
    for key, item in value.items():
        spelled = str(key)
        if spelled in _NESTED and isinstance(item, Mapping):
            for inner, inner_item in item.items():
                yield f"{spelled}.{inner}", _nested_name(spelled, str(inner)), inner_item
        else:
            yield spelled, _flat_name(spelled), item


def _flat_name(spelled: str) -> str:
    if spelled == ENGINE or spelled in LAYOUT_NAMES or spelled in PRECISION_NAMES:
        return spelled
    if spelled.startswith(ENV_PREFIX):
        return spelled
    section, dot, inner = spelled.partition(".")
    if dot and section in ("parallel", "quantization"):
        return _nested_name(section, inner)
    return argument_name(spelled)


def _nested_name(section: str, inner: str) -> str:
    if section == "args":
        return argument_name(inner)
    if section == "env":
        return ENV_PREFIX + inner
    known = ("preset", *(DEGREES if section == "parallel" else PARTS))
    if inner not in known:
        raise RefusedValueError(f"unknown key '{section}.{inner}'", suggestion(inner, known))
    if section == "quantization":
        return f"quantization.{inner}"
    return LAYOUT_PRESET if inner == "preset" else inner


Combination: TypeAlias = Annotated[dict[str, JsonValue], BeforeValidator(parse_combination)]
