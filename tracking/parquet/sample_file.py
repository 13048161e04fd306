"""The samples of one attempt as a Parquet file that grows while they are taken."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tracking.parquet.encoding import rows_per_group, writer_options
from tracking.parquet.schema import samples_schema
from tracking.records import Sample


class SampleFile:
    """Holds what has been added as compressed bytes. May be used by several threads."""

    def __init__(self, *, run: str, number: int, attempt: int) -> None:
        self._identity = {"run": run, "number": number, "attempt": attempt}
        self._schema = samples_schema()
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, self._schema, **writer_options(self._schema))
        self._lock = threading.Lock()

    def add(self, samples: Sequence[Sample]) -> None:
        """Append `samples`; they are in row groups of their own."""
        columns = {name: [value] * len(samples) for name, value in self._identity.items()}
        table = pa.table(
            {
                **columns,
                "stage": [sample.stage for sample in samples],
                "at_ns": [sample.at_ns for sample in samples],
                "at": [round(sample.unix_s * 1e6) for sample in samples],
                "unix_s": [sample.unix_s for sample in samples],
                "metric": [sample.metric for sample in samples],
                "engine_metric": [sample.engine_metric for sample in samples],
                "gpu": [sample.gpu for sample in samples],
                "value": [sample.value for sample in samples],
            },
            schema=self._schema,
        )
        if table.num_rows:
            with self._lock:
                self._writer.write_table(table, row_group_size=rows_per_group(table))

    def complete(self) -> bytes:
        """The whole file; nothing can be added any more."""
        with self._lock:
            self._writer.close()
            return self._sink.getvalue().to_pybytes()
