"""An interpreter that is there already: named by its path, or the engine's command on PATH."""

from __future__ import annotations

from pathlib import Path

from runtimes.environment.launch import Prepared, environment_failed
from runtimes.json_types import Json, short_hash
from runtimes.plan import Environment


def prepare_path(environment: Environment) -> Prepared:
    """The environment of a named interpreter; without one, the commands that PATH has.

    Raises:
        EngineError: the interpreter is not on this node.
    """
    if environment.python is None:
        return Prepared(None, short_hash(["PATH", environment.version]))
    python = Path(environment.python)
    if not python.is_file():
        raise environment_failed(
            f"there is no interpreter {python} on this node",
            "correct environment.python, or install the engine there on every node",
        )
    # Not resolved: an interpreter knows its virtual environment by the path it is called by.
    folder = python.parent
    found: list[Json] = [str(python), *distributions(folder.parent)]
    return Prepared(None, short_hash(found), path=str(folder))


def distributions(prefix: Path) -> list[str]:
    """Names and versions of what is installed below `prefix`, as `vllm-0.33.0`."""
    found = prefix.glob("lib*/python3*/*-packages/*.dist-info")
    return sorted({folder.name.removesuffix(".dist-info") for folder in found})
