"""Whatever bytes come as a completion's response, a record comes out."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.completion import MAX_DETAIL_CHARACTERS, CompletionStream
from runtimes.measurement import RequestRecord

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "usage", "error", "message", "completion_tokens", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
EVENT = JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
GOOD = st.sampled_from(
    [b'data: {"choices":[{"text":" a"}]}\n\n', b"data: [DONE]\n\n", b": ping\n\n", b"data: "]
)
DEEP = st.integers(1, 3000).map(lambda depth: b'{"error":' * depth + b"1" + b"}" * depth)
PIECES = st.lists(EVENT | GOOD | st.binary(max_size=30) | DEEP, max_size=12)


def received(status: int, content_type: str, pieces: list[bytes]) -> RequestRecord:
    stream = CompletionStream()
    stream.on_sent(10)
    stream.on_head(status, content_type, 20)
    for number, piece in enumerate(pieces):
        if not stream.on_body(piece, 30 + number):
            break
    return stream.record(
        index=1, scheduled_ns=5, requested_output_tokens=3, failure=None, ended_ns=1000
    )


@given(
    status=st.sampled_from([200, 200, 200, 400, 500]),
    content_type=st.sampled_from(["text/event-stream", "text/event-stream", "text/html"]),
    pieces=PIECES,
)
def test_any_response_gives_a_record(status: int, content_type: str, pieces: list[bytes]) -> None:
    record = received(status, content_type, pieces)
    assert record.sent_ns == 10
    assert list(record.chunk_ns) == sorted(record.chunk_ns)
    assert record.end_ns >= max(record.chunk_ns, default=0)
    for count in (record.prompt_tokens, record.output_tokens):
        assert count is None or count >= 0
    if record.error is None:
        assert (status, content_type) == (200, "text/event-stream")
        assert record.chunk_ns
        assert b"data: [DONE]" in b"".join(pieces)
    else:
        assert record.error
        assert "\n" not in record.error
        assert len(record.error) < MAX_DETAIL_CHARACTERS + 50


@given(depth=st.integers(1, 5000))
def test_deeply_nested_errors_are_told_without_recursion(depth: int) -> None:
    body = b'{"error":' * depth + b'"down"' + b"}" * depth
    error = received(503, "application/json", [body]).error
    assert error == ("http 503: down" if depth <= 4 else f"http 503: {body.decode()[:200]}")


def test_the_stream_ends_with_its_last_event() -> None:
    record = received(200, "text/event-stream", [b'data: {"choices":[1]}\n\n', b"data: [DONE]\n\n"])
    assert (record.error, record.chunk_ns, record.end_ns) == (None, (30,), 31)


def test_what_was_never_sent_has_its_end_as_time_of_sending() -> None:
    record = CompletionStream().record(
        index=0, scheduled_ns=5, requested_output_tokens=3, failure="refused", ended_ns=50
    )
    assert (record.sent_ns, record.end_ns, record.error) == (50, 50, "refused")
