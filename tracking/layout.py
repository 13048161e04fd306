"""Every file name of a run, in one class, and the way from what a user types to a run folder."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runtimes.errors import RunFolderError

_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_RUN_ID = re.compile(r".+-(?P<stamp>\d{8}T\d{6}Z)-[0-9a-f]{4}")
_SHOWN_RUNS = 5


@dataclass(frozen=True, slots=True)
class RunLayout:
    """The files below `root`, the folder of one run. Names only; nothing is opened.

    Attributes:
        root: the run folder; its last part is the run id.
    """

    root: Path

    @property
    def run(self) -> str:
        """The run id."""
        return self.root.name

    @property
    def experiment(self) -> Path:
        return self.root / "experiment.yaml"

    @property
    def journal_dir(self) -> Path:
        return self.root / "journal"

    @property
    def trials_dir(self) -> Path:
        return self.root / "trials"

    @property
    def stages_dir(self) -> Path:
        return self.root / "stages"

    @property
    def requests_dir(self) -> Path:
        return self.root / "requests"

    @property
    def samples_dir(self) -> Path:
        return self.root / "samples"

    @property
    def events_dir(self) -> Path:
        return self.root / "events"

    @property
    def logs_dir(self) -> Path:
        return self.root / "logs"

    @property
    def live_dir(self) -> Path:
        return self.root / "live"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def live_status(self) -> Path:
        """The study at this instant, for watchers; replaced about once a second."""
        return self.live_dir / "status.json"

    @property
    def final_metrics(self) -> Path:
        """The exporter's last exposition, kept when it stops serving."""
        return self.live_dir / "metrics.prom"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def trial_file(self, number: int, attempt: int) -> Path:
        return self.trials_dir / f"{_attempt(number, attempt)}.parquet"

    def stage_file(self, number: int, attempt: int, stage: int) -> Path:
        return self.stages_dir / f"{_attempt(number, attempt)}-stage-{stage:03d}.parquet"

    def requests_file(self, number: int, attempt: int, stage: int) -> Path:
        return self.requests_dir / f"{_attempt(number, attempt)}-stage-{stage:03d}.parquet"

    def samples_file(self, number: int, attempt: int) -> Path:
        return self.samples_dir / f"{_attempt(number, attempt)}.parquet"

    def log_file(self, number: int, attempt: int) -> Path:
        return self.logs_dir / f"{_attempt(number, attempt)}.log"

    def trial_files(self) -> list[Path]:
        """The trial files there are, sorted by name."""
        return sorted(self.trials_dir.glob("trial-*.parquet"))

    def stage_files(self) -> list[Path]:
        """The stage files there are, sorted by name."""
        return sorted(self.stages_dir.glob("trial-*.parquet"))

    def requests_files(self, number: int) -> list[Path]:
        """The request files of trial `number`, every attempt and stage, sorted by name."""
        return sorted(self.requests_dir.glob(f"trial-{number:05d}-*.parquet"))

    def samples_files(self, number: int) -> list[Path]:
        """The sample files of trial `number`, every attempt, sorted by name."""
        return sorted(self.samples_dir.glob(f"trial-{number:05d}-*.parquet"))

    def create(self) -> None:
        """Make the run folder and those in it; folders that exist are kept."""
        for folder in (
            self.journal_dir,
            self.trials_dir,
            self.stages_dir,
            self.requests_dir,
            self.samples_dir,
            self.events_dir,
            self.logs_dir,
            self.live_dir,
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def is_run(self) -> bool:
        """Whether a run was ever begun in this folder."""
        return self.experiment.is_file() or self.journal_dir.is_dir()


def new_run_id(name: str, now: datetime, rng: random.Random) -> str:
    """`<name>-<utc yyyymmddThhmmssZ>-<4 hex>`; what no folder name should hold becomes `-`.

    Args:
        name: the experiment's name.
        now: an aware datetime, of any zone.
        rng: source of the hexadecimal digits.
    """
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    return f"{safe}-{now.astimezone(UTC).strftime(_STAMP_FORMAT)}-{rng.randrange(1 << 16):04x}"


def find_run(path: Path, results: Path | None = None) -> RunLayout:
    """The run meant by `path`: a run folder, a folder of runs (its newest), or a run id.

    Args:
        path: what the user named.
        results: parent of run folders, where a run id is looked up.

    Raises:
        RunFolderError: there is no run at any of these places.
    """
    layout = RunLayout(path)
    if layout.is_run():
        return layout
    newest = _newest(path)
    if newest is not None:
        return newest
    if results is not None:
        below = RunLayout(results / path)
        if below.is_run():
            return below
    raise RunFolderError(_no_run(path, results))


def _attempt(number: int, attempt: int) -> str:
    return f"trial-{number:05d}-{attempt}"


def _runs(folder: Path) -> list[RunLayout]:
    """The runs directly in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    layouts = [RunLayout(child) for child in folder.iterdir() if child.is_dir()]
    return sorted((layout for layout in layouts if layout.is_run()), key=_age)


def _newest(folder: Path) -> RunLayout | None:
    runs = _runs(folder)
    return runs[-1] if runs else None


def _age(layout: RunLayout) -> tuple[float, float, str]:
    """Sort key: the start in the run id, else (a renamed folder) its modification time."""
    modified_unix_s = layout.root.stat().st_mtime
    match = _RUN_ID.fullmatch(layout.run)
    if match is None:
        return (modified_unix_s, modified_unix_s, layout.run)
    started = datetime.strptime(match["stamp"], _STAMP_FORMAT).replace(tzinfo=UTC)
    return (started.timestamp(), modified_unix_s, layout.run)


def _no_run(path: Path, results: Path | None) -> str:
    state = "is no run folder and holds none" if path.is_dir() else "does not exist"
    if results is None:
        return (
            f"no run found: {path} {state}. Name a run folder (it holds experiment.yaml), "
            "or the results folder that holds the runs."
        )
    known = ", ".join(layout.run for layout in reversed(_runs(results)[-_SHOWN_RUNS:]))
    return (
        f"no run found: {path} {state}, and no run of that id is in {results}. "
        f"Newest runs there: {known or 'none'}. Name one of them, a run folder, "
        "or another results folder with --results."
    )
