"""A table of the report: rows of text, the best ones where there are too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; `words` columns hold text and stand left, the others figures."""

    name: str
    unit: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class TableView:
    """Cells are text, a dash where there is none; `left_out` says what is not shown of it."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: str = ""


def table_of(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], most: int, elsewhere: str
) -> TableView:
    """The first `most` of `rows`; columns in which no row has anything are dropped.

    `elsewhere` names where all rows stand.
    """
    kept = [
        index for index, _ in enumerate(columns) if any(row[index] not in ("", "–") for row in rows)
    ]
    return TableView(
        tuple(columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in rows[:most]),
        left_out(len(rows), most, elsewhere),
    )


def left_out(total: int, shown: int, elsewhere: str) -> str:
    """`The first 300 of 1,000 rows; all stand in stages/.`; empty where all are shown."""
    if total <= shown:
        return ""
    return f"The first {shown:,} of {total:,}; all stand in {elsewhere}."
