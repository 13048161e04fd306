"""The table of a stage's requests, made by columns: a stage can hold millions of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from runtimes.measurement import RequestRecord
from runtimes.request_columns import Floats, Ints, Truths, flattened
from tracking.parquet.rows import Row
from tracking.parquet.schema import requests_schema

Column: TypeAlias = "pa.Array[Any]"

_MS_NS = 1e6
_NEVER_NONE = frozenset({"index", "requested_output_tokens", "shared_tokens", "turn"})


def requests_table(identity: Row, records: Sequence[RequestRecord]) -> pa.Table:
    """One row per record, each with the columns of `identity`."""
    schema = requests_schema()
    chunk_ns, offsets = flattened([record.chunk_ns for record in records])
    known = {
        **_times(records, chunk_ns, offsets),
        "chunk_tokens": _chunk_tokens(records),
        "chunk_ns": _arrivals(records, chunk_ns, offsets),
    }
    columns: dict[str, Column] = {}
    for field in schema:
        name = field.name
        if name in identity:
            columns[name] = pa.repeat(pa.scalar(identity[name], field.type), len(records))
        elif name in known:
            columns[name] = known[name]
        elif name in _NEVER_NONE:
            columns[name] = pa.array(_ints(records, name))
        else:
            columns[name] = pa.array(list(map(attrgetter(name), records)), field.type)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _times(records: Sequence[RequestRecord], chunk_ns: Ints, offsets: Ints) -> dict[str, Column]:
    """Instants and latencies; the same as the properties of `RequestRecord`, all at once."""
    scheduled_ns, sent_ns, end_ns = (
        _ints(records, name) for name in ("scheduled_ns", "sent_ns", "end_ns")
    )
    silent = np.diff(offsets) == 0
    first_ns, last_ns = np.zeros_like(sent_ns), np.zeros_like(sent_ns)
    first_ns[~silent] = chunk_ns[offsets[:-1][~silent]]
    last_ns[~silent] = chunk_ns[offsets[1:][~silent] - 1]
    counted = pa.array(list(map(attrgetter("output_tokens"), records)), pa.int64())
    output = counted.fill_null(0).to_numpy()  # below two tokens there is no TPOT
    spread_ns = last_ns - first_ns
    unspread = silent | (output < 2) | (spread_ns == 0)
    tpot_ms = spread_ns / np.maximum(output - 1, 1) / _MS_NS
    return {
        "output_tokens": counted,
        "scheduled_ns": pa.array(scheduled_ns),
        "sent_ns": pa.array(sent_ns),
        "end_ns": pa.array(end_ns),
        "first_content_ns": pa.array(first_ns, mask=silent),
        "last_content_ns": pa.array(last_ns, mask=silent),
        "ttft_ms": _milliseconds(first_ns - sent_ns, silent),
        "ttft_scheduled_ms": _milliseconds(first_ns - scheduled_ns, silent),
        "tpot_ms": pa.array(tpot_ms, mask=unspread),
        "e2e_ms": _milliseconds(end_ns - sent_ns),
        "e2e_scheduled_ms": _milliseconds(end_ns - scheduled_ns),
    }


def _arrivals(records: Sequence[RequestRecord], chunk_ns: Ints, offsets: Ints) -> Column:
    """`chunk_ns`, counted from each record's `sent_ns`."""
    sent_ns = _ints(records, "sent_ns")
    since_ns = chunk_ns - np.repeat(sent_ns, np.diff(offsets))
    return _lists(offsets, since_ns, np.zeros(len(records), dtype=np.bool_))


def _chunk_tokens(records: Sequence[RequestRecord]) -> Column:
    """Null for a record that does not say."""
    said = list(map(attrgetter("chunk_tokens"), records))
    if said.count(None) == len(said):
        return pa.nulls(len(said), pa.list_(pa.int64()))
    tokens, offsets = flattened([counts or () for counts in said])
    unknown = np.fromiter((counts is None for counts in said), np.bool_, len(records))
    return _lists(offsets, tokens, unknown)


def _ints(records: Sequence[RequestRecord], name: str) -> Ints:
    """A field that is never None."""
    return np.fromiter(map(attrgetter(name), records), np.int64, len(records))


def _milliseconds(nanoseconds: Ints, absent: Truths | None = None) -> Column:
    values: Floats = nanoseconds / _MS_NS
    return pa.array(values, mask=absent)


def _lists(offsets: Ints, values: Ints, absent: Truths) -> Column:
    starts = pa.array(offsets, pa.int32())
    return pa.ListArray.from_arrays(starts, pa.array(values, pa.int64()), mask=pa.array(absent))
