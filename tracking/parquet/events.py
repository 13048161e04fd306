"""The journal's events as Parquet, typed, for tools that read no JSON lines.

The journal is the truth: whatever of it is not in a file yet is read from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runtimes.json_types import canonical_json
from tracking.events import Event, Proposed, encode
from tracking.files import write_atomically
from tracking.journal import read_segment, segments
from tracking.layout import RunLayout
from tracking.parquet.rows import Row
from tracking.parquet.schema import check_schema, events_schema
from tracking.parquet.tables import DAMAGE, OnProblem, UnreadableFile, log_problem
from tracking.parquet.write import encode_table

_FILE = re.compile(r"segments-(?P<first>\d+)-(?P<last>\d+)\.parquet")


def write_events(layout: RunLayout, *, last: bool) -> None:
    """Store the events of the journal's segments that no file holds yet.

    Args:
        layout: the run; nobody else may write its events.
        last: the journal is closed. The open segment is stored too, and all files become one.

    Raises:
        RunFolderError: the journal is damaged.
        OSError: the disk refused; nothing is lost.
    """
    found = segments(layout.journal_dir)
    closed = found if last else found[:-1]
    if not closed:
        return
    known = _files(layout)
    done = max((end for _, end, _ in known), default=0)
    new = [path for path in closed if int(path.stem) > done]
    if new:
        table = _journal_table(layout.run, new)
        path = layout.events_file(int(new[0].stem), int(new[-1].stem))
        write_atomically(path, encode_table(table))
    if last:
        _unite(layout)


def read_events(
    layout: RunLayout,
    columns: Sequence[str] | None = None,
    on_problem: OnProblem = log_problem,
) -> pa.Table:
    """Every event of the run, in order; of one that goes on, up to this moment.

    `columns` are those that are wanted, all by default; one that there is not is left out.

    Raises:
        RunFolderError: a newer servetune wrote them, or the journal is damaged.
    """
    tables = []
    stored: set[int] = set()
    for first, end, path in _files(layout):
        try:
            with pq.ParquetFile(path) as file:
                check_schema(file.schema_arrow, "events", path)
                tables.append(file.read())
        except DAMAGE as error:
            on_problem(UnreadableFile(path, f"{error}; its events are read from the journal"))
        else:
            stored.update(range(first, end + 1))
    rest = [path for path in segments(layout.journal_dir) if int(path.stem) not in stored]
    table = pa.concat_tables([*tables, _journal_table(layout.run, rest)], promote_options="default")
    ordered = table.sort_by([("segment", "ascending"), ("line", "ascending")])
    if columns is None:
        return ordered
    return ordered.select([column for column in columns if column in ordered.column_names])


def _files(layout: RunLayout) -> list[tuple[int, int, Path]]:
    """First segment, last segment and path of the files of events, none within another."""
    matches = [(_FILE.fullmatch(path.name), path) for path in layout.events_dir.glob("*.parquet")]
    found = [(int(match["first"]), int(match["last"]), path) for match, path in matches if match]
    widest = sorted(found, key=lambda item: (item[0], -item[1]))
    kept: list[tuple[int, int, Path]] = []
    for item in widest:
        if not kept or item[1] > kept[-1][1]:
            kept.append(item)
    return kept


def _unite(layout: RunLayout) -> None:
    """One file of all, unless there is only one; files within another go."""
    files = _files(layout)
    if len(files) > 1:
        table = pa.concat_tables(
            [pq.read_table(path) for _, _, path in files], promote_options="default"
        )
        united = layout.events_file(files[0][0], files[-1][1])
        write_atomically(united, encode_table(table))
        files = _files(layout)
    kept = {path for _, _, path in files}
    for path in layout.events_dir.glob("*.parquet"):
        if _FILE.fullmatch(path.name) and path not in kept:
            path.unlink()


def _journal_table(run: str, paths: Iterable[Path]) -> pa.Table:
    schema = events_schema()
    tables = [
        pa.Table.from_pylist(
            [
                _row(run, int(path.stem), line, at_unix_s, event)
                for line, (at_unix_s, event) in enumerate(read_segment(path), start=1)
            ],
            schema=schema,
        )
        for path in paths
    ]
    return pa.concat_tables([schema.empty_table(), *tables])


def _row(run: str, segment: int, line: int, at_unix_s: float, event: Event) -> Row:
    row: Row = dict(encode(event))
    if isinstance(event, Proposed):
        row["values"] = {name: canonical_json(value) for name, value in event.values.items()}
    return {
        **row,
        "run": run,
        "segment": segment,
        "line": line,
        "at": round(at_unix_s * 1e6),
        "unix_s": at_unix_s,
    }
