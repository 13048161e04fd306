"""Server-sent events, parsed as they arrive."""

from __future__ import annotations

DONE = b"[DONE]"
"""Data of the event that ends an OpenAI-style stream."""

MAX_EVENT_BYTES = 1 << 20
"""Longest line, and longest event, that is accepted; a token's event has some hundred bytes."""


class SseError(ValueError):
    """The bytes are not a stream of events that this parser accepts."""


class SseParser:
    """Turns bytes, split anywhere, into the data of events.

    After WHATWG HTML §9.2.6: lines end in LF or CRLF, a colon starts a comment, the `data` lines
    of an event are joined with LF, an event ends at an empty line, one without data is dropped,
    and one that the stream leaves unfinished is never reported. A lone CR is no line end: no
    server sends one, and it would hold every event back until the next byte shows what it was.
    """

    __slots__ = ("_data", "_max_bytes", "_size", "_tail")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that `data` completes, in order.

        Raises:
            SseError: a line or an event is longer than `max_event_bytes`. The parser is then
                of no further use.
        """
        lines = data.split(b"\n")
        rest = lines.pop()
        if self._tail and lines:
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        events: list[bytes] = []
        for line in lines:
            self._check(len(line))
            self._read_line(line.removesuffix(b"\r"), events)
        if rest:
            self._tail += rest
            self._check(len(self._tail))
        return events

    def _read_line(self, line: bytes, events: list[bytes]) -> None:
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
            self._size += len(value) + 1
            self._check(self._size)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise SseError(f"event longer than {self._max_bytes} bytes")
