"""The record as pandas frames, for notebooks and reports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from runtimes.errors import MissingToolError
from tracking.layout import RunLayout
from tracking.parquet.read import OnProblem, log_problem, read_files
from tracking.parquet.schema import requests_schema, samples_schema, stage_schema, trial_schema

if TYPE_CHECKING:
    import pandas as pd


def trials_frame(layout: RunLayout, on_problem: OnProblem = log_problem) -> pd.DataFrame:
    """One row per attempt, in order of (number, attempt)."""
    order = ["number", "attempt"]
    return _frame(layout.trial_files(), "trials", trial_schema({}, ()), order, on_problem)


def stages_frame(layout: RunLayout, on_problem: OnProblem = log_problem) -> pd.DataFrame:
    """One row per load stage, in order of (number, attempt, stage)."""
    order = ["number", "attempt", "stage"]
    return _frame(layout.stage_files(), "stages", stage_schema(), order, on_problem)


def requests_frame(
    layout: RunLayout, number: int, on_problem: OnProblem = log_problem
) -> pd.DataFrame:
    """One row per request of trial `number`, all attempts and stages."""
    order = ["attempt", "stage", "index"]
    paths = layout.requests_files(number)
    return _frame(paths, "requests", requests_schema(), order, on_problem)


def samples_frame(
    layout: RunLayout, number: int, on_problem: OnProblem = log_problem
) -> pd.DataFrame:
    """One row per sample of trial `number`, all attempts, in order of time."""
    order = ["attempt", "at_ns", "metric"]
    paths = layout.samples_files(number)
    return _frame(paths, "samples", samples_schema(), order, on_problem)


def _frame(
    paths: Iterable[Path],
    kind: str,
    empty: pa.Schema,
    order: list[str],
    on_problem: OnProblem,
) -> pd.DataFrame:
    """The files' rows in one frame, integers and truth values nullable, maps as dicts.

    Raises:
        MissingToolError: pandas is not installed.
        RunFolderError: a newer servetune wrote a file.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise MissingToolError(
            "data frames need pandas, which is not installed: pip install 'servetune[pandas]'"
        ) from None

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    tables = list(read_files(paths, kind, lambda table: table, on_problem))
    table = pa.concat_tables(tables, promote_options="default") if tables else empty.empty_table()
    ordered = table.sort_by([(name, "ascending") for name in order])
    return ordered.to_pandas(types_mapper=nullable.get, maps_as_pydicts="strict")
