"""Reading the record back as values. A damaged file costs its own rows and is reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tracking.layout import RunLayout
from tracking.parquet.decode import stage_record, trial_record
from tracking.parquet.schema import check_schema, parameter_columns
from tracking.records import StageRecord, TrialRecord

_logger = logging.getLogger(__name__)

T = TypeVar("T")


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


def read_trials(layout: RunLayout, on_problem: OnProblem = log_problem) -> list[TrialRecord]:
    """Every attempt on disk, in order of (number, attempt), exactly as it was written.

    Args:
        layout: the run.
        on_problem: told of every file that is damaged; its trial is as if it had not been.

    Raises:
        RunFolderError: a newer servetune wrote the record.
    """

    def decode(table: pa.Table) -> list[TrialRecord]:
        parameters = parameter_columns(table.schema)
        return [trial_record(row, parameters) for row in table.to_pylist()]

    files = read_files(layout.trial_files(), "trials", decode, on_problem)
    records = [record for rows in files for record in rows]
    return sorted(records, key=lambda record: (record.number, record.attempt))


def read_stages(layout: RunLayout, on_problem: OnProblem = log_problem) -> list[StageRecord]:
    """Every load stage on disk, in order of (number, attempt, stage); see `read_trials`."""

    def decode(table: pa.Table) -> list[StageRecord]:
        return [stage_record(row) for row in table.to_pylist()]

    files = read_files(layout.stage_files(), "stages", decode, on_problem)
    records = [record for rows in files for record in rows]
    return sorted(records, key=lambda record: (record.number, record.attempt, record.stage))


def read_files(
    paths: Iterable[Path], kind: str, decode: Callable[[pa.Table], T], on_problem: OnProblem
) -> Iterator[T]:
    """What `decode` makes of each readable file of `kind`; the others go to `on_problem`.

    Raises:
        RunFolderError: a newer servetune wrote a file.
    """
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                check_schema(file.schema_arrow, kind, path)
                result = decode(file.read())
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            on_problem(UnreadableFile(path, str(error)))
        else:
            yield result
