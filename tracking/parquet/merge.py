"""Files of a table made into one, by streaming: a run may hold more rows than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tracking.files import rename, written_atomically
from tracking.layout import RunLayout, TableName
from tracking.parquet.encoding import ROW_GROUP_BYTES, writer_options
from tracking.parquet.tables import DAMAGE, KEY_COLUMNS, row_keys

_BATCH_ROWS = 4096


class DamagedInputError(Exception):
    """A file that was to be merged cannot be read; nothing was written or deleted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be read and stays as it is: {reason}")
        self.path = path


def gather_stages(layout: RunLayout, table: TableName, number: int, attempt: int) -> None:
    """Put the rows of an attempt's stages into one file. Its stages have to be over.

    A crash at any instant leaves every row on disk, some of them perhaps twice; gathering once
    more ends that.

    Raises:
        DamagedInputError: a file of a stage cannot be read.
        OSError: the disk refused; nothing is lost.
    """
    parts = layout.stage_parts(table, number, attempt)
    whole = layout.attempt_file(table, number, attempt)
    known = [whole] if whole.exists() else []
    if len(parts) == 1 and not known:
        rename(parts[0], whole)
    elif parts:
        merge([*known, *parts], whole, table, apart=True)
        for part in parts:
            part.unlink()


def merge(inputs: Sequence[Path], output: Path, table: TableName, *, apart: bool = False) -> None:
    """Write the rows of `inputs`, which are of one schema, to `output`; on disk on return.

    Rows of a key that an earlier input had are left out. `output` may be one of the inputs. No
    more than a row group's rows are held in memory. The inputs are kept.

    Args:
        inputs: in the order in which their rows shall stand.
        output: the file to write.
        table: whose rows they are.
        apart: no row group holds rows of two inputs.

    Raises:
        DamagedInputError: an input cannot be read.
        OSError: the disk refused; `output` is as it was.
    """
    schema = schema_of(inputs[0])
    with (
        written_atomically(output) as sink,
        pq.ParquetWriter(sink, schema, **writer_options(schema)) as writer,
    ):
        for rows in _row_groups(inputs, table, apart):
            writer.write_table(rows, row_group_size=max(1, rows.num_rows))


def schema_of(path: Path) -> pa.Schema:
    """The schema of a file, its metadata included.

    Raises:
        DamagedInputError: it cannot be read.
    """
    try:
        return pq.read_schema(path)
    except DAMAGE as error:
        raise DamagedInputError(path, str(error)) from error


def keys_of(path: Path, table: TableName) -> frozenset[int]:
    """What the rows of a file belong to; see `row_keys`.

    Raises:
        DamagedInputError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(columns=list(KEY_COLUMNS[table]), use_threads=False)
            return frozenset(key for batch in batches for key in set(row_keys(batch, table)))
    except DAMAGE as error:
        raise DamagedInputError(path, str(error)) from error


def _row_groups(inputs: Sequence[Path], table: TableName, apart: bool) -> Iterator[pa.Table]:
    """The rows to write, in tables of about `ROW_GROUP_BYTES`."""
    seen: set[int] = set()
    waiting: list[pa.RecordBatch] = []
    waiting_bytes = 0
    for path in inputs:
        found: set[int] = set()
        for batch in _batches(path):
            keys = row_keys(batch, table)
            unique = set(np.unique(keys).tolist())
            found |= unique
            new = batch if unique.isdisjoint(seen) else batch.filter(pa.array(~_among(keys, seen)))
            waiting.append(new)
            waiting_bytes += new.nbytes
            if waiting_bytes >= ROW_GROUP_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting, waiting_bytes = [], 0
        seen |= found
        if apart and waiting:
            yield pa.Table.from_batches(waiting)
            waiting, waiting_bytes = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)
    except DAMAGE as error:
        raise DamagedInputError(path, str(error)) from error


def _among(keys: npt.NDArray[np.int64], seen: set[int]) -> npt.NDArray[np.bool_]:
    return np.isin(keys, list(seen))
