"""Files that another version of servetune wrote, written again in the schema of this one.

So that all files of a table have one schema, by which other tools open a folder: most of them take
the first file's for that of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runtimes.errors import InternalError
from tracking.files import written_atomically
from tracking.layout import TableName
from tracking.parquet.decode import stage_record, trial_record
from tracking.parquet.encoding import writer_options
from tracking.parquet.merge import DamagedInputError, schema_of
from tracking.parquet.parameters import ParameterTypes
from tracking.parquet.rows import stage_row, trial_row
from tracking.parquet.schema import (
    check_schema,
    parameter_columns,
    requests_schema,
    samples_schema,
    stage_schema,
    trial_schema,
)
from tracking.parquet.tables import DAMAGE
from tracking.records import Sample

_SAMPLE_DEFAULTS: dict[str, Any] = {
    item.name: item.default for item in fields(Sample) if item.default is not MISSING
}


class Upgrade:
    """Writes files of one run again.

    Args:
        parameter_types: as for `RecordWriter`.
        objectives: as for `RecordWriter`.
    """

    def __init__(self, parameter_types: ParameterTypes, objectives: Sequence[str]) -> None:
        self._objectives = tuple(objectives)
        self._schemas: dict[TableName, pa.Schema] = {
            "trials": trial_schema(parameter_types, objectives),
            "stages": stage_schema(),
            "requests": requests_schema(),
            "samples": samples_schema(),
        }
        self._parameters = parameter_columns(self._schemas["trials"])

    def file(self, path: Path, table: TableName) -> None:
        """Give a file the schema of `table`, row groups as they are.

        One that has it, or columns that would be lost by that, stays as it is.

        Raises:
            DamagedInputError: it cannot be read; it stays as it is.
            RunFolderError: a newer servetune wrote it.
            OSError: the disk refused; nothing is lost.
        """
        found, schema = schema_of(path), self._schemas[table]
        if _same(found, schema) or not set(found.names) <= set(schema.names):
            return
        check_schema(found, table, path)
        with (
            pq.ParquetFile(path, pre_buffer=False) as file,
            written_atomically(path) as sink,
            pq.ParquetWriter(sink, schema, **writer_options(schema)) as writer,
        ):
            for index in range(file.num_row_groups):
                rows = self._group(file, index, table, path)
                writer.write_table(rows, row_group_size=max(1, rows.num_rows))

    def _group(self, file: pq.ParquetFile, index: int, table: TableName, path: Path) -> pa.Table:
        """A row group, as its table has it now."""
        try:
            return self._now(file.read_row_group(index), table)
        except (*DAMAGE, InternalError) as error:
            raise DamagedInputError(path, str(error)) from error

    def _now(self, rows: pa.Table, table: TableName) -> pa.Table:
        schema = self._schemas[table]
        if table == "trials":
            then = parameter_columns(rows.schema)
            trials = (trial_record(row, then) for row in rows.to_pylist())
            made = [trial_row(trial, self._parameters, self._objectives) for trial in trials]
            return pa.Table.from_pylist(made, schema=schema)
        if table == "stages":
            stages = [stage_row(stage_record(row)) for row in rows.to_pylist()]
            return pa.Table.from_pylist(stages, schema=schema)
        defaults = _SAMPLE_DEFAULTS if table == "samples" else {}
        columns = [
            rows[field.name].cast(field.type)
            if field.name in rows.column_names
            else pa.repeat(pa.scalar(defaults.get(field.name), field.type), rows.num_rows)
            for field in schema
        ]
        return pa.Table.from_arrays(columns, schema=schema)


def _same(one: pa.Schema, other: pa.Schema) -> bool:
    """Equal, metadata included; Parquet has its own name for the elements of a list."""
    return (
        one.equals(other)
        and one.metadata == other.metadata
        and [field.metadata for field in one] == [field.metadata for field in other]
    )
