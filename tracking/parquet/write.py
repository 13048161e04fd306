"""Writing the record: Parquet bytes where a trial ran, whole files where the driver is."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from runtimes.measurement import RequestRecord
from tracking.files import write_atomically
from tracking.layout import RunLayout
from tracking.parquet.parameters import ParameterTypes
from tracking.parquet.requests import requests_table
from tracking.parquet.rows import Row, sample_row, stage_row, trial_row
from tracking.parquet.schema import parameter_columns, samples_schema, stage_schema, trial_schema
from tracking.records import Sample, StageRecord, TrialRecord


def encode_requests(
    *, run: str, number: int, attempt: int, stage: int, records: Sequence[RequestRecord]
) -> bytes:
    """The Parquet file of one stage's requests."""
    identity: Row = {"run": run, "number": number, "attempt": attempt, "stage": stage}
    return _encode_many(requests_table(identity, records))


def encode_samples(*, run: str, number: int, attempt: int, samples: Sequence[Sample]) -> bytes:
    """The Parquet file of one attempt's samples."""
    identity = {"run": run, "number": number, "attempt": attempt}
    rows = [{**identity, **sample_row(sample)} for sample in samples]
    return _encode_many(pa.Table.from_pylist(rows, schema=samples_schema()))


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
        path = self._layout.trial_file(record.number, record.attempt)
        write_atomically(path, _encode_one(row, self._trial_schema))

    def stage(self, record: StageRecord) -> None:
        """Write the row of one load stage."""
        path = self._layout.stage_file(record.number, record.attempt, record.stage)
        write_atomically(path, _encode_one(stage_row(record), stage_schema()))

    def requests(self, number: int, attempt: int, stage: int, payload: bytes) -> None:
        """Write what `encode_requests` made."""
        write_atomically(self._layout.requests_file(number, attempt, stage), payload)

    def samples(self, number: int, attempt: int, payload: bytes) -> None:
        """Write what `encode_samples` made."""
        write_atomically(self._layout.samples_file(number, attempt), payload)

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


def _encode_many(table: pa.Table) -> bytes:
    """A file of many rows: words repeat, while clock readings grow by steps."""
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    steps = dict.fromkeys(_clock_columns(table.schema), "DELTA_BINARY_PACKED")
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=words,  # type: ignore[arg-type]  # the stubs lack the list
        column_encoding=steps,
    )
    return sink.getvalue().to_pybytes()


def _clock_columns(schema: pa.Schema) -> list[str]:
    """Parquet paths of the columns of nanoseconds, lists of them included."""
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
        if field.name.endswith("_ns")
    ]
