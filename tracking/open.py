"""A recorded run, opened for analysis: `open_run("runs").trials()` is a pandas frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.layout import RunLayout, find_run
from tracking.parquet import frames

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Frames of one run; every call reads the folder as it is then, a running one included.

    A damaged file is left out with a warning by `tracking.parquet.read`'s logger. Every method
    raises MissingToolError without pandas, and RunFolderError for a record of a newer servetune.
    """

    layout: RunLayout

    def trials(self) -> pd.DataFrame:
        """One row per attempt."""
        return frames.trials_frame(self.layout)

    def stages(self) -> pd.DataFrame:
        """One row per load stage."""
        return frames.stages_frame(self.layout)

    def requests(self, number: int) -> pd.DataFrame:
        """One row per request of trial `number`."""
        return frames.requests_frame(self.layout, number)

    def samples(self, number: int) -> pd.DataFrame:
        """One row per engine sample of trial `number`."""
        return frames.samples_frame(self.layout, number)


def open_run(path: str | Path, results: str | Path | None = None) -> OpenRun:
    """Open the run that `path` names: its folder, a folder of runs, or an id below `results`.

    Raises:
        RunFolderError: there is no such run.
    """
    return OpenRun(find_run(Path(path), None if results is None else Path(results)))
