"""From pydantic's errors to problems a user can act on: path, value, remedy."""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from runtimes.errors import Problem
from runtimes.json_types import Json
from runtimes.secrets import is_secret_name

Location = tuple[str | int, ...]

_NOT_YET: Mapping[tuple[str, ...], str] = {
    ("quantization",): "write the engine's own arguments (`kv-cache-dtype`, `quantization`)",
    ("combinations",): "list the values under `parallel` and `search`",
    ("deployment", "prefill"): "use {kind: colocated}",
    ("deployment", "decode"): "use {kind: colocated}",
    ("deployment", "router"): "use {kind: colocated}",
    ("search", "finalists"): "remove it",
    ("search", "pruner"): "remove it",
    ("metrics", "linger"): "remove it",
    ("parallel", "presets"): "list the degrees: {tp: [1, 2, 4]}",
    **{
        ("parallel", degree): "tp, pp and dp are supported"
        for degree in (
            "ep", "dcp", "pcp", "cp", "attention_dp", "moe_tp", "moe_ep", "moe_dense_tp",
            "moe_cluster",
        )
    },
    ("engines", "*", "environment", "requirements"): "name an interpreter: {python: PATH}",
    ("engines", "*", "environment", "image"): "name an interpreter: {python: PATH}",
    ("engines", "*", "environment", "label"): "name an interpreter: {python: PATH}",
    ("offline",): "set HF_HUB_OFFLINE under the engine's `env`",
    ("weights",): "set `load-format: dummy` under the engine's `args`",
}  # fmt: skip
_LATER_KINDS = {
    "load": ("constant", "gamma", "ramp", "stages", "sweep", "replay", "max_under_slo"),
    "deployment": ("disaggregated",),
    "workload": ("sharegpt", "shared_prefix", "conversation", "append_prefill", "trace"),
}


def problems_of(error: ValidationError, root: type[BaseModel], data: object) -> list[Problem]:
    """Every problem pydantic found in `data`, in the words of the experiment file."""
    found = []
    for detail in error.errors(include_url=False):
        location = _file_location(detail["loc"], data)
        value = _value_at(data, location)
        found.append(_problem(detail["type"], detail["msg"], location, value, root))
    return found


def dotted(location: Sequence[str | int]) -> str:
    """`engines.vllm.search.max-num-seqs`, `objectives[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def suggestion(name: str, known: Sequence[str]) -> str:
    """`did you mean 'x'? known keys: …`, for a key that is not among `known`."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known here: {', '.join(sorted(known))}"


def _problem(
    kind: str, message: str, location: Location, value: object, root: type[BaseModel]
) -> Problem:
    path = dotted(location)
    if kind == "extra_forbidden":
        return _unknown_key(location, root)
    if kind == "missing":
        return Problem(path, "this key is required and missing")
    secret = any(is_secret_name(str(part)) for part in location)
    shown = "'***'" if secret else _shown(value)
    if kind in ("union_tag_invalid", "literal_error", "union_tag_not_found"):
        later = _later_kind(location, value)
        if later is not None:
            return later
    words = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return Problem(path, words[:1].lower() + words[1:], shown)


def _unknown_key(location: Location, root: type[BaseModel]) -> Problem:
    path, key = dotted(location), str(location[-1])
    for pattern, remedy in _NOT_YET.items():
        if len(pattern) == len(location) and all(
            expected in ("*", part) for expected, part in zip(pattern, location, strict=True)
        ):
            return Problem(path, "not yet supported by this version", remedy=remedy)
    model = _model_at(root, location[:-1])
    known = sorted(model.model_fields) if model is not None else []
    return Problem(path, f"unknown key {key!r}", remedy=suggestion(key, known))


def _later_kind(location: Location, value: object) -> Problem | None:
    kind = value.get("kind") if isinstance(value, Mapping) else value
    section = next((str(part) for part in reversed(location) if part in _LATER_KINDS), "")
    if kind in _LATER_KINDS.get(section, ()):
        usable = {"load": "concurrency or poisson", "deployment": "colocated"}.get(section, "")
        path = dotted(location if location[-1] == "kind" else (*location, "kind"))
        remedy = f"use {usable}" if usable else ""
        return Problem(path, "not yet supported by this version", repr(kind), remedy)
    return None


def _shown(value: object) -> str | None:
    if value is _ABSENT:
        return None
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"


class _Absent:
    pass


_ABSENT = _Absent()


def _file_location(location: Location, data: object) -> Location:
    """Pydantic's location without what is not in the file: union tags and function names."""
    kept: list[str | int] = []
    here = data
    for part in location:
        following = _value_at(here, (part,))
        if following is not _ABSENT:
            here = following
        elif part != location[-1] or not isinstance(here, Mapping) or part == "[key]":
            continue
        kept.append(part)
    return tuple(kept)


def _value_at(data: object, location: Location) -> object:
    here = data
    for part in location:
        try:
            here = here[part]  # type: ignore[index]  # walked as far as it goes
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return here


def _model_at(root: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The section that `location` lies in, for the list of its keys."""
    found: list[type[BaseModel]] = [root]
    for part in location:
        following: list[type[BaseModel]] = []
        for model in found:
            field = model.model_fields.get(str(part))
            if field is not None:
                following += _models_in(field.annotation)
        if following:
            found = following
    return found[0] if found else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, dict, list, tuple):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []


def without(data: dict[str, Json], locations: Sequence[Location]) -> dict[str, Json]:
    """A copy of `data` without what stands at `locations`, to check the rest of it."""
    pruned = copy.deepcopy(data)
    for location in sorted(locations, key=len, reverse=True):
        here: object = pruned
        for part in location[:-1]:
            here = _value_at(here, (part,))
        if location and isinstance(here, dict):
            here.pop(location[-1], None)
        elif location and isinstance(here, list) and isinstance(location[-1], int):
            here[location[-1] : location[-1] + 1] = []
    return pruned
