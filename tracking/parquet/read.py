"""Reading trials and stages back as the values that were written."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import TypeVar

import pyarrow as pa

from tracking.layout import RunLayout
from tracking.parquet.decode import stage_record, trial_record
from tracking.parquet.schema import parameter_columns
from tracking.parquet.tables import OnProblem, UnreadableFile, log_problem, read_table_files
from tracking.records import StageRecord, TrialRecord

__all__ = ["OnProblem", "UnreadableFile", "log_problem", "read_stages", "read_trials"]

T = TypeVar("T", StageRecord, TrialRecord)


def read_trials(layout: RunLayout, on_problem: OnProblem = log_problem) -> list[TrialRecord]:
    """Every attempt on disk, in order of (number, attempt), exactly as it was written.

    Args:
        layout: the run.
        on_problem: told of every file that is damaged; its trials are as if they had not been.

    Raises:
        RunFolderError: a newer servetune wrote the record.
    """

    def decode(table: pa.Table) -> list[TrialRecord]:
        parameters = parameter_columns(table.schema)
        return [trial_record(row, parameters) for row in table.to_pylist()]

    files = read_table_files(layout, "trials", decode, on_problem)
    return _ordered(files, "number", "attempt")


def read_stages(layout: RunLayout, on_problem: OnProblem = log_problem) -> list[StageRecord]:
    """Every load stage on disk, in order of (number, attempt, stage); see `read_trials`."""

    def decode(table: pa.Table) -> list[StageRecord]:
        return [stage_record(row) for row in table.to_pylist()]

    files = read_table_files(layout, "stages", decode, on_problem)
    return _ordered(files, "number", "attempt", "stage")


def _ordered(files: Iterable[list[T]], *names: str) -> list[T]:
    return sorted(chain.from_iterable(files), key=attrgetter(*names))
