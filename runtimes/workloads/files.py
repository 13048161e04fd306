"""Reading files of lengths, traces and texts; packed by gzip or not.

What is wrong with a file is a ValueError that names the file, the line and what stands there; a
caller puts the name of the setting in front (`named`).
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from runtimes.json_types import Json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")

_GZIP_MAGIC = b"\x1f\x8b"
_UNREADABLE = (OSError, EOFError, UnicodeDecodeError, zlib.error)


@contextmanager
def named(setting: str) -> Iterator[None]:
    """Puts the name of the setting in front of what is wrong with its file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def existing_file(setting: str, value: Json) -> Path:
    """The file that a setting names, `~` being the user's home.

    Raises:
        ValueError: it is no path, there is no such file, or none that ends.
    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{setting}: must be the path of a file, got {value!r}")
    path = Path(value).expanduser()
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device, a pipe or a socket"
        raise ValueError(f"{setting}: must be a regular file and is {kind}, got {value!r}")
    if not path.is_file():
        start = "" if path.is_absolute() else f"; relative paths start from {Path.cwd()}"
        raise ValueError(f"{setting}: no such file{start}, got {value!r}")
    return path


def read_once(read: Callable[..., T], path: Path, *arguments: Hashable) -> T:
    """`read(path, *arguments)`, kept until the file changes: settings are tried several times."""
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    read_now: T = _read(read, path, (state.st_size, state.st_mtime_ns), arguments)
    return read_now


@lru_cache(maxsize=4)
def _read(
    read: Callable[..., object], path: Path, state: tuple[int, int], arguments: tuple[Hashable, ...]
) -> Any:
    return read(path, *arguments)


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file in UTF-8, with their ends."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
        opener = gzip.open if packed else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield from lines
    except _UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def first_line(path: Path) -> str:
    """The first line that is not empty, without spaces around it."""
    return next((line.strip() for line in text_lines(path) if line.strip()), "")


def csv_rows(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, and the rows that are not empty, each with its line."""
    reader = csv.reader(text_lines(path))

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            wrong(path, reader.line_num, "is no CSV", str(error))

    listed = rows()
    _, header = next(listed, (1, []))
    return [name.strip() for name in header], listed


def wrong(path: Path, where: int | str, words: str, got: object = None) -> NoReturn:
    """Says what is wrong with a line, or another place of a file, and what to do about it."""
    place = where if isinstance(where, str) else f"line {where}"
    raise ValueError(f"{path}, {place}: {words}; correct it or take it out, got {_shown(got)}")


def _shown(got: object) -> str:
    shown = repr(got)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"


_MOST_SHOWN = 80


def token_count(path: Path, line: int, name: str, value: object) -> int:
    """A number of tokens in a file, from 0 on."""
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int):
        wrong(path, line, f"{name} has to be a whole number from 0 on", value)
    if not 0 <= number <= MOST_TOKENS:
        wrong(path, line, f"{name} has to be from 0 to {MOST_TOKENS}", value)
    return number


_DIGITS = re.compile(r"\s*\d{1,18}\s*", re.ASCII)
MOST_TOKENS = 100_000_000
"""No request has more; what says so is damaged."""


def columns(
    path: Path, header: list[str], names: tuple[str, ...]
) -> Callable[[int, list[str]], tuple[str, ...]]:
    """What picks the fields of those columns out of a row.

    Raises:
        ValueError: a column is missing.
    """
    absent = [name for name in names if name not in header]
    if absent:
        raise ValueError(f"{path}: has no column {absent[0]!r}; its columns: {', '.join(header)}")
    places = [header.index(name) for name in names]

    def pick(line: int, row: list[str]) -> tuple[str, ...]:
        if len(row) <= max(places):
            wrong(path, line, f"has {len(row)} fields instead of {len(header)}", ",".join(row))
        return tuple(row[place] for place in places)

    return pick


def lengths_in(setting: str, file: Json, column: str | None) -> tuple[int, ...]:
    """The lengths in a column of a CSV file; those of 0 are left out.

    Raises:
        ValueError: there is no such file or column, or something in it is no length.
    """
    path = existing_file(setting, file)
    with named(setting):
        return read_once(_column, path, column)


def _column(path: Path, column: str | None) -> tuple[int, ...]:
    header, rows = csv_rows(path)
    if column is None and len(header) != 1:
        raise ValueError(f"{path}: has {len(header)} columns; name one as `column`: {header}")
    name = header[0] if column is None else column
    pick = columns(path, header, (name,))
    lengths = tuple(token_count(path, line, name, pick(line, row)[0]) for line, row in rows)
    found = tuple(filter(None, lengths))
    if not found:
        raise ValueError(f"{path}: has no length of at least 1 in column {name!r}")
    return found


def pack(numbers: Iterable[int], code: Literal["i", "q"] = "i") -> bytes:
    """Whole numbers of 32 (`i`) or 64 bits (`q`) as bytes, as a frozen value holds many of them."""
    return array(code, numbers).tobytes()


def unpack(packed: bytes, code: Literal["i", "q"] = "i") -> npt.NDArray[np.int64]:
    """What `pack` packed."""
    import numpy as np  # here, because workloads are also made where no prompt ever is

    return np.frombuffer(packed, dtype=code).astype(np.int64)
