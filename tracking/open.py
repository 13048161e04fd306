"""A recorded run, opened for analysis: `open_run("runs").trials()` is an Arrow table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tracking.layout import find_run

if TYPE_CHECKING:
    from tracking.parquet.opened import OpenRun


def open_run(path: str | Path, results: str | Path | None = None) -> OpenRun:
    """Open the run that `path` names: its folder, a folder of runs, or an id below `results`.

    Raises:
        RunFolderError: there is no such run.
    """
    from tracking.parquet.opened import OpenRun  # Arrow takes a while to load

    return OpenRun(find_run(Path(path), None if results is None else Path(results)))
