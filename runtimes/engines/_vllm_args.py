"""Engine arguments as vLLM's command line spells them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from runtimes.engines._flags import FlagTable
from runtimes.json_types import Json, canonical_json

# vLLM 0.32 and 0.33, `make_arg_parser`: flags without a negative form, flags that are given once
# per value, and flags that take a JSON list. Every other list flag takes its values in a row.
_SWITCHES = frozenset(
    {
        "aggregate-engine-logging",
        "data-parallel-multi-port-external-lb",
        "disable-log-stats",
        "grpc",
        "headless",
    }
)
_REPEATED = frozenset({"middleware"})
_JSON_LISTS = frozenset({"allowed-headers", "allowed-methods", "allowed-origins"})


def own_names(args: Mapping[str, Json], table: FlagTable | None) -> dict[str, Json]:
    """`args` under vLLM's own names: aliases, underscores and negative forms resolved."""
    if table is None:
        return dict(args)
    return dict(table.read(name, args[name]) for name in sorted(args))


def joined(args: Mapping[str, Json]) -> dict[str, Json]:
    """`args` with dotted names put into the object of the same argument, where one is given.

    Given both, vLLM's parser would drop the object (utils/argparse_utils.py, `parse_args`).
    """
    made = dict(args)
    for name in sorted(args):
        first, dot, rest = name.partition(".")
        whole = as_json(made.get(first))
        if dot and isinstance(whole, dict):
            made[first] = _with(whole, rest.split("."), made.pop(name))
    return made


def _with(whole: Mapping[str, Json], path: list[str], value: Json) -> dict[str, Json]:
    first, *rest = path
    if not rest:
        return {**whole, first: as_json(value)}
    inner = whole.get(first)
    return {**whole, first: _with(inner if isinstance(inner, dict) else {}, rest, value)}


def as_json(value: Json) -> Json:
    """Text that holds JSON as what it holds; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        read: Json = json.loads(value)
    except ValueError:
        return value
    return read


def roots(args: Mapping[str, Json]) -> set[str]:
    """Names in `args`, dotted ones by their first part."""
    return {name.partition(".")[0] for name in args}


def render_args(args: Mapping[str, Json]) -> tuple[str, ...]:
    """The command line of `args`, in the order of their names.

    None leaves an argument to the engine. False is spelled `--no-x`, also where vLLM 0.33
    prefers `--disable-x`, because 0.32 knows no other negative form.
    """
    return render_in_order({name: args[name] for name in sorted(args)})


def render_in_order(args: Mapping[str, Json]) -> tuple[str, ...]:
    """The command line of `args` as they stand."""
    return tuple(part for name, value in args.items() for part in _render(name, value))


def _render(name: str, value: Json) -> Iterator[str]:
    flag = f"--{name}"
    if value is None or (value is False and name in _SWITCHES):
        return
    if "." in name:  # vLLM reads the value of a dotted name (`compilation-config.mode`) as JSON
        yield from _pair(flag, value if isinstance(value, str) else canonical_json(value))
    elif isinstance(value, bool):
        yield flag if value else f"--no-{name}"
    elif not isinstance(value, list) or name in _JSON_LISTS:
        yield from _pair(flag, _text(value))
    elif name in _REPEATED:
        for item in value:
            yield from _pair(flag, _text(item))
    else:
        yield flag
        yield from (_text(item) for item in value)


def _pair(flag: str, text: str) -> tuple[str, ...]:
    # A value that starts with a dash would be taken for a flag when it stands alone.
    return (f"{flag}={text}",) if text.startswith("-") else (flag, text)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)
