"""What is wrong with engine arguments, told before a launch: names, kinds and choices."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from runtimes.engines._flags import Flag, FlagTable
from runtimes.json_types import Json, canonical_json

_COUNT = re.compile(r"\d+(?:\.\d+)?[kKmMgGtT]?")
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SHOWN_CHOICES = 12


def argument_problems(table: FlagTable, args: Mapping[str, Json]) -> dict[str, str]:
    """For each argument that the engine would not take: what is wrong and what to write.

    Dotted names that no flag has are checked by their first part only. None, which leaves an
    argument to the engine, is right for every known name.
    """
    found: dict[str, str] = {}
    named: dict[str, str] = {}
    for name, value in args.items():
        own, meant = table.read(name, value)
        problem = _unknown(table, name) or _twice(named, name, own) or _value(table, own, meant)
        if problem:
            found[name] = problem
    return found


def _unknown(table: FlagTable, name: str) -> str | None:
    if table.knows(name):
        return None
    closest = table.closest(name.partition(".")[0])
    hint = f"; did you mean {closest}?" if closest else ""
    return f"no argument of version {table.version} is called {name}{hint}"


def _twice(named: dict[str, str], name: str, own: str) -> str | None:
    """The problem of a second name for an argument; notes the first in `named`."""
    earlier = named.setdefault(own, name)
    return None if earlier == name else f"is {own}, which {earlier} already sets; keep one of them"


def _value(table: FlagTable, name: str, value: Json) -> str | None:
    flag = table.find(name)
    if flag is None or value is None or table.restates_default(name, value):
        return None
    return _wrong_kind(flag, value) or _no_choice(flag, value)


def _wrong_kind(flag: Flag, value: Json) -> str | None:
    got = canonical_json(value)
    expected = {
        "switch": "true or false",
        "toggle": "true or false",
        "int": "a whole number",
        "count": "a whole number (also 8k or 8K)",
        "float": "a number",
        "text": "a single value",
        "json": "a mapping, a list or JSON text",
        "list": "a list",
    }[flag.kind]
    return None if _fits(flag, value) else f"takes {expected}, got {got}"


def _fits(flag: Flag, value: Json) -> bool:
    match flag.kind:
        case "switch" | "toggle":
            return isinstance(value, bool)
        case "int":
            return _is_integer(value)
        case "count":
            counted = isinstance(value, str) and _COUNT.fullmatch(value.strip()) is not None
            return counted or value == "auto" or _is_integer(value)
        case "float":
            text = isinstance(value, str) and _FLOAT.fullmatch(value.strip()) is not None
            return text or (isinstance(value, int | float) and not isinstance(value, bool))
        case "json":
            return isinstance(value, dict | list) or (
                isinstance(value, str) and _may_be_json(value)
            )
        case "list":
            return not isinstance(value, bool)
        case "text":
            # Some read JSON from what their parser calls text.
            return isinstance(value, str | int | float) or not flag.choices
    return True


def _may_be_json(text: str) -> bool:
    """False for what begins like a mapping or a list and is none; some take plain words too."""
    if not text.lstrip().startswith(("{", "[")):
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_integer(value: Json) -> bool:
    if isinstance(value, str):
        return _INTEGER.fullmatch(value.strip()) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _no_choice(flag: Flag, value: Json) -> str | None:
    if not flag.choices:
        return None
    known = [str(choice) for choice in flag.choices]
    wrong = [str(item) for item in (value if isinstance(value, list) else [value])]
    wrong = [item for item in wrong if item not in known]
    if not wrong:
        return None
    shown = ", ".join(known[:_SHOWN_CHOICES])
    more = f" and {len(known) - _SHOWN_CHOICES} more" if len(known) > _SHOWN_CHOICES else ""
    return f"has no value {wrong[0]!r}; known: {shown}{more}"
