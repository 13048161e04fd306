"""A server's bytes, cut anywhere, given to a real connection that reads them into a record.

Needs a running event loop, but never waits on it: a fuzzer may call it a million times from one
coroutine. What stands in is the socket alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from runtimes.load.completion import MAX_DETAIL_CHARACTERS, CompletionStream
from runtimes.load.connection import Connection
from runtimes.load.job import Api
from runtimes.load.shares import PlannedRequest
from runtimes.measurement import RequestRecord

REQUEST = PlannedRequest(
    index=7,
    body=b"{}",
    requested_output_tokens=5,
    sent_tokens=3,
    shared_tokens=2,
    session=4,
    turn=1,
)


class Wire(asyncio.Transport):
    """A transport whose socket takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: object) -> None:
        assert data == b"request"

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one response gave.

    Attributes:
        failure: why the exchange did not end in a complete response; None when it did.
        chunks_after: content chunks seen after each piece that was read.
    """

    record: RequestRecord
    failure: str | None
    chunks_after: tuple[int, ...]

    @property
    def outcome(self) -> dict[str, object]:
        """The record without what depends on when the pieces came."""
        record = self.record
        tokens = record.chunk_tokens
        return {
            "error": record.error,
            "chunks": len(record.chunk_ns),
            "chunk_tokens": None if tokens is None else list(tokens),
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "cached_tokens": record.cached_tokens,
            "text": record.text,
        }


def read(pieces: Sequence[bytes], api: Api) -> Reading:
    """Read `pieces`, one socket read each, after which the server closes."""
    ends: list[str | None] = []
    connection, wire, stream = Connection(set()), Wire(), CompletionStream(api, keep_text=True)
    connection.connection_made(wire)
    connection.start(b"request", stream, ends.append)
    chunks_after: list[int] = []
    for piece in pieces:
        connection.data_received(piece)
        chunks_after.append(len(stream.chunk_ns))
        if wire.closed or ends:
            break
    connection.connection_lost(None)
    (failure,) = ends
    record = stream.record(request=REQUEST, scheduled_ns=1, failure=failure, ended_ns=1 << 62)
    return Reading(record, failure, tuple(chunks_after))


def streamed(body: bytes) -> bytes:
    """A response whose body is `body`, each event of it a chunk."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    events = re.findall(rb".+?\n\n|.+$", body, re.DOTALL)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """The pieces between the cuts that lie within `data`, none of them empty."""
    edges = [0, *sorted({edge for edge in at if 0 < edge < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def check(data: bytes, cuts: Sequence[int], api: Api) -> Reading:
    """Read `data` whole, cut, and chunk by chunk: the same sound record comes out each time.

    Raises:
        AssertionError: it is not.
    """
    whole = read([data] if data else [], api)
    assert read(cut(data, cuts), api).outcome == whole.outcome
    chunk_ends = [match.end() for match in re.finditer(rb"\n\r\n", data)]
    assert read(cut(data, chunk_ends), api).outcome == whole.outcome
    record = whole.record
    times_ns = [record.sent_ns, *record.chunk_ns, record.end_ns]
    assert times_ns == sorted(times_ns)
    assert (record.first_byte_ns is None) == (not data)
    for count in (record.prompt_tokens, record.output_tokens, record.cached_tokens):
        assert count is None or 0 <= count < 1 << 31
    if record.chunk_tokens is not None:
        assert len(record.chunk_tokens) == len(record.chunk_ns)
        assert all(tokens >= 0 for tokens in record.chunk_tokens)
    if record.error is None:
        assert record.chunk_ns
    else:
        assert record.error
        assert record.error.isprintable()
        assert len(record.error) < MAX_DETAIL_CHARACTERS + 50
    return whole
