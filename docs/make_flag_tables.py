"""Make a flag table of `runtimes/engines/flags/` from a dump of an engine's own parser.

    python docs/make_flag_tables.py DUMP.json ENGINE VERSION

DUMP.json is a list of the parser's actions as objects with `flag`, `aliases`, `action`, `type`,
`nargs`, `choices` and `default` (for TensorRT-LLM an object of such lists). For vLLM,
`docs/dump_vllm_flags.py` makes one of an installed version. A version whose wheel needs a GPU is
dumped on any machine from the unpacked wheel, with the libraries of a CPU build:

    PYTHONPATH=UNPACKED VLLM_TARGET_DEVICE=cpu VLLM_PYTHON docs/dump_vllm_flags.py DUMP.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from runtimes.json_types import Json

FOLDER = Path(__file__).resolve().parent.parent / "runtimes" / "engines" / "flags"

_SWITCHES = {"_StoreTrueAction", "DeprecatedStoreTrueAction", "DeprecatedStoreConstAction"}
_TOGGLES = {"BooleanOptionalAction", "EnableDisableAction"}
_JSON_TYPES = {
    "from_json_str",
    "json_list_type",
    "loads",
    "parse_dataclass",
    "union_dict_and_str",
}
_KINDS = {
    "int": "int",
    "human_readable_int": "count",
    "human_readable_int_or_auto": "count",
    "float": "float",
}


def table(rows: Iterable[Mapping[str, Json]]) -> dict[str, dict[str, Json]]:
    """Rows of a table by flag name, sorted."""
    made = {_plain(row["flag"]): _row(row) for row in rows if str(row["flag"]).startswith("--")}
    return dict(sorted(made.items()))


def _row(row: Mapping[str, Json]) -> dict[str, Json]:
    kind = _kind(row)
    made: dict[str, Json] = {"kind": kind}
    aliases = row.get("aliases")
    names = [_plain(alias) for alias in aliases] if isinstance(aliases, list) else []
    negatives = _negatives(_plain(row["flag"]), names) if kind == "toggle" else []
    listed: dict[str, list[str]] = {
        "aliases": [name for name in names if name not in negatives],
        "negatives": negatives,
    }
    made.update({key: list(values) for key, values in listed.items() if values})
    choices = row.get("choices")
    if isinstance(choices, list) and choices:
        known = [choice for choice in choices if choice not in (None, "None")]
        made["choices"] = sorted(known, key=str)
    default = row.get("default", False if kind == "switch" else None)
    # A default that is a whole configuration object stands in the dump as Python's text of it.
    if default is not None and kind != "json" and default != "set()":
        made["default"] = default
    return made


def _negatives(flag: str, names: Iterable[str]) -> list[str]:
    """The names that mean the opposite of `flag`; `--no-x` is taken even where it is not listed."""
    opposite = flag
    for one, other in (("enable-", "disable-"), ("disable-", "enable-")):
        if flag.startswith(one):
            opposite = other + flag.removeprefix(one)
    found = {f"no-{flag}", *(name for name in names if name == opposite != flag)}
    return sorted(found)


def _kind(row: Mapping[str, Json]) -> str:
    action, of = str(row.get("action", "")), str(row.get("type", ""))
    if action in _SWITCHES:
        return "switch"
    if action in _TOGGLES:
        return "toggle"
    if row.get("nargs") in ("+", "*") or action == "_AppendAction":
        return "list"
    return "json" if of in _JSON_TYPES else _KINDS.get(of, "text")


def _plain(name: Json) -> str:
    return str(name).lstrip("-")


def main(dump: str, engine: str, version: str) -> None:
    rows = json.loads(Path(dump).read_text(encoding="utf-8"))
    lines = [f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in table(rows).items()]
    source = f"{engine} {version}, the server's own parser"
    text = (
        f'{{\n  "source": {json.dumps(source)},\n  "flags": {{\n' + ",\n".join(lines) + "\n  }\n}\n"
    )
    (FOLDER / f"{engine}-{version}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
