"""Tables of measurements as CSV files: read with faults named, written whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import UserError
from tracking.files import write_atomically

_LONGEST_CELL = 1 << 24


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a CSV file.

    Attributes:
        columns: its header.
        rows: each row's cells by column, in order; a missing cell is empty.
        uneven: numbers of rows (from 0) with more or fewer cells than the header.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    uneven: frozenset[int]


def read_table(path: Path, required: Sequence[str]) -> Table:
    """The rows of `path`, a CSV file in UTF-8, gzipped or not.

    Raises:
        UserError: it cannot be read, is no such file, has no rows, or lacks a required column.
    """
    try:
        packed = path.read_bytes()
        raw = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}: {error.object[error.start]:#04x}); "
            "save it as UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return _parse(path, text, required)


def _parse(path: Path, text: str, required: Sequence[str]) -> Table:
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file: {error}") from error
    finally:
        csv.field_size_limit(limit)
    if len(lines) < 2:
        raise UserError(f"{path} has no rows: the first line names the columns, rows follow")
    columns = tuple(name.strip() for name in lines[0])
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"it has {', '.join(columns)}"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{path} names the column {twice[0]!r} twice; rename one of them")
    cells = lines[1:]
    return Table(
        columns,
        tuple(dict(zip(columns, [*line, *("",) * len(columns)], strict=False)) for line in cells),
        frozenset(at for at, line in enumerate(cells) if len(line) != len(columns)),
    )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write `path` as CSV, gzipped where its name ends in `.gz`; an older file stays until then.

    Links are followed, and a pipe or a device is written to as it is.

    Raises:
        UserError: it cannot be written.
    """
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = buffer.getvalue().encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
