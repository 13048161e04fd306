"""Every file name of a run, in one class, and the way from what a user types to a run folder."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from runtimes.errors import RunFolderError

TableName: TypeAlias = Literal["trials", "stages", "requests", "samples"]
"""A table of the record, and the folder that holds it."""

TABLES: tuple[TableName, ...] = get_args(TableName)

STAGE_LEVEL = 0
"""Level of a file of one stage, which stands while its attempt runs."""
ATTEMPT_LEVEL = 1
"""Level of a file of one attempt."""

_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_RUN_ID = re.compile(r".+-(?P<stamp>\d{8}T\d{6}Z)-[0-9a-f]{4}")
_SHOWN_RUNS = 5
_OF_ATTEMPT = re.compile(
    r"trial-(?P<number>\d+)-(?P<attempt>\d+)(?:-stage-(?P<stage>\d+))?\.parquet"
)
_MERGED = re.compile(
    r"trials-(?P<first>\d+)-(?P<last>\d+)-level-(?P<level>\d+)-(?P<sequence>\d+)\.parquet"
)


@dataclass(frozen=True, slots=True, order=True)
class RecordFile:
    """A file of one of the `TABLES`, as its name tells.

    Ordered as readers want them: what was merged last comes first.

    Attributes:
        order: sort key: minus the level, then the numbers.
        first, last: trials between which those of its rows lie, both included.
        level: `STAGE_LEVEL`, `ATTEMPT_LEVEL`, or one more than any of the files it was merged of.
        attempt, stage: of a file of one attempt, or of one stage of it.
        sequence: tells merged files of the same trials apart.
    """

    order: tuple[int, ...]
    path: Path
    first: int
    last: int
    level: int
    attempt: int | None = None
    stage: int | None = None
    sequence: int = 0

    @classmethod
    def of(cls, path: Path) -> RecordFile | None:
        """What the name of `path` says; None for a name that is none of the record's."""
        if match := _OF_ATTEMPT.fullmatch(path.name):
            number, attempt = int(match["number"]), int(match["attempt"])
            stage = None if match["stage"] is None else int(match["stage"])
            level = ATTEMPT_LEVEL if stage is None else STAGE_LEVEL
            order = (-level, number, attempt, stage or 0)
            return cls(order, path, number, number, level, attempt, stage)
        if match := _MERGED.fullmatch(path.name):
            first, last, level, sequence = map(int, match.groups())
            order = (-level, first, last, sequence)
            return cls(order, path, first, last, level, sequence=sequence)
        return None

    def may_hold(self, number: int) -> bool:
        """Whether rows of trial `number` can be in it."""
        return self.first <= number <= self.last


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
    def live_targets(self) -> Path:
        """What Prometheus can scrape at this instant, in the format of its `file_sd_configs`."""
        return self.live_dir / "targets.json"

    @property
    def final_metrics(self) -> Path:
        """The exporter's last exposition, kept when it stops serving."""
        return self.live_dir / "metrics.prom"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def folder(self, table: TableName) -> Path:
        """Where the files of a table are."""
        return self.root / table

    def attempt_file(self, table: TableName, number: int, attempt: int) -> Path:
        """The rows of one attempt."""
        return self.folder(table) / f"{_attempt(number, attempt)}.parquet"

    def stage_part(self, table: TableName, number: int, attempt: int, stage: int) -> Path:
        """The rows of one stage, until its attempt ends."""
        return self.folder(table) / f"{_attempt(number, attempt)}-stage-{stage:03d}.parquet"

    def stage_parts(self, table: TableName, number: int, attempt: int) -> list[Path]:
        """The files there are of single stages of one attempt, in their order."""
        return sorted(self.folder(table).glob(f"{_attempt(number, attempt)}-stage-*.parquet"))

    def merged_file(
        self, table: TableName, first: int, last: int, level: int, sequence: int
    ) -> Path:
        """The rows of many attempts, of trials `first` to `last`."""
        name = f"trials-{first:05d}-{last:05d}-level-{level}-{sequence:06d}.parquet"
        return self.folder(table) / name

    def files(self, table: TableName) -> list[RecordFile]:
        """The files there are of a table, in the order of `RecordFile`."""
        found = (RecordFile.of(path) for path in self.folder(table).glob("*.parquet"))
        return sorted(file for file in found if file is not None)

    def files_of(self, table: TableName, number: int) -> list[RecordFile]:
        """Those that can hold rows of trial `number`."""
        return [file for file in self.files(table) if file.may_hold(number)]

    def events_file(self, first: int, last: int) -> Path:
        """The events of the journal's segments `first` to `last`."""
        return self.events_dir / f"segments-{first:08d}-{last:08d}.parquet"

    def log_file(self, number: int, attempt: int) -> Path:
        return self.logs_dir / f"{_attempt(number, attempt)}.log"

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
        RunFolderError: there is no run at any of these places, or one may not be looked into.
    """
    try:
        return _found(path, results)
    except OSError as error:
        raise RunFolderError(
            f"no run found: {error.filename or path} cannot be looked into: {error.strerror}. "
            "Name a run folder that you may read, or the id of a run below --results."
        ) from None


def _found(path: Path, results: Path | None) -> RunLayout:
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
    """The runs directly in `folder`, oldest first; without those that may not be looked into."""
    if not folder.is_dir():
        return []
    layouts = [RunLayout(child) for child in folder.iterdir() if child.is_dir()]
    return sorted((layout for layout in layouts if _is_readable_run(layout)), key=_age)


def _is_readable_run(layout: RunLayout) -> bool:
    try:
        return layout.is_run()
    except PermissionError:
        return False


def _newest(folder: Path) -> RunLayout | None:
    runs = _runs(folder)
    return runs[-1] if runs else None


def _age(layout: RunLayout) -> tuple[float, float, str]:
    """Sort key: the start in the run id, else (a renamed folder) its modification time."""
    modified_unix_s = layout.root.stat().st_mtime
    match = _RUN_ID.fullmatch(layout.run)
    try:
        started = datetime.strptime(match["stamp"], _STAMP_FORMAT) if match else None
    except ValueError:  # digits that are no time
        started = None
    if started is None:
        return (modified_unix_s, modified_unix_s, layout.run)
    return (started.replace(tzinfo=UTC).timestamp(), modified_unix_s, layout.run)


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
