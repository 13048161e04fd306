"""The formats of recorded traces, each read into the same rows.

| format | file | columns or keys |
|---|---|---|
| azure | CSV | TIMESTAMP (a date and a time), ContextTokens, GeneratedTokens |
| burstgpt | CSV | Timestamp (seconds), Request tokens, Response tokens |
| mooncake | JSON lines | timestamp (ms), input_length, output_length, hash_ids |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from runtimes.workloads.files import columns, csv_rows, first_line, text_lines, token_count, wrong

SHAREGPT = "sharegpt"
"""Conversations as texts; read in `runtimes.workloads.transcripts`."""

_FRACTION = re.compile(r"(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?")
_NS = 1_000_000_000


class Row(NamedTuple):
    """One recorded request.

    Attributes:
        line: of the file.
        at_ns: when it arrived, from any beginning.
        input_tokens, output_tokens: as recorded; 0 where it failed.
        blocks: names of the blocks that its prompt consists of; a name stands for the block and
            all before it. Empty where the trace has none.
    """

    line: int
    at_ns: int
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def detect(path: Path) -> str:
    """The format of a file, by how it begins.

    Raises:
        ValueError: it cannot be read, or begins like none.
    """
    start = first_line(path)
    if start.startswith("["):
        return SHAREGPT
    if start.startswith("{"):
        return "mooncake" if '"input_length"' in start else SHAREGPT
    for name, column in (("azure", "ContextTokens"), ("burstgpt", "Request tokens")):
        if column in start:
            return name
    raise ValueError(
        f"{path}: is no trace of a known format ({', '.join(FORMATS)}); name it as `format`, or "
        f"use the workload sharegpt for lengths without times, got {start[:80]!r} at its beginning"
    )


def _azure(path: Path) -> Iterator[Row]:
    header, rows = csv_rows(path)
    pick = columns(path, header, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
    for line, row in rows:
        stamp, context, generated = pick(line, row)
        yield Row(
            line,
            _date_ns(path, line, stamp),
            token_count(path, line, "ContextTokens", context),
            token_count(path, line, "GeneratedTokens", generated),
        )


def _burstgpt(path: Path) -> Iterator[Row]:
    header, rows = csv_rows(path)
    pick = columns(path, header, ("Timestamp", "Request tokens", "Response tokens"))
    for line, row in rows:
        stamp, request, response = pick(line, row)
        try:
            at_ns = round(float(stamp) * _NS)
        except (ValueError, OverflowError):
            wrong(path, line, "Timestamp has to be a number of seconds", stamp)
        yield Row(
            line,
            at_ns,
            token_count(path, line, "Request tokens", request),
            token_count(path, line, "Response tokens", response),
        )


def _mooncake(path: Path) -> Iterator[Row]:
    for line, text in enumerate(text_lines(path), 1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            wrong(path, line, f"is no JSON ({error})", text)
        if not isinstance(found, dict):
            wrong(path, line, "has to be a mapping", text)
        stamp, blocks = found.get("timestamp"), found.get("hash_ids", [])
        if (
            isinstance(stamp, bool)
            or not isinstance(stamp, int | float)
            or abs(stamp) > _FOREVER_MS
        ):
            wrong(path, line, "timestamp has to be a number of milliseconds", stamp)
        if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
            wrong(path, line, "hash_ids has to be a list of whole numbers", blocks)
        yield Row(
            line,
            round(stamp * 1_000_000),
            token_count(path, line, "input_length", found.get("input_length")),
            token_count(path, line, "output_length", found.get("output_length")),
            tuple(blocks),
        )


FORMATS: Mapping[str, Callable[[Path], Iterator[Row]] | None] = {
    "azure": _azure,
    "burstgpt": _burstgpt,
    "mooncake": _mooncake,
    SHAREGPT: None,
}
"""What reads each format as rows; None for the one that is no rows."""


_FOREVER_MS = 1e14
"""Three thousand years: later is no time of a trace, and not a number is not below it."""


def _date_ns(path: Path, line: int, stamp: str) -> int:
    """Nanoseconds of a date and time with up to nine decimals of a second; UTC without a zone."""
    rest = _FRACTION.fullmatch(stamp[19:])
    seconds = None if rest is None else _epoch_s(stamp[:19] + (rest[2] or ""))
    if rest is None or seconds is None:
        wrong(path, line, "TIMESTAMP has to be like 2023-11-16 18:17:03.979", stamp)
    return seconds * _NS + int((rest[1] or "").ljust(9, "0"))


@lru_cache(maxsize=16)
def _epoch_s(stamp: str) -> int | None:
    try:
        date = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return int(date.timestamp())
