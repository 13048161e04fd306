"""Names made of a model's: of runs, and of the section of an experiment that says which it is."""

from __future__ import annotations

import re
from pathlib import Path

from runtimes.errors import UserError
from runtimes.json_types import Json

_LONGEST = 60


def run_name(model: str, *, prefix: str = "") -> str:
    """An experiment's name for a Hub id or a folder, as short as file names should be."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip("-._").lower()
    return f"{prefix}{cleaned or 'model'}"[:_LONGEST]


def model_section(model: str, *, loaded_by: str = "") -> dict[str, Json]:
    """The section `model` for a Hub id or a folder that exists.

    Args:
        model: what the user wrote.
        loaded_by: the option that names a model to load, for the message; empty where a server
            has it already, under whatever name.

    Raises:
        UserError: it is to be loaded, can only be a folder, and there is none.
    """
    path = Path(model)
    if model and path.is_dir():  # the path of an empty name is this folder
        return {"path": str(path.absolute())}
    local = model.startswith(("/", "./", "../", "~")) or model.count("/") > 1
    if loaded_by and local:
        raise UserError(f"{loaded_by} {model}: there is no such folder; name one, or a Hub id")
    return {"id": model}
