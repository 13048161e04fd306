"""Engine arguments as SGLang's command line spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runtimes.engines._flags import FlagTable
from runtimes.json_types import Json, canonical_json

_FIRST = ("tp-size", "pp-size", "dp-size", "attn-dp-size", "attn-cp-size", "dcp-size", "ep-size")


def render_args(values: Mapping[str, Json], table: FlagTable | None) -> tuple[str, ...]:
    """The command line of `values`: degrees of parallelism first, then in the order of names.

    None leaves an argument to the engine, and so does false, except for the few arguments that
    have a negative form (`--no-x`).
    """
    return tuple(
        part for name in sorted(values, key=_place) for part in _render(name, values[name], table)
    )


def _place(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


def _render(name: str, value: Json, table: FlagTable | None) -> Iterator[str]:
    known = table.find(name) if table else None
    kind = known.kind if known else None
    if value is None:
        return
    if isinstance(value, bool) and kind != "json":
        if value:
            yield f"--{name}"
        elif kind == "toggle":
            yield f"--no-{name}"
    elif isinstance(value, list) and kind in ("list", None):
        yield f"--{name}"
        yield from (_text(item) for item in value)
    else:
        text = _text(value)
        # A value that starts with a dash would be taken for an argument when it stands alone.
        yield from (f"--{name}={text}",) if text.startswith("-") else (f"--{name}", text)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)
