"""Whatever bytes a server sends, however they are cut: one sound record, in bounded memory."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.completion import CompletionStream
from runtimes.load.connection import LONGEST_FAST_CHUNK, Connection
from runtimes.load.job import Api
from tests.runtimes.stream_reading import REQUEST, Wire, check, read, streamed
from tests.runtimes.test_streams import STREAMS, Stream

KEYS = ["choices", "usage", "error", "delta", "text", "content", "role", "completion_tokens", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
EVENTS = st.lists(
    JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
    | st.sampled_from(
        [b'data: {"choices":[{"text":" a"}]}\n\n', b"data: [DONE]\n\n", b": ping\n\n", b"data: "]
    )
    | st.binary(max_size=30)
    | st.integers(1, 3000).map(lambda depth: b'data: {"error":' * depth + b"1" + b"}" * depth),
    max_size=12,
).map(b"".join)
CUTS = st.lists(st.integers(0, 3000), max_size=6)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@given(body=EVENTS, cuts=CUTS, api=st.sampled_from(Api))
def test_any_events_give_one_record(body: bytes, cuts: list[int], api: Api) -> None:
    async def run() -> None:
        check(streamed(body), cuts, api)

    asyncio.run(run())


@given(
    stream=st.sampled_from(STREAMS),
    put=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 9), st.binary(max_size=4))),
    cuts=CUTS,
)
def test_any_damage_to_a_response_gives_one_record(
    stream: Stream, put: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = stream.response
    for at, length, replacement in put:
        data = data[:at] + replacement + data[at + length :]

    async def run() -> None:
        check(data, cuts, stream.api)

    asyncio.run(run())


def endless(start: bytes, more: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield more


@pytest.mark.parametrize(
    ("start", "more", "error"),
    [
        (HEAD + b"5f5e100\r\ndata: ", b"x" * 65536, "event longer than 1048576 bytes"),
        (HEAD + b"5f5e100\r\n", b"data: x\n" * 8192, "event longer than 1048576 bytes"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"x" * 65536, "malformed response"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 8192, "malformed response"),
        (b"HTTP/1.1 " + b"2", b"0" * 65536, "malformed response"),
        (HEAD + b"1;a=", b"x" * 65536, "malformed response"),
        (HEAD + b"0\r\nx: ", b"x" * 65536, "malformed response"),
        (HEAD + b"0\r\n", b"x: y\r\n" * 8192, "malformed response"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" * 1024, "malformed response"),
        (b"HTTP/1.1 500 X\r\n\r\n", b" " * 65536, "http 500: "),
    ],
    ids=[
        "line of 100 MB",
        "event of 100 MB in short lines",
        "header",
        "headers",
        "status",
        "chunk extension",
        "trailer",
        "trailers",
        "interim responses",
        "explanation",
    ],
)
def test_what_has_no_end_is_given_up_in_bounded_memory(
    start: bytes, more: bytes, error: str
) -> None:
    async def run() -> tuple[str | None, int]:
        ends: list[str | None] = []
        connection, wire, stream = Connection(set()), Wire(), CompletionStream()
        connection.connection_made(wire)
        connection.start(b"request", stream, ends.append)
        tracemalloc.start()
        try:
            for number, piece in enumerate(endless(start, more)):
                connection.data_received(piece)
                if ends:
                    break
                assert number < 40, "2.5 MB were read"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert wire.closed
        record = stream.record(request=REQUEST, scheduled_ns=1, failure=ends[0], ended_ns=2)
        return record.error, peak

    found, peak = asyncio.run(run())
    assert found == error
    assert peak < 8 << 20


def test_chunks_of_every_size_are_read_alike_whole_and_cut() -> None:
    """Around the sizes at which the size line gets longer, and where the fast path ends."""
    sizes = [*range(60, 68), *range(250, 262), *range(LONGEST_FAST_CHUNK - 9, LONGEST_FAST_CHUNK)]

    async def run() -> None:
        for size in (*sizes, LONGEST_FAST_CHUNK, LONGEST_FAST_CHUNK + 1, 70_000):
            text = b"x" * (size - len(b'data: {"choices":[{"text":""}]}\n\n'))
            event = b'data: {"choices":[{"text":"%s"}]}\n\n' % text
            assert len(event) == size
            data = streamed(event * 2 + b"data: [DONE]\n\n")
            reading = check(data, [100, 101, size + 100], Api.COMPLETIONS)
            assert reading.outcome["error"] is None
            assert reading.outcome["text"] == (text * 2).decode()[: 1 << 16]

    asyncio.run(run())


EVENT = b'data: {"choices":[{"text":"a"}]}\n\n'
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
ALIKE = b"%x\r\n%s\r\n" % (len(EVENT) - 1, EVENT[:-1])
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "error", "chunks"),
    [
        ([CHUNK, CHUNK.replace(b"%x" % len(EVENT), b"%X" % len(EVENT))], None, 2),
        ([CHUNK, b"1\r\nd\r\n%x\r\n%s\r\n" % (len(EVENT) - 1, EVENT[1:])], None, 2),
        ([CHUNK + CHUNK[:1], CHUNK[1:]], None, 2),
        ([CHUNK + CHUNK[:2], CHUNK[2:]], None, 2),
        ([CHUNK + CHUNK[:3], CHUNK[3:]], None, 2),
        ([CHUNK + CHUNK[:4], CHUNK[4:]], None, 2),
        ([CHUNK[:-1], CHUNK[-1:] + CHUNK], None, 2),
        ([CHUNK, b"%x\r\n%s\r\n" % (len(EVENT) + 1, EVENT)], "malformed response", 2),
        ([CHUNK, b"%x\r\n%s\r\n" % (len(EVENT) - 1, EVENT)], "malformed response", 1),
        ([CHUNK, CHUNK[:-2] + b"\n\n"], "malformed response", 2),
        ([CHUNK, CHUNK[:-1] + b" "], "malformed response", 2),
        # Data that looks like a chunk, read by itself: behind data that ends in CRLF, …
        ([CHUNK, b"%x\r\n:\r\n" % (len(ALIKE) + 3), ALIKE, b"\r\n", CHUNK], None, 3),
        # … and behind the first digit of the size line.
        ([CHUNK + b"1", b"1\r\n:\r\n", b":" * 13 + b"\n\r\n", CHUNK], None, 2),
    ],
)
def test_a_read_that_looks_like_one_whole_chunk_is_read_as_what_it_is(
    pieces: list[bytes], error: str | None, chunks: int
) -> None:
    async def run() -> None:
        cut_up = read([HEAD, *pieces, LAST], Api.COMPLETIONS)
        whole = read([HEAD + b"".join(pieces) + LAST], Api.COMPLETIONS)
        assert (cut_up.outcome, cut_up.failure) == (whole.outcome, whole.failure)
        assert (cut_up.outcome["error"], cut_up.outcome["chunks"]) == (error, chunks)

    asyncio.run(run())
