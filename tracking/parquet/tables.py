"""Tables of the record, read from whatever files they stand in. Damage costs a file's own rows.

Rows move while a run goes on: those of stages into the file of their attempt, those of attempts
into larger files (`merge.py`). A reader may so find a file gone that it has just listed, or rows
in two files; it lists again, and takes what it has already seen only once.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tracking.layout import RecordFile, RunLayout, TableName
from tracking.parquet.schema import check_schema

_logger = logging.getLogger(__name__)

T = TypeVar("T")

KEY_COLUMNS: dict[TableName, tuple[str, ...]] = {
    "trials": ("number", "attempt"),
    "stages": ("number", "attempt", "stage"),
    "requests": ("number", "attempt", "stage"),
    "samples": ("number", "attempt"),
}
"""What is written together and stands in a file whole or not at all."""

_TRIES = 20
_BITS = 20
"""Attempts of a trial, and stages of an attempt, are fewer than 2 to this power."""

DAMAGE = (OSError, ValueError, KeyError, TypeError, pa.ArrowException)
"""What reading a damaged or foreign file raises."""


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A file of the record that was passed over, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: cannot be read and is left out: {self.reason}"


OnProblem: TypeAlias = Callable[[UnreadableFile], None]


def log_problem(problem: UnreadableFile) -> None:
    """Report by this module's logger, as a warning."""
    _logger.warning("%s", problem)


def read_table_files(
    layout: RunLayout,
    table: TableName,
    decode: Callable[[pa.Table], T],
    on_problem: OnProblem,
    *,
    columns: Sequence[str] | None = None,
    number: int | None = None,
) -> list[T]:
    """What `decode` makes of the rows of each readable file; the others go to `on_problem`.

    Args:
        layout: the run.
        table: whose rows.
        decode: takes the rows of one file that were in none before it.
        on_problem: told of every file that is damaged.
        columns: those that are wanted, those of the key beside; all by default. One that a file
            does not have is left out.
        number: the trial whose rows are wanted; all by default.

    Raises:
        RunFolderError: a newer servetune wrote a file.
    """

    def listed() -> list[RecordFile]:
        return layout.files(table) if number is None else layout.files_of(table, number)

    reading = _Reading(table, decode, columns, number)
    for _ in range(_TRIES):
        files = listed()
        reading.gone.clear()
        for file in files:
            reading.take(file.path)
        if not reading.gone and listed() == files:
            break
    for problem in [*reading.problems, *reading.gone]:
        on_problem(problem)
    return reading.found


@dataclass(slots=True)
class _Reading(Generic[T]):
    """What has been read of the files of a table, each only once.

    Attributes:
        found: what `decode` made of files.
        problems: damaged files.
        gone: files that went since they were listed; their rows are in others.
    """

    table: TableName
    decode: Callable[[pa.Table], T]
    columns: Sequence[str] | None
    number: int | None
    found: list[T] = field(default_factory=list)
    problems: list[UnreadableFile] = field(default_factory=list)
    gone: list[UnreadableFile] = field(default_factory=list)
    _taken: set[tuple[Path, int, int]] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)

    def take(self, path: Path) -> None:
        """Read a file, unless it was before."""
        try:
            status = path.stat()
            content = (path, status.st_ino, status.st_mtime_ns)
            if content in self._taken:
                return
            if not stat.S_ISREG(status.st_mode):  # to open a pipe is to wait for its writer
                raise OSError("it is no regular file")
            self._read(path)
        except FileNotFoundError as error:
            self.gone.append(UnreadableFile(path, str(error)))
            return
        except DAMAGE as error:
            self.problems.append(UnreadableFile(path, str(error) or type(error).__name__))
        self._taken.add(content)

    def _read(self, path: Path) -> None:
        with pq.ParquetFile(path) as file:
            check_schema(file.schema_arrow, self.table, path)
            table = self._rows(file)
        keys = row_keys(table, self.table)
        unique = set(np.unique(keys).tolist())
        if not unique.isdisjoint(self._seen):
            table = table.filter(pa.array(~np.isin(keys, list(self._seen))))
        self.found.append(self.decode(table))
        self._seen |= unique

    def _rows(self, file: pq.ParquetFile) -> pa.Table:
        names = None
        if self.columns is not None:
            wanted = {*KEY_COLUMNS[self.table], *self.columns}
            names = [name for name in file.schema_arrow.names if name in wanted]
        if self.number is None:
            return file.read(columns=names)
        groups = list(row_groups_of(file, self.number))
        table = file.read_row_groups(groups, columns=names)
        return table.filter(pa.array(table["number"].to_numpy() == self.number))


def row_groups_of(file: pq.ParquetFile, number: int) -> Iterator[int]:
    """The row groups that can hold rows of trial `number`, by their statistics."""
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        bounds = number_bounds(metadata.row_group(group))
        if bounds is None or bounds[0] <= number <= bounds[1]:
            yield group


def number_bounds(group: pq.RowGroupMetaData) -> tuple[int, int] | None:
    """Lowest and highest trial of a row group; None where it does not say."""
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == "number":
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max:
                return None
            return cast("tuple[int, int]", (statistics.min, statistics.max))
    return None


def row_keys(rows: pa.Table | pa.RecordBatch, table: TableName) -> npt.NDArray[np.int64]:
    """What each row belongs to, as one number; rows of one key are written together.

    Raises:
        KeyError: a column of the key is not there.
    """
    keys = np.zeros(rows.num_rows, dtype=np.int64)
    for name in KEY_COLUMNS[table]:
        keys = (keys << _BITS) | rows.column(name).to_numpy(zero_copy_only=False)
    return keys
