"""A vLLM command as the keyword arguments of its engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from runtimes.engines._flags import Flag, FlagTable
from runtimes.engines._vllm_args import as_json
from runtimes.engines.base import create_engine
from runtimes.errors import InternalError
from runtimes.json_types import Json

_SCALES = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_SCALED = re.compile(r"(\d+(?:\.\d+)?)([kmgKMG])")
_WHOLE = re.compile(r"-?\d+")
_MODEL = "model"


def engine_kwargs(argv: tuple[str, ...], version: str) -> dict[str, Json]:
    """Arguments of `argv` under the names of vLLM's `AsyncEngineArgs`, the model among them.

    `version` tells which table of flags reads them. Dotted names become nested values.
    """
    table = create_engine("vllm").flags(version)
    if table is None:
        raise InternalError("vLLM has no table of flags")
    made: dict[str, Json] = {}
    tokens = list(argv)
    if tokens[1:2] == ["serve"]:
        made[_MODEL] = tokens[2]
        tokens = tokens[3:]
    else:
        tokens = tokens[3:]  # python -m module
    for name, value in _arguments(tokens, table):
        _put(made, name.replace("-", "_").split("."), value)
    return made


def _arguments(tokens: list[str], table: FlagTable) -> Iterator[tuple[str, Json]]:
    at = 0
    while at < len(tokens):
        spelled, equals, rest = tokens[at].removeprefix("--").partition("=")
        at += 1
        values = [rest] if equals else []
        flag = table.find(spelled)
        if not equals:
            while at < len(tokens) and not tokens[at].startswith("--") and _takes(flag, values):
                values.append(tokens[at])
                at += 1
        name, positive = table.read(spelled, True)
        yield name, positive if not values else _value(flag, spelled, values)


def _takes(flag: Flag | None, values: list[str]) -> bool:
    """Whether a flag takes one more value than it has."""
    if flag is not None and flag.kind == "list":
        return True
    return not values and (flag is None or flag.kind not in ("switch", "toggle"))


def _value(flag: Flag | None, spelled: str, values: list[str]) -> Json:
    """What the command's parser makes of `values`."""
    kind = flag.kind if flag is not None else ""
    if kind == "list":
        return [int(text) if _WHOLE.fullmatch(text) else text for text in values]
    (text,) = values
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "count":
        return _counted(text)
    if kind == "json" or "." in spelled or flag is None:
        return as_json(text)
    return text


def _counted(text: str) -> Json:
    """`8k` is 8000, `8K` is 8192, `auto` is -1 (vLLM's `human_readable_int_or_auto`)."""
    if text == "auto":
        return -1
    scaled = _SCALED.fullmatch(text)
    return int(float(scaled[1]) * _SCALES[scaled[2]]) if scaled else int(text)


def _put(made: dict[str, Json], path: list[str], value: Json) -> None:
    first, *rest = path
    if not rest:
        known = made.get(first)
        if isinstance(known, list) and isinstance(value, list):
            value = [*known, *value]  # a flag that is given once per value, as `--middleware`
        made[first] = value
        return
    inner = made.setdefault(first, {})
    if isinstance(inner, dict):
        _put(inner, rest, value)


def without(argv: tuple[str, ...], options: Mapping[str, int]) -> tuple[str, ...]:
    """`argv` less some options, each given with the number of values that follow it."""
    kept: list[str] = []
    skip = 0
    for part in argv:
        if skip:
            skip -= 1
        elif part in options:
            skip = options[part]
        else:
            kept.append(part)
    return tuple(kept)
