"""Single values of the experiment file: names, durations, paths, searched dimensions."""

from __future__ import annotations

import os
import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, InstanceOf, JsonValue

from orchestrator.spec.dimensions import parse_dimension
from search.space import Choice, FloatRange, IntRange

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_UNSET = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


def parse_duration_s(value: object) -> float:
    """Seconds of `90`, `1.5h`, `30m`, `45s`.

    Raises:
        ValueError: it is neither a number nor a number with one of the units.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = _DURATION.match(str(value).strip())
        if match is None:
            raise ValueError("not a duration; write seconds (90) or 45s, 30m, 6h, 2d")
        seconds = float(match[1]) * _UNIT_S[match[2]]
    if not seconds > 0:
        raise ValueError("a duration must be above zero")
    return seconds


def _checked_name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError(
            "not a name; use letters, digits, '.', '_', '-', at most 63, a letter or digit first"
        )
    return value


def expand_path(value: str) -> str:
    """`~` and `$NAME` filled in from the environment.

    Raises:
        ValueError: a variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(value))  # noqa: PTH111  # pathlib has no expandvars
    if unset := _UNSET.search(expanded):
        raise ValueError(f"the environment variable {unset[1]} is not set; export it first")
    return expanded


def _results_folder(value: str) -> str:
    if "://" in value:
        raise ValueError("object stores are not yet supported; name a local folder")
    return expand_path(value)


def _variable_name(value: str) -> str:
    if not _VARIABLE.match(value):
        raise ValueError("not the name of an environment variable")
    return value


def normal_argument(name: str) -> str:
    """The long name of an engine argument: no leading dashes, dashes for underscores.

    What follows a dot is a key of the engine's own JSON and keeps its spelling.
    """
    head, dot, tail = name.lstrip("-").partition(".")
    return head.replace("_", "-") + dot + tail


def _as_text(value: object) -> object:
    """YAML reads 1 and true as themselves; an environment holds text."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, int | float) else value


Domain: TypeAlias = Annotated[
    InstanceOf[Choice] | InstanceOf[IntRange] | InstanceOf[FloatRange],
    BeforeValidator(parse_dimension, json_schema_input_type=JsonValue),
]
DurationS: TypeAlias = Annotated[float, BeforeValidator(parse_duration_s)]
Name: TypeAlias = Annotated[str, AfterValidator(_checked_name)]
ExpandedPath: TypeAlias = Annotated[str, AfterValidator(expand_path)]
ResultsFolder: TypeAlias = Annotated[str, AfterValidator(_results_folder)]
VariableName: TypeAlias = Annotated[str, AfterValidator(_variable_name)]
ArgumentName: TypeAlias = Annotated[str, AfterValidator(normal_argument)]
EnvText: TypeAlias = Annotated[str, BeforeValidator(_as_text)]
