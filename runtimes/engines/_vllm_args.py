"""Engine arguments as vLLM's command line spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


def render_args(args: Mapping[str, Json]) -> tuple[str, ...]:
    """The command line of `args`, in the order of their names.

    None leaves an argument to the engine. False is spelled `--no-x`, also where vLLM 0.33
    prefers `--disable-x`, because 0.32 knows no other negative form.
    """
    return tuple(part for name in sorted(args) for part in _render(name, args[name]))


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
