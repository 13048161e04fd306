"""The event parser: every split of every stream gives the same events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.sse import DONE, SseParser

STREAMS = {
    "vllm": (
        b'data: {"choices":[{"text":" a"}]}\n\ndata: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n',
        [b'{"choices":[{"text":" a"}]}', b'{"choices":[],"usage":{}}', DONE],
    ),
    "crlf": (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
    "mixed line ends": (b"data: one\n\r\ndata: two\r\n\n", [b"one", b"two"]),
    "comments and pings": (b": ping\n\ndata: one\n: within\n\n:\n\n", [b"one"]),
    "several data lines": (b"data: {\ndata:  1\ndata\ndata: }\n\n", [b"{\n 1\n\n}"]),
    "no space after the colon": (b"data:one\n\n", [b"one"]),
    "other fields": (b"event: token\nid: 7\nretry: 10\ndata: one\n\nevent: x\n\n", [b"one"]),
    "field names that only begin alike": (b"database: x\ndata: one\n\n", [b"one"]),
    "colons in the data": (b"data: a: b\n\n", [b"a: b"]),
    "empty data": (b"data:\n\n", [b""]),
    "byte order mark": (b"\xef\xbb\xbfdata: one\n\ndata: two\n\n", [b"one", b"two"]),
    "byte order mark further on": (b"data: one\n\n\xef\xbb\xbfdata: two\n\n", [b"one"]),
    "carriage return within a line": (b"data: a\rb\n\n", [b"a\rb"]),
    "unfinished event": (b"data: one\n\ndata: two\n", [b"one"]),
    "utf-8": ("data: Grüße 🙂\n\n".encode(), ["Grüße 🙂".encode()]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_in_two_and_every_step_gives_the_same_events(name: str) -> None:
    data, expected = STREAMS[name]
    assert SseParser().feed(data) == expected
    for at in range(len(data) + 1):
        parser = SseParser()
        assert parser.feed(data[:at]) + parser.feed(data[at:]) == expected
    for step in range(1, len(data)):
        parser = SseParser()
        parts = [data[start : start + step] for start in range(0, len(data), step)]
        assert [event for part in parts for event in parser.feed(part)] == expected


LINE_TEXT = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))


@given(
    events=st.lists(st.lists(LINE_TEXT, min_size=1, max_size=4), max_size=8),
    ends=st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=1),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_what_was_written_is_read_back(
    events: list[list[bytes]], ends: list[bytes], cuts: list[int]
) -> None:
    lines = [line for event in events for line in (*(b"data: " + part for part in event), b"")]
    data = b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parser = SseParser()
    read = [event for start, end in pairwise(edges) for event in parser.feed(data[start:end])]
    assert read == [b"\n".join(event) for event in events]


STREAM_PIECES = st.sampled_from([b"data", b": ", b"\n", b"\r", b"x" * 15, b":", b"", b"\xff\x00"])


@given(parts=st.lists(STREAM_PIECES | st.binary(max_size=64), max_size=24))
def test_any_bytes_are_read_or_refused_alike_however_they_are_split(parts: list[bytes]) -> None:
    def read(pieces: list[bytes]) -> tuple[list[bytes], str | None]:
        parser = SseParser(max_event_bytes=48)
        return [event for piece in pieces for event in parser.feed(piece)], parser.error

    assert read(parts) == read([b"".join(parts)])


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "open"])
def test_a_line_over_the_bound_is_refused(ended: bool) -> None:
    parser = SseParser(max_event_bytes=1000)
    assert parser.feed(b"data: one\n\ndata: " + b"x" * 900) == [b"one"]
    assert parser.error is None
    assert parser.feed(b"x" * 200 + (b"\n\n" if ended else b"")) == []
    assert parser.error == "event longer than 1000 bytes"
    assert parser.feed(b"data: two\n\n") == []


def test_a_whole_event_over_the_bound_is_refused() -> None:
    parser = SseParser(max_event_bytes=1000)
    assert parser.feed(b"data: %s\n\n" % (b"x" * 1000)) == []
    assert parser.error == "event longer than 1000 bytes"


def test_an_event_of_many_short_lines_over_the_bound_is_refused() -> None:
    parser = SseParser(max_event_bytes=1000)
    assert parser.feed(b"data: one\n\n" + b"data: xxxxxxxxx\n" * 200) == [b"one"]
    assert parser.error == "event longer than 1000 bytes"


def test_a_line_of_exactly_the_bound_is_read() -> None:
    data = b"data: 0123456789\n\n"
    for at in range(len(data)):
        parser = SseParser(max_event_bytes=16)
        assert parser.feed(data[:at]) + parser.feed(data[at:]) == [b"0123456789"]
