"""How searched parameters become typed columns, the same ones in every trial file of a run.

Free of pyarrow, so that whoever knows the search space can say the types without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from runtimes.errors import InternalError
from runtimes.json_types import Json, canonical_json

ParameterType: TypeAlias = Literal["int", "float", "bool", "string", "json"]
ParameterTypes: TypeAlias = Mapping[str, ParameterType]
"""Type by parameter name, in the order in which the columns shall stand."""

Cell: TypeAlias = str | int | float | bool | None

_INT64 = range(-(1 << 63), 1 << 63)
_EXACT_IN_DOUBLE = range(-(1 << 53), (1 << 53) + 1)


def parameter_type(values: Iterable[Json]) -> ParameterType:
    """The narrowest column type that holds every one of `values` exactly.

    `null` fits every type. Integers beside other numbers make a "float" column, as long as a
    double holds them. Anything else mixed or structured is "json". For a range, give both
    bounds in the type that its values have.
    """
    given = [value for value in values if value is not None]
    if not given:
        return "json"
    if all(isinstance(value, bool) for value in given):
        return "bool"
    if all(isinstance(value, str) for value in given):
        return "string"
    if all(_is_int(value) and value in _INT64 for value in given):
        return "int"
    if all(_fits_double(value) for value in given):
        return "float"
    return "json"


def column_names(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Column by name: `prefix` and the name with what SQL would have to quote as `_`.

    Names that come out alike, letter case aside (DuckDB ignores it), are told apart by a number.
    """
    columns: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = column = prefix + re.sub(r"\W", "_", name)
        count = 1
        while column.casefold() in taken:
            count += 1
            column = f"{stem}_{count}"
        taken.add(column.casefold())
        columns[name] = column
    return columns


def json_kind(value: Json) -> str:
    """JSON's own name for what `value` is, integers apart; recorded so that reading is exact."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def to_cell(name: str, value: Json, declared: ParameterType) -> Cell:
    """What the column of parameter `name` holds for `value`.

    Raises:
        InternalError: the value does not fit the type declared for the parameter.
    """
    if declared == "json":
        return canonical_json(value)
    if value is None:
        return None
    if declared == "float" and _fits_double(value) and isinstance(value, int | float):
        return float(value)
    if declared == parameter_type([value]) and isinstance(value, str | int | float):
        return value
    raise InternalError(
        f"parameter {name!r} has the value {value!r}, but its column was declared {declared}; "
        "types must be derived from every value the search can propose"
    )


def from_cell(cell: Cell, kind: str, declared: ParameterType) -> Json:
    """The value that `to_cell` put in a column; `kind` as `json_kind` told it."""
    if kind == "null":
        return None
    if declared == "json":
        value: Json = json.loads(str(cell))
        return value
    if kind == "integer" and isinstance(cell, float):
        return int(cell)
    return cell


def _is_int(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fits_double(value: Json) -> bool:
    return isinstance(value, float) or (_is_int(value) and value in _EXACT_IN_DOUBLE)
