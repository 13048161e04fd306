"""Single values of the experiment file: names, numbers, durations, paths, variables, arguments."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, JsonValue

from orchestrator.spec.dimensions import Conditional, parse_dimension
from orchestrator.spec.refusal import NOT_YET, RefusedValueError
from orchestrator.spec.ties import Tie
from search.space import Choice, FloatRange, IntRange

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(\.[^\s=]+)?")
_NO_REVISION = re.compile(r"^[-/]|[/.]$|\.\.|//|[\s\x00-\x1f\x7f~^:?*\[\\]")
_REFERENCE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def parse_duration_s(value: object) -> float:
    """Seconds of `90`, `1.5h`, `30m`, `45s`.

    Raises:
        ValueError: it is neither a number nor a number with one of the units.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            raise RefusedValueError("is no duration", "write seconds (90) or 45s, 30m, 6h, 2d")
        seconds = float(match[1]) * _UNIT_S[match[2]]
    if not (seconds > 0 and math.isfinite(seconds)):
        raise RefusedValueError("a duration must be above zero and finite")
    return seconds


def parse_wait_s(value: object) -> float:
    """As `parse_duration_s`; 0 is no wait.

    Raises:
        ValueError: as there.
    """
    no_wait = not isinstance(value, bool) and str(value).strip() in ("0", "0.0", "0s")
    return 0.0 if no_wait else parse_duration_s(value)


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise RefusedValueError(
            "is no name for a run",
            "use letters, digits, '.', '_', '-', at most 63, a letter or digit first",
        )
    return value


def expand_path(value: str) -> str:
    """`~` and `$NAME` filled in from the environment.

    Raises:
        ValueError: a variable is not set, or nothing is left.
    """
    for match in _REFERENCE.finditer(value):
        name = match[1] or match[2]
        if name not in os.environ:
            raise RefusedValueError(
                f"the environment variable {name} is not set", "export it first, or write the path"
            )
    expanded = os.path.expandvars(os.path.expanduser(value))  # noqa: PTH111  # pathlib has no expandvars
    if not expanded:
        raise RefusedValueError("the path is empty", "name a folder or a file")
    return expanded


def absolute_path(value: str) -> str:
    """`expand_path`, made absolute against the current directory; a bare command stays one.

    Engines run in folders of their own, and a resumed run may start elsewhere. Links are kept: a
    virtual environment's interpreter is one.

    Raises:
        ValueError: a variable is not set.
    """
    expanded = expand_path(value)
    return os.path.abspath(expanded) if "/" in expanded else expanded  # noqa: PTH100  # keeps links


def folder_or_id(value: str) -> str:
    """`expand_path` of a folder, made absolute; any other name, as a Hub id, stays as it is.

    Raises:
        ValueError: a variable is not set, or nothing is left.
    """
    expanded = expand_path(value)
    is_path = expanded.startswith(("/", "./", "../")) or Path(expanded).is_dir()
    return os.path.abspath(expanded) if is_path else expanded  # noqa: PTH100  # keeps links


def file_path(value: str) -> str:
    """`expand_path` of a file's name, made absolute against the current directory.

    Raises:
        ValueError: a variable is not set, or nothing is left.
    """
    return os.path.abspath(expand_path(value))  # noqa: PTH100  # keeps links


def _checked_revision(value: str) -> str:
    """`value`, which can name a branch, a tag or a commit: by git's own rules for them."""
    if _NO_REVISION.search(value):
        raise RefusedValueError(
            "is no name of a branch, a tag or a commit", "write one, as main or refs/pr/3"
        )
    return value


def _results_folder(value: str) -> str:
    if "://" in value:
        raise RefusedValueError(f"object stores are {NOT_YET}", "name a local folder")
    return expand_path(value)


def is_variable_name(value: str) -> bool:
    """Whether `value` can name an environment variable."""
    return _VARIABLE.fullmatch(value) is not None


def variable_name(value: str) -> str:
    """`value`, which names an environment variable.

    Raises:
        ValueError: it cannot name one.
    """
    if not is_variable_name(value):
        raise RefusedValueError("is no name of an environment variable", "use letters, digits, _")
    return value


def normal_argument(name: str) -> str:
    """The long name of an engine argument: no leading dashes, dashes for underscores.

    What follows a dot is a key of the engine's own JSON and keeps its spelling.
    """
    head, dot, tail = name.lstrip("-").partition(".")
    return head.replace("_", "-") + dot + tail


def argument_name(value: str) -> str:
    """The long name of the engine argument `value`.

    Raises:
        ValueError: it cannot name one.
    """
    name = normal_argument(value)
    if not _ARGUMENT.fullmatch(name):
        raise RefusedValueError(
            "is no name of an engine argument", "write its long name, as max-num-seqs"
        )
    return name


def _named_once(value: object) -> object:
    """Two spellings of one argument would overwrite each other without a word."""
    spelled: dict[str, str] = {}
    for name in value if isinstance(value, Mapping) else ():
        other = spelled.setdefault(normal_argument(str(name)), str(name))
        if other != str(name):
            raise RefusedValueError(
                f"{other!r} and {name!r} are the same argument", "keep one of them"
            )
    return value


def as_text(value: object) -> object:
    """YAML reads 1 and true as themselves; an environment holds text."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, int | float) else value


Domain: TypeAlias = Annotated[
    InstanceOf[Choice]
    | InstanceOf[IntRange]
    | InstanceOf[FloatRange]
    | InstanceOf[Tie]
    | InstanceOf[Conditional],
    BeforeValidator(parse_dimension, json_schema_input_type=JsonValue),
]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1)]
"""A whole number from 1; neither true nor text stands for one."""
Natural: TypeAlias = Annotated[int, Field(strict=True, ge=0)]
Amount: TypeAlias = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
"""A finite number above zero."""
DurationS: TypeAlias = Annotated[float, BeforeValidator(parse_duration_s)]
WaitS: TypeAlias = Annotated[float, BeforeValidator(parse_wait_s)]
Name: TypeAlias = Annotated[str, AfterValidator(_checked_name)]
ExpandedPath: TypeAlias = Annotated[str, AfterValidator(absolute_path)]
FolderOrId: TypeAlias = Annotated[str, AfterValidator(folder_or_id)]
Revision: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_checked_revision)]
ResultsFolder: TypeAlias = Annotated[str, AfterValidator(_results_folder)]
VariableName: TypeAlias = Annotated[str, AfterValidator(variable_name)]
ArgumentName: TypeAlias = Annotated[str, AfterValidator(argument_name)]
Arguments: TypeAlias = Annotated[dict[ArgumentName, JsonValue], BeforeValidator(_named_once)]
SearchedArguments: TypeAlias = Annotated[dict[ArgumentName, Domain], BeforeValidator(_named_once)]
