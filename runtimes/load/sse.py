"""Server-sent events, parsed as they arrive."""

from __future__ import annotations

DONE = b"[DONE]"
"""Data of the event that ends an OpenAI-style stream."""

MAX_EVENT_BYTES = 1 << 20
"""Longest line that is accepted, and the most that the data lines of one event have together; a
token's event has some hundred bytes."""

_LF, _CR = b"\n\r"
_BOM = b"\xef\xbb\xbf"


class SseParser:
    """Turns bytes, split anywhere, into the data of events.

    After WHATWG HTML §9.2.6: a byte order mark may stand before the first line, lines end in LF or
    CRLF, a colon starts a comment, the `data` lines of an event are joined with LF, an event ends
    at an empty line, one without data is dropped, and one that the stream leaves unfinished is
    never reported. A lone CR is no line end: no server sends one, and it would hold every event
    back until the next byte shows what it was.

    Attributes:
        error: why nothing more is read: a line or an event was longer than `max_event_bytes`;
            None so far.
    """

    __slots__ = ("_begun", "_data", "_fresh", "_max_bytes", "_size", "_tail", "error")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._fresh = False  # the first line goes the long way, for its byte order mark
        self._begun = False
        self.error: str | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that `data` completes, in order, up to an error."""
        # The usual read: one event of one line, and nothing left from before.
        size = len(data)
        if (
            self._fresh
            and data.startswith(b"data: ")
            and data.find(b"\n") == size - 2
            and data[-1] == _LF
            and data[-3] != _CR
            and size - 2 <= self._max_bytes
        ):
            return [data[6:-2]]
        return self._read(data)

    def _read(self, data: bytes) -> list[bytes]:
        events: list[bytes] = []
        if self.error is not None:
            return events
        lines = data.split(b"\n")
        rest = lines.pop()
        if self._tail and lines:
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        for line in lines:
            self._read_line(line, events)
            if self.error is not None:
                self._fresh = False
                return events
        self._tail += rest
        self._check(len(self._tail))
        self._fresh = not self._tail and not self._data
        return events

    def _read_line(self, line: bytes, events: list[bytes]) -> None:
        self._check(len(line))
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        line = line.removesuffix(b"\r")
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
                self._size = 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(line)
            self._check(self._size)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            self.error = f"event longer than {self._max_bytes} bytes"
