"""Writing the record: Parquet bytes where a trial ran, whole files where the driver is."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from runtimes.measurement import RequestRecord
from tracking.files import write_atomically
from tracking.layout import RunLayout
from tracking.parquet.encoding import rows_per_group, writer_options
from tracking.parquet.parameters import ParameterTypes
from tracking.parquet.requests import requests_table
from tracking.parquet.rows import Row, stage_row, trial_row
from tracking.parquet.sample_file import SampleFile
from tracking.parquet.schema import (
    parameter_columns,
    requests_schema,
    stage_schema,
    trial_schema,
)
from tracking.records import Sample, StageRecord, TrialRecord

_TABLE_ROWS = 1 << 16
"""Requests that are made into columns at once."""


def encode_requests(
    *, run: str, number: int, attempt: int, stage: int, records: Sequence[RequestRecord]
) -> bytes:
    """The Parquet file of one stage's requests."""
    identity: Row = {"run": run, "number": number, "attempt": attempt, "stage": stage}
    sink = pa.BufferOutputStream()
    schema = requests_schema()
    with pq.ParquetWriter(sink, schema, **writer_options(schema)) as writer:
        for start in range(0, len(records), _TABLE_ROWS):
            table = requests_table(identity, records[start : start + _TABLE_ROWS])
            writer.write_table(table, row_group_size=rows_per_group(table))
    return sink.getvalue().to_pybytes()


def encode_samples(*, run: str, number: int, attempt: int, samples: Sequence[Sample]) -> bytes:
    """The Parquet file of one attempt's samples."""
    file = SampleFile(run=run, number=number, attempt=attempt)
    file.add(samples)
    return file.complete()


class RecordWriter:
    """Writes the record of one run; a file is complete and on disk when its method returns.

    Only the driver, which holds the run's lock, has one. A file written again is replaced.

    Args:
        layout: the run; its folders must exist.
        parameter_types: type of every parameter the search can propose.
        objectives: names of the run's objectives; each gets a column of its own.
    """

    def __init__(
        self, layout: RunLayout, parameter_types: ParameterTypes, objectives: Sequence[str]
    ) -> None:
        self._layout = layout
        self._objectives = tuple(objectives)
        self._trial_schema = trial_schema(parameter_types, objectives)
        self._parameters = parameter_columns(self._trial_schema)

    def trial(self, record: TrialRecord) -> None:
        """Write the row of one attempt.

        Raises:
            InternalError: a parameter has no column, or one of another type.
        """
        row = trial_row(record, self._parameters, self._objectives)
        path = self._layout.attempt_file("trials", record.number, record.attempt)
        write_atomically(path, _encode_one(row, self._trial_schema))

    def stage(self, record: StageRecord) -> None:
        """Write the row of one load stage."""
        path = self._layout.stage_part("stages", record.number, record.attempt, record.stage)
        write_atomically(path, _encode_one(stage_row(record), stage_schema()))

    def requests(self, number: int, attempt: int, stage: int, payload: bytes) -> None:
        """Write what `encode_requests` made."""
        write_atomically(self._layout.stage_part("requests", number, attempt, stage), payload)

    def samples(self, number: int, attempt: int, payload: bytes) -> None:
        """Write what a `SampleFile` has come to."""
        write_atomically(self._layout.attempt_file("samples", number, attempt), payload)

    def log(self, number: int, attempt: int, text: str) -> None:
        """Write an engine's log; what UTF-8 cannot hold is escaped."""
        data = text.encode(errors="backslashreplace")
        write_atomically(self._layout.log_file(number, attempt), data)


def _encode_one(row: Row, schema: pa.Schema) -> bytes:
    """A file of one row: nothing in it repeats, and its statistics would be itself."""
    table = pa.Table.from_pylist([row], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    return sink.getvalue().to_pybytes()


def encode_table(table: pa.Table) -> bytes:
    """The Parquet file of many rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, row_group_size=rows_per_group(table), **writer_options(table.schema)
    )
    return sink.getvalue().to_pybytes()
