"""Which arguments TensorRT-LLM takes: options of its command and keys of its YAML file.

The list of keys is known not to be whole, so that only a name that looks like a slip is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.engines import _arguments
from runtimes.engines._flags import Flag, FlagTable
from runtimes.engines._trtllm_settings import everything, flat, keys
from runtimes.json_types import Json


def argument_problems(args: Mapping[str, Json]) -> dict[str, str]:
    """Argument → what is wrong with it and what to write; empty when all would be taken."""
    found: dict[str, str] = {}
    setters: dict[str, str] = {}
    for argument in args:
        for name, value in flat({argument: args[argument]}):
            words = _problem(name, value)
            if (earlier := setters.setdefault(name, argument)) != argument:
                words = f"is {name}, which {earlier} already sets; keep one of them"
            if words is not None:
                found.setdefault(argument, words)
    return found


def unlisted(name: str) -> bool:
    """True for a name that stands in no list, by itself or as part of a section."""
    return name not in everything().flags and name.partition(".")[0] not in _sections()


def _problem(name: str, value: Json) -> str | None:
    flag = everything().flags.get(name)
    if flag is not None:
        # Dotted names are told by their first part elsewhere; here each is a flag by itself.
        table = FlagTable.of("", [Flag("value", flag.kind, (), flag.choices)])
        return _arguments.argument_problems(table, {"value": value}).get("value")
    if not unlisted(name):
        return None
    close = everything().closest(name)
    if close is None:
        return None
    return f"is neither an option of trtllm-serve nor a key of its file; did you mean {close!r}?"


def _sections() -> set[str]:
    return {name for name, flag in keys().flags.items() if flag.kind == "json"}
