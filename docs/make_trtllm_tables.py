"""Make the two tables of TensorRT-LLM in `runtimes/engines/flags/` from a description of both.

    python docs/make_trtllm_tables.py DUMP.json VERSION

DUMP.json is an object with the lists `serve` (options of `trtllm-serve`) and `yaml_llm_args` (keys
of its YAML file, as `yaml:kv_cache_config.dtype`), each of objects with `flag`, `aliases`, `type`,
`choices` and `default`. The parser itself needs a GPU to be asked, so that such a description is
read from its source.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from runtimes.json_types import Json

FOLDER = Path(__file__).resolve().parent.parent / "runtimes" / "engines" / "flags"

_KINDS = {"int": "int", "Optional[int]": "int", "float": "float", "Optional[float]": "float"}
_NUMBER_IN_WORDS = re.compile(r"\((\d+)\)")

# What the description leaves open and `llmapi/llm_args.py` says.
_YAML_DEFAULTS: Mapping[str, Json] = {
    "dtype": "auto",
    "enable_attention_dp": False,
    "kv_cache_config.dtype": "auto",
    "kv_cache_config.enable_block_reuse": True,
    "kv_cache_config.free_gpu_memory_fraction": 0.9,
    "load_format": "auto",
}


def command_table(rows: Iterable[Mapping[str, Json]]) -> dict[str, dict[str, Json]]:
    """Options of the command by name, sorted."""
    options = [row for row in rows if str(row["flag"]).startswith("--")]
    return dict(sorted((str(row["flag"])[2:], _row(row)) for row in options))


def yaml_table(rows: Iterable[Mapping[str, Json]]) -> dict[str, dict[str, Json]]:
    """Keys of the YAML file by dotted name, sorted; a section stands there itself, as `json`."""
    made: dict[str, dict[str, Json]] = {}
    for row in rows:
        name = str(row["flag"]).removeprefix("yaml:")
        made[name] = _row({**row, "default": _YAML_DEFAULTS.get(name)}, toggles=True)
        section, dotted, _ = name.partition(".")
        if dotted:
            made[section] = {"kind": "json"}
    return dict(sorted(made.items()))


def _row(row: Mapping[str, Json], *, toggles: bool = False) -> dict[str, Json]:
    made: dict[str, Json] = {"kind": _kind(str(row["type"]), toggles=toggles)}
    aliases = row.get("aliases")
    if isinstance(aliases, list):
        names = [str(alias)[2:] for alias in aliases if str(alias).startswith("--")]
        made.update({"aliases": list[Json](names)} if names else {})
    choices = row.get("choices")
    if isinstance(choices, list):
        made["choices"] = [str(choice).partition(" ")[0] for choice in choices]
    default = _default(row.get("default"))
    if default is not None:
        made["default"] = default
    return made


def _kind(of: str, *, toggles: bool) -> str:
    if of in ("flag", "bool"):
        return "toggle" if toggles else "switch"
    if "multiple" in of:
        return "list"
    return "json" if "List" in of else _KINDS.get(of, "text")


def _default(default: Json) -> Json:
    """A default that stands there in words (`BuildConfig.max_batch_size (2048)`), as its number."""
    match = _NUMBER_IN_WORDS.search(default) if isinstance(default, str) else None
    return int(match[1]) if match is not None else default


def _write(name: str, source: str, table: Mapping[str, Json]) -> None:
    lines = [f"    {json.dumps(flag)}: {json.dumps(row)}" for flag, row in table.items()]
    head = f'{{\n  "source": {json.dumps(source)},\n  "flags": {{\n'
    (FOLDER / name).write_text(head + ",\n".join(lines) + "\n  }\n}\n", encoding="utf-8")


def main(dump: str, version: str) -> None:
    described = json.loads(Path(dump).read_text(encoding="utf-8"))
    command = command_table(described["serve"])
    keys = yaml_table(described["yaml_llm_args"])
    _write(
        f"tensorrt_llm-{version}.json",
        f"TensorRT-LLM {version}, tensorrt_llm/commands/serve.py at 00209af1, by reading",
        command,
    )
    _write(
        f"tensorrt_llm_yaml-{version}.json",
        f"TensorRT-LLM {version}, usage/llm_args_golden_manifest.json at 00043967 and "
        "llmapi/llm_args.py, by reading",
        keys,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
