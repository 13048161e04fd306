"""Shell scripts: comments, variables and commands that mean what they meant as argv."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from tracking.export._deployment import Deployment, one_line

_OPTION = re.compile(r"--?[A-Za-z]")


def header(shebang: str, deployment: Deployment, notes: Iterable[str] = ()) -> list[str]:
    """The first lines of a script: what it is, then what to know."""
    return [shebang, *comments(deployment, notes)]


def comments(deployment: Deployment, notes: Iterable[str] = ()) -> list[str]:
    """What to know of a deployment, a line each, behind `#`."""
    warnings = [f"WARNING: {warning}" for warning in deployment.warnings]
    return [f"# {one_line(line)}" for line in (*deployment.notes, *warnings, *notes)]


def variables(env: Mapping[str, str], secrets: Sequence[str]) -> list[str]:
    """Lines that demand the secrets and set the variables."""
    demanded = [f': "${{{name}:?set it: its value is recorded nowhere}}"' for name in secrets]
    exported = [f"export {name}" for name in secrets]
    return [*demanded, *exported, *(f"export {name}={shlex.quote(env[name])}" for name in env)]


def command(argv: Sequence[str], first: str = "") -> str:
    """`argv` quoted, one option a line, behind `first`."""
    lines: list[str] = []
    current = [first] if first else []
    for part in argv:
        if _OPTION.match(part) and current:
            lines.append(" ".join(current))
            current = []
        current.append(shlex.quote(part))
    return " \\\n  ".join([*lines, " ".join(current)])


def script(lines: Iterable[str]) -> str:
    """The lines as a file."""
    return "".join(f"{line}\n" for line in lines)
