"""How searched parameters become typed columns, the same ones in every trial file of a run.

Free of pyarrow, so that whoever knows the search space can say the types without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from runtimes.errors import InternalError
from runtimes.json_types import Json, canonical_json
from search.domains import Choice
from search.space import SearchSpace

ParameterType: TypeAlias = "str | list[ParameterType] | dict[str, ParameterType]"
"""`int`, `float`, `bool`, `string`, `json` (text of any JSON), `[type]` for a list of values of
that type, `{key: type}` for an object of which any key may be absent."""
ParameterTypes: TypeAlias = Mapping[str, ParameterType]
"""Type by parameter name, in the order in which the columns shall stand."""

Cell: TypeAlias = Json
"""What Arrow takes for a value, and gives for it."""

_INT64 = range(-(1 << 63), 1 << 63)
_EXACT_IN_DOUBLE = range(-(1 << 53), (1 << 53) + 1)
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_MOST_KEYS = 64


def column_types(space: SearchSpace) -> dict[str, ParameterType]:
    """By parameter name over all engines, the type of a column that holds its values."""
    structured: dict[str, list[Json]] = {}
    for dimension in space.dimensions:
        if isinstance(dimension.domain, Choice):
            structured.setdefault(dimension.name, []).extend(dimension.domain.values)
    for combination in space.combinations:
        for name, value in combination.values.items():
            structured.setdefault(name, []).append(value)
    return {
        name: parameter_type(structured[name]) if kind == "json" and name in structured else kind
        for name, kind in space.parameter_types().items()
    }


def parameter_type(values: Iterable[Json]) -> ParameterType:
    """The narrowest column type that holds every one of `values` exactly.

    `null` fits every type. Integers beside other numbers make a "float" column, as long as a
    double holds them. Lists whose elements have one type are a list of it. Objects are a struct
    of all their keys, unless a key is null somewhere, which is not the same as absent, or is no
    name for a column. Anything else mixed is "json". For a range, give both bounds in the type
    that its values have.
    """
    given = [value for value in values if value is not None]
    if given and all(_fits_double(value) for value in given) and not _all_ints(given):
        return "float"
    return _exact_type(given)


def _exact_type(given: Sequence[Json]) -> ParameterType:
    """The type that tells integers and other numbers apart, as inside a list or an object."""
    if not given:
        return "json"
    if all(isinstance(value, bool) for value in given):
        return "bool"
    if all(isinstance(value, str) for value in given):
        return "string"
    if _all_ints(given):
        return "int"
    if all(isinstance(value, float) for value in given):
        return "float"
    lists = [value for value in given if isinstance(value, list)]
    if len(lists) == len(given):
        return _list_type(lists)
    objects = [value for value in given if isinstance(value, dict)]
    return _object_type(objects) if len(objects) == len(given) else "json"


def _list_type(lists: Sequence[list[Json]]) -> ParameterType:
    inner = _exact_type([item for items in lists for item in items if item is not None])
    return "json" if inner == "json" else [inner]


def _object_type(objects: Sequence[dict[str, Json]]) -> ParameterType:
    values: dict[str, list[Json]] = {}
    for item in objects:
        for key, value in item.items():
            values.setdefault(key, []).append(value)
    alike = len({key.casefold() for key in values}) < len(values)
    named = all(_KEY.fullmatch(key) for key in values)
    known = all(value is not None for found in values.values() for value in found)
    if alike or not named or not known or not 0 < len(values) <= _MOST_KEYS:
        return "json"
    return {key: _exact_type(found) for key, found in sorted(values.items())}


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
    if declared == "float" and isinstance(value, int) and _fits_double(value):
        return float(value)
    if not _fits(value, declared):
        raise InternalError(
            f"parameter {name!r} has the value {value!r}, but its column was declared {declared}; "
            "types must be derived from every value the search can propose"
        )
    return _part_to_cell(value, declared)


def from_cell(cell: Cell, kind: str, declared: ParameterType) -> Json:
    """The value that `to_cell` put in a column; `kind` as `json_kind` told it."""
    if kind == "null":
        return None
    if kind == "integer" and isinstance(cell, float):
        return int(cell)
    return _part_from_cell(cell, declared)


def _fits(value: Json, declared: ParameterType) -> bool:
    """Whether a value, or a part of one, is of exactly the type."""
    if declared == "json":
        return True
    if isinstance(declared, list):
        return isinstance(value, list) and all(
            item is None or _fits(item, declared[0]) for item in value
        )
    if isinstance(declared, dict):
        return isinstance(value, dict) and all(
            key in declared and item is not None and _fits(item, declared[key])
            for key, item in value.items()
        )
    return _exact_type([value]) == declared


def _part_to_cell(value: Json, declared: ParameterType) -> Cell:
    if declared == "json":
        return canonical_json(value)
    if isinstance(declared, list) and isinstance(value, list):
        return [None if item is None else _part_to_cell(item, declared[0]) for item in value]
    if isinstance(declared, dict) and isinstance(value, dict):
        return {key: _part_to_cell(item, declared[key]) for key, item in value.items()}
    return value


def _part_from_cell(cell: Cell, declared: ParameterType) -> Json:
    if declared == "json":
        value: Json = json.loads(str(cell))
        return value
    if isinstance(declared, list) and isinstance(cell, list):
        return [None if item is None else _part_from_cell(item, declared[0]) for item in cell]
    if isinstance(declared, dict) and isinstance(cell, dict):
        return {
            key: _part_from_cell(cell[key], inner)
            for key, inner in declared.items()
            if cell[key] is not None
        }
    return cell


def _all_ints(given: Sequence[Json]) -> bool:
    return all(_is_int(value) and value in _INT64 for value in given)


def _is_int(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fits_double(value: Json) -> bool:
    return isinstance(value, float) or (_is_int(value) and value in _EXACT_IN_DOUBLE)
