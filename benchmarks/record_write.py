"""How many request rows per second the record takes in, at each step of their way to disk.

    python -m benchmarks.record_write [--requests 1000000] [--chunks 0 16] [--out FILE]

A stage's requests are made up. For each number of content chunks per request it is measured what
the bundle does (columns of `RequestRecord`s, and a Parquet file of columns), and what the driver
does (store the file of a stage, gather the stages of an attempt in one file, merge such files).
Prints JSON: rows per second of wall clock and of CPU time of one process, and as `peak_mb` the most
memory that a step took beyond what it was given.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runtimes.json_types import Json
from runtimes.measurement import RequestRecord
from tracking.layout import RunLayout
from tracking.parquet.compaction import compact
from tracking.parquet.merge import gather_stages
from tracking.parquet.requests import requests_table
from tracking.parquet.write import RecordWriter, encode_requests, encode_table

_IDENTITY = {"run": "benchmark", "number": 0, "attempt": 0, "stage": 0}
_STAGES = 4
_SMALL_ROWS = 2_000


def records(requests: int, chunks: int) -> list[RequestRecord]:
    """An open loop of 1,000 arrivals a second, with jitter in every time."""
    random = np.random.default_rng(1)
    sent = np.cumsum(random.exponential(1e6, requests)).astype(np.int64)
    late = random.integers(1_000, 100_000, requests)
    gaps = random.exponential(1e7, (requests, max(chunks, 1))).astype(np.int64)
    ends = gaps.sum(axis=1)
    arrivals = sent[:, None] + np.cumsum(gaps, axis=1)
    prompt = random.integers(100, 2_000, requests)
    return [
        RequestRecord(
            index=index,
            scheduled_ns=int(sent[index] - late[index]),
            sent_ns=int(sent[index]),
            chunk_ns=array("q", arrivals[index].tobytes()) if chunks else (),
            end_ns=int(sent[index] + ends[index] + late[index]),
            prompt_tokens=int(prompt[index]),
            output_tokens=chunks or None,
            requested_output_tokens=chunks,
            sent_tokens=int(prompt[index]),
            first_byte_ns=int(sent[index] + late[index]),
        )
        for index in range(requests)
    ]


class _Peak:
    """The most resident memory while a block runs, beyond that before it, MB."""

    def __enter__(self) -> _Peak:
        self._before = self._most = _resident_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mb(self) -> int:
        return round((self._most - self._before) / 1e6)

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self._most = max(self._most, _resident_bytes())


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _measured(rows: int, step: Callable[[], object]) -> dict[str, Json]:
    pa.default_memory_pool().release_unused()
    with _Peak() as peak:
        began, cpu = time.perf_counter(), time.process_time()
        step()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return {
        "rows_per_s": round(rows / wall_s),
        "rows_per_cpu_s": round(rows / cpu_s),
        "wall_s": round(wall_s, 3),
        "peak_mb": peak.mb,
    }


def figures(requests: int, chunks: int, folder: Path) -> dict[str, Json]:
    """Every step for requests of so many chunks."""
    made = records(requests, chunks)
    table = requests_table(_IDENTITY, made)
    payload = encode_table(table)
    found: dict[str, Json] = {
        "chunks": chunks,
        "file_mb": round(len(payload) / 1e6, 1),
        "bundle_from_records": _measured(
            requests,
            lambda: encode_requests(run="benchmark", number=0, attempt=0, stage=0, records=made),
        ),
        "bundle_columns_of_records": _measured(requests, lambda: requests_table(_IDENTITY, made)),
        "bundle_from_columns": _measured(requests, lambda: encode_table(table)),
    }
    layout = RunLayout(folder / f"benchmark-{chunks}")
    layout.create()
    writer = RecordWriter(layout, {}, ())
    found["driver_store_a_stage"] = _measured(requests, lambda: writer.requests(0, 0, 0, payload))
    found["driver_rename_the_only_stage"] = _measured(
        requests, lambda: gather_stages(layout, "requests", 0, 0)
    )
    share = requests // _STAGES
    for stage in range(_STAGES):
        part = made[stage * share : (stage + 1) * share]
        writer.requests(1, 0, stage, _payload(1, stage, part))
    found[f"driver_gather_{_STAGES}_stages"] = _measured(
        share * _STAGES, lambda: gather_stages(layout, "requests", 1, 0)
    )
    small = requests // _SMALL_ROWS
    for index in range(small):
        part = made[index * _SMALL_ROWS : (index + 1) * _SMALL_ROWS]
        writer.requests(2 + index, 0, 0, _payload(2 + index, 0, part))
        gather_stages(layout, "requests", 2 + index, 0)
    found[f"driver_merge_files_of_{_SMALL_ROWS}"] = _measured(
        small * _SMALL_ROWS, lambda: compact(layout, "requests", last=True)
    )
    with pq.ParquetFile(layout.files("requests")[0].path) as file:
        found["row_groups_of_a_merged_file"] = file.num_row_groups
    return found


def _payload(number: int, stage: int, part: list[RequestRecord]) -> bytes:
    return encode_requests(run="benchmark", number=number, attempt=0, stage=stage, records=part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, nargs="+", default=[0, 16], help="of one request")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs: list[Json] = [
            figures(options.requests, chunks, Path(folder)) for chunks in options.chunks
        ]
    document = {"requests": options.requests, "cpus": os.cpu_count(), "runs": runs}
    text = json.dumps(document, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
