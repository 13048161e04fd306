"""A recorded run, opened: its tables in Arrow, or as pandas frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from runtimes.errors import MissingToolError
from tracking.layout import RunLayout, TableName
from tracking.parquet.events import read_events
from tracking.parquet.schema import requests_schema, samples_schema, stage_schema, trial_schema
from tracking.parquet.tables import log_problem, read_table_files
from tracking.parquet.unify import one_table

if TYPE_CHECKING:
    import pandas as pd

_ORDER: Mapping[TableName, tuple[str, ...]] = {
    "trials": ("number", "attempt"),
    "stages": ("number", "attempt", "stage"),
    "requests": ("number", "attempt", "stage", "index"),
    "samples": ("number", "attempt", "at_ns", "metric"),
}


@dataclass(frozen=True, slots=True)
class TrialLine:
    """What a list of trials shows of an attempt; the units of `objectives` are their own."""

    number: int
    attempt: int
    state: str
    engine: str
    gpus: int
    baseline: bool
    config_id: str
    started_unix_s: float | None
    ended_unix_s: float | None
    objectives: Mapping[str, float]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Tables of one run; every call reads the folder as it is then, a running one included.

    A damaged file is left out with a warning by `tracking.parquet.tables`' logger. Every method
    raises RunFolderError for a record of a newer servetune. `columns` are those that are wanted,
    all by default; one that a run does not have is left out.
    """

    layout: RunLayout

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per attempt, in order of (number, attempt)."""
        return self._table("trials", trial_schema({}, ()), columns)

    def stages(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per load stage, in order of (number, attempt, stage)."""
        return self._table("stages", stage_schema(), columns)

    def requests(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per request of trial `number`, all attempts and stages, in their order."""
        return self._table("requests", requests_schema(), columns, number)

    def samples(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per sample of trial `number`, all attempts, in order of time."""
        return self._table("samples", samples_schema(), columns, number)

    def events(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per event of the journal, in order."""
        return read_events(self.layout, columns)

    def listing(self) -> list[TrialLine]:
        """Every attempt in short, in order of (number, attempt)."""
        table = self.trials(list(TrialLine.__dataclass_fields__))
        return [
            TrialLine(
                **{
                    **row,
                    "objectives": dict(row["objectives"]),
                    "flags": tuple(row["flags"]),
                    "baseline": bool(row.get("baseline")),
                }
            )
            for row in table.to_pylist()
        ]

    @property
    def pandas(self) -> Frames:
        """The same tables as pandas frames."""
        return Frames(self)

    def _table(
        self,
        name: TableName,
        empty: pa.Schema,
        columns: Sequence[str] | None,
        number: int | None = None,
    ) -> pa.Table:
        order = _ORDER[name]
        wanted = None if columns is None else list(dict.fromkeys([*columns, *order]))
        found = read_table_files(
            self.layout, name, lambda table: table, log_problem, columns=wanted, number=number
        )
        table = one_table(found) if found else empty.empty_table()
        ordered = table.sort_by([(column, "ascending") for column in order])
        if columns is None:
            return ordered
        return ordered.select([column for column in columns if column in ordered.column_names])


@dataclass(frozen=True, slots=True)
class Frames:
    """The tables of a run as pandas frames: integers and truth values nullable, maps as dicts.

    Every method raises MissingToolError without pandas, and what `OpenRun`'s raises.
    """

    run: OpenRun

    def trials(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """As `OpenRun.trials`."""
        return _frame(self.run.trials(columns))

    def stages(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """As `OpenRun.stages`."""
        return _frame(self.run.stages(columns))

    def requests(self, number: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """As `OpenRun.requests`."""
        return _frame(self.run.requests(number, columns))

    def samples(self, number: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """As `OpenRun.samples`."""
        return _frame(self.run.samples(number, columns))

    def events(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """As `OpenRun.events`."""
        return _frame(self.run.events(columns))


def _frame(table: pa.Table) -> pd.DataFrame:
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise MissingToolError(
            "data frames need pandas, which is not installed: pip install 'servetune[pandas]'"
        ) from None

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return table.to_pandas(types_mapper=nullable.get, maps_as_pydicts="strict")
