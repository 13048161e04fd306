"""The table of a stage's requests, made by columns: a stage can hold millions of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from runtimes.measurement import RequestRecord
from runtimes.request_columns import Ints, Truths, flattened
from tracking.parquet.rows import Row
from tracking.parquet.schema import requests_schema

Column: TypeAlias = "pa.Array[Any]"


def requests_table(identity: Row, records: Sequence[RequestRecord]) -> pa.Table:
    """One row per record, each with the columns of `identity`."""
    columns: dict[str, Column] = {
        "chunk_ns": _arrivals(records),
        "chunk_tokens": _chunk_tokens(records),
    }
    schema = requests_schema()
    for field in schema:
        if field.name in identity:
            value = identity[field.name]
            columns[field.name] = pa.array([value] * len(records), field.type)
        elif field.name not in columns:
            values = [getattr(record, field.name) for record in records]
            columns[field.name] = pa.array(values, field.type)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _arrivals(records: Sequence[RequestRecord]) -> Column:
    """`chunk_ns`, counted from each record's `sent_ns`."""
    chunk_ns, offsets = flattened([record.chunk_ns for record in records])
    sent_ns = np.array([record.sent_ns for record in records], dtype=np.int64)
    chunk_ns -= np.repeat(sent_ns, np.diff(offsets))
    return _lists(offsets, chunk_ns, np.zeros(len(records), dtype=np.bool_))


def _chunk_tokens(records: Sequence[RequestRecord]) -> Column:
    """Null for a record that does not say."""
    tokens, offsets = flattened([record.chunk_tokens or () for record in records])
    unknown = np.array([record.chunk_tokens is None for record in records], dtype=np.bool_)
    return _lists(offsets, tokens, unknown)


def _lists(offsets: Ints, values: Ints, absent: Truths) -> Column:
    starts = pa.array(offsets, pa.int32())
    return pa.ListArray.from_arrays(starts, pa.array(values, pa.int64()), mask=pa.array(absent))
