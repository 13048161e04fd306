"""The journal: every event of a run, one JSON line each, in segments that are never reopened."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from runtimes.errors import RunFolderError
from runtimes.json_types import Json
from tracking.events import Event, decode, encode
from tracking.files import sync_folder

_SEGMENT = re.compile(r"\d{8,}\.jsonl")
_TIME_KEY = "at_unix_s"


class Journal:
    """Appends events to segments `00000001.jsonl`, `00000002.jsonl`, … of one folder.

    A writer only ever appends to segments that it made: what another writer left torn stays
    the last line of its file, where `read_journal` forgives it. For one thread at a time.

    Args:
        folder: the journal's folder, which must exist.
        clock: wall clock, seconds since the epoch.
        segment_bytes: a segment that would grow beyond this is followed by a new one.
    """

    def __init__(
        self, folder: Path, *, clock: Callable[[], float], segment_bytes: int = 1 << 20
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None
        self._written_bytes = 0

    def append(self, event: Event) -> None:
        """Write `event` with the present time; it is on disk when this returns.

        Raises:
            OSError: the disk refused. The event may be lost; the next one goes to a new segment.
        """
        line = json.dumps({_TIME_KEY: self._clock(), **encode(event)}, separators=(",", ":"))
        data = f"{line}\n".encode()
        if self._written_bytes and self._written_bytes + len(data) > self._segment_bytes:
            self.close()
        descriptor = self._descriptor
        if descriptor is None:
            descriptor = self._descriptor = self._new_segment()
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            self.close()
            raise
        self._written_bytes += len(data)

    def close(self) -> None:
        """End the current segment. A later `append` begins another."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._written_bytes = 0

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _new_segment(self) -> int:
        known = segments(self._folder)
        number = int(known[-1].stem) + 1 if known else 1
        path = self._folder / f"{number:08d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        sync_folder(self._folder)
        return descriptor


def read_journal(folder: Path) -> list[tuple[float, Event]]:
    """All events of a journal in order, each with its time in seconds since the epoch.

    The last line of any segment may be torn (no newline, or no JSON object); it was never
    acknowledged to anyone and is left out. A folder that is absent has no events.

    Raises:
        RunFolderError: a file cannot be read, another line is damaged, or an event is of a newer
            servetune; the message names file and line.
    """
    return [event for segment in segments(folder) for event in read_segment(segment)]


def segments(folder: Path) -> list[Path]:
    """The journal's files in their order; all but the last are complete for good.

    Raises:
        RunFolderError: the folder may not be read.
    """
    try:
        found = [path for path in folder.iterdir() if _SEGMENT.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from None
    return sorted(found, key=lambda path: int(path.stem))


def read_segment(path: Path) -> Iterator[tuple[float, Event]]:
    """The events of one file; raises as `read_journal`."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise _unreadable(path, error) from None
    complete = lines[:-1]  # what follows the last newline is empty or torn
    for number, line in enumerate(complete, start=1):
        parsed = _parse(line)
        if parsed is None:
            if number == len(complete) and not lines[-1]:
                return
            raise RunFolderError(
                f"{path}, line {number}: the journal is damaged here ({_excerpt(line)}). "
                "Only a segment's last line may be incomplete; restore the file from a copy, or "
                "delete this line: finished trials are read from trials/ and are not lost."
            )
        at_unix_s, data = parsed
        try:
            yield at_unix_s, decode(data)
        except RunFolderError as error:
            raise RunFolderError(f"{path}, line {number}: {error}") from None


def _parse(line: bytes) -> tuple[float, Mapping[str, Json]] | None:
    """Time and content of a line; None when it is damaged."""
    try:
        data = json.loads(line)
        at_unix_s = float(data[_TIME_KEY])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return (at_unix_s, data) if math.isfinite(at_unix_s) else None


def _unreadable(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: the journal cannot be read: {error.strerror}. "
        "Restore it from a copy, or ask its owner for permission to read it."
    )


def _excerpt(line: bytes) -> str:
    text = line.decode(errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
