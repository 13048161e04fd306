"""How rows are laid out in Parquet files, wherever these are written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

ROW_GROUP_BYTES = 16 << 20
"""Of a row group before it is compressed: what is read at least to find one trial's rows in a
large file, and what a writer holds in memory."""


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """For files of many rows: words repeat, while clock readings grow by steps."""
    return {
        "compression": "zstd",
        "use_dictionary": [field.name for field in schema if pa.types.is_string(field.type)],
        "column_encoding": dict.fromkeys(_clock_columns(schema), "DELTA_BINARY_PACKED"),
    }


def rows_per_group(table: pa.Table) -> int:
    """Rows that make a row group of `ROW_GROUP_BYTES`."""
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    return max(1, ROW_GROUP_BYTES // row_bytes)


def _clock_columns(schema: pa.Schema) -> list[str]:
    """Parquet paths of the columns of nanoseconds, lists of them included."""
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
        if field.name.endswith("_ns")
    ]
