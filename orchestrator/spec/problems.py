"""From pydantic's errors to problems a user can act on: path, value, remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pydantic import BaseModel, ValidationError

from orchestrator.spec.later import later_key, later_kind
from orchestrator.spec.redaction import shape, shown
from orchestrator.spec.refusal import NOT_YET, RefusedValueError, closest, suggestion
from orchestrator.spec.sections import keys_of, section_at
from runtimes.errors import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Location: TypeAlias = tuple[str | int, ...]

_WRONG_TYPE = {
    "string_type": ("takes text", "put it in quotes"),
    "list_type": ("takes a list", "write [a, b]"),
    "int_type": ("takes a whole number", ""),
    "int_from_float": ("takes a whole number", ""),
    "float_type": ("takes a number", ""),
    "bool_type": ("takes true or false", ""),
    "bool_parsing": ("takes true or false", ""),
    "finite_number": ("takes a finite number", ""),
    "invalid_key": ("a key has to be text", "put it in quotes"),
    "invalid-json-value": ("is no JSON value", "put dates in quotes"),
    "too_short": ("must not be empty", "give at least one"),
    "string_too_short": ("must not be empty", ""),
}
_BOUNDS = {
    "greater_than": ("must be above", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than_equal": ("must be at most", "le"),
}
_NOUNS: Mapping[str | int, str] = {"of": "kind of ramp", "engine": "load generator"}
_LOAD = re.compile(r"workload\.load(\.stages\[\d+\])?")
_STAGE = re.compile(r"\.stages\[\d+\]")
_SECTION_WANTED = ("dict_type", "model_type", "model_attributes_type")
_EXAMPLES = {
    "name": "write `name: my-study`; runs are named after it",
    "model": "write `model: ORGANISATION/MODEL` or `model: {path: FOLDER}`",
    "engines": "write `engines: {vllm: {}}`",
    "workload.load.kind": "write {kind: concurrency, value: 64} or {kind: poisson, rate: 8}",
    "workload.load.value": "write the number of requests in flight, as `value: 64`",
    "workload.load.rate": "write requests per second, as `rate: 8`",
    "workload.load.cv": "write how much the gaps vary, relative to their mean, as `cv: 2`",
    "workload.load.of": "write `of: concurrency` or `of: rate`",
    "workload.load.from": "write what it starts from, as `from: 1`",
    "workload.load.to": "write what it ends at, as `to: 64`",
    "workload.load.over": "write how long it takes, as `over: 60s`",
    "workload.load.stages": "write a list of loads, as `stages: [{kind: concurrency, value: 8}]`",
}


def problems_of(error: ValidationError, root: type[BaseModel], data: object) -> list[Problem]:
    """Every problem pydantic found in `data`, in the words of the experiment file."""
    found: list[tuple[Location, str, Problem]] = []
    for detail in error.errors(include_url=False):
        location = file_location(detail["loc"], data)
        found.append((location, detail["type"], _problem(detail, location, root, data)))
    unknown = [location for location, kind, _ in found if kind == "extra_forbidden"]
    return [
        problem
        for location, kind, problem in found
        if not (kind == "missing" and _meant_by(location, unknown))
    ]


def dotted(location: Sequence[str | int]) -> str:
    """`engines.vllm.search.max-num-seqs`, `objectives[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def file_location(location: Location, data: object) -> Location:
    """Pydantic's location without what is not in the file: tags of unions, marks of keys."""
    kept: list[str | int] = []
    here = data
    tagged = False
    for index, part in enumerate(location):
        if part == "[key]":
            continue
        if not tagged and part == value_at(here, ("kind",)):
            tagged = True  # a key of the same name comes behind the tag: {kind: stages, stages: …}
            continue
        following = value_at(here, (part,))
        if following is ABSENT and not (index == len(location) - 1 and isinstance(here, Mapping)):
            continue
        kept.append(str(part) if isinstance(here, Mapping) else part)
        here, tagged = following, False
    return tuple(kept)


def value_at(data: object, location: Sequence[str | int]) -> object:
    """What stands at `location`; `ABSENT` where nothing does."""
    here = data
    for part in location:
        try:
            here = here[part]  # type: ignore[index]  # walked as far as it goes
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return here


class _Absent:
    pass


ABSENT = _Absent()


def _problem(
    detail: ErrorDetails, location: Location, root: type[BaseModel], data: object
) -> Problem:
    kind, path, value = detail["type"], dotted(location), detail["input"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(detail, location, root)
    if kind == "missing":
        return Problem(path, "this key is required and missing", remedy=_example(path))
    if kind in ("union_tag_not_found", "union_tag_invalid", "literal_error"):
        return _wrong_choice(detail, location, data)
    if kind in _SECTION_WANTED:
        return Problem(path, "takes keys with values", shape(value), _section_example(path))
    text = shown(value, location, data)
    if kind in _WRONG_TYPE:
        rule, remedy = _WRONG_TYPE[kind]
        return Problem(path, rule, text, remedy)
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        return Problem(path, f"{words} {context[limit]:g}", text)
    refused = context.get("error")
    if isinstance(refused, RefusedValueError):
        return Problem(path, refused.rule, text, refused.remedy)
    words = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return Problem(path, words, text)


def _unknown_key(detail: ErrorDetails, location: Location, root: type[BaseModel]) -> Problem:
    path, key = dotted(location), str(location[-1])
    if (instead := later_key(location)) is not None:
        return Problem(path, NOT_YET, remedy=instead)
    section = section_at(root, detail["loc"][:-1])
    remedy = suggestion(key, keys_of(section)) if section is not None else ""
    return Problem(path, f"unknown key {key!r}", remedy=remedy)


def _wrong_choice(detail: ErrorDetails, location: Location, data: object) -> Problem:
    """One of a few words was wanted: the kind of a section, or a setting."""
    context = detail.get("ctx", {})
    if detail["type"] == "union_tag_not_found":
        path = dotted((*location, "kind"))
        return Problem(path, "this key is required and missing", remedy=_example(path))
    if detail["type"] == "union_tag_invalid":
        location, value = (*location, "kind"), context["tag"]
        known = [word.strip(" '") for word in context["expected_tags"].split(",")]
    else:
        value = detail["input"]
        known = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
    if location[-1] == "kind" and (later := later_kind(location[:-1], value)) is not None:
        return later
    remedy = suggestion(value, known) if isinstance(value, str) else f"use {', '.join(known)}"
    noun = _NOUNS.get(location[-1], location[-1])
    return Problem(dotted(location), f"unknown {noun}", shown(value, location, data), remedy)


def _example(path: str) -> str:
    path = _STAGE.sub("", path)
    for key, text in _EXAMPLES.items():
        if path == key or path.endswith(f".{key}"):
            return text
    return "add it"


def _meant_by(location: Location, unknown: Sequence[Location]) -> bool:
    """Whether a key beside the missing one at `location` stands for it: misspelt, or later."""
    for other in unknown:
        if other[:-1] == location[:-1] and (
            later_key(other) is not None or closest(str(other[-1]), [str(location[-1])]) is not None
        ):
            return True
    return False


def _section_example(path: str) -> str:
    if _LOAD.fullmatch(path):
        return "write {kind: concurrency, value: 64}"
    return "write {p99: LIMIT_MS}" if path.startswith("slo.") else "write `key: value` below it"
