"""What a record says of a response, rule by rule; whole responses are in `test_streams.py`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load import completion
from runtimes.load.completion import MAX_TEXT_CHARACTERS, CompletionStream
from runtimes.load.job import Api
from runtimes.measurement import RequestRecord
from tests.runtimes.stream_reading import REQUEST

EVENT_STREAM = "text/event-stream"


def event(choice: object, completion_tokens: int | None = None) -> bytes:
    """An event with one choice, and a usage where tokens are given."""
    data: dict[str, object] = {"choices": [choice]}
    if completion_tokens is not None:
        data["usage"] = {"prompt_tokens": 3, "completion_tokens": completion_tokens}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def delta(**fields: object) -> dict[str, object]:
    return {"index": 0, "delta": fields, "finish_reason": None}


def usage(completion_tokens: object, prompt_tokens: object = 3, cached: object = None) -> bytes:
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def received(
    *pieces: bytes,
    api: Api = Api.COMPLETIONS,
    status: int = 200,
    asked_tokens: int | None = None,
    keep_text: bool = False,
) -> RequestRecord:
    """The record of a response whose head comes at 20 ns and whose pieces at 30, 31, …."""
    stream = CompletionStream(api, asked_tokens=asked_tokens, keep_text=keep_text)
    stream.on_sent(10)
    stream.on_first_byte(15)
    stream.on_head(status, EVENT_STREAM, 20)
    for number, piece in enumerate(pieces):
        if not stream.on_body(piece, 30 + number):
            break
    return stream.record(request=REQUEST, scheduled_ns=5, failure=None, ended_ns=1000)


def test_the_stream_ends_with_its_last_event() -> None:
    record = received(event({"text": "a"}), DONE)
    assert (record.error, list(record.chunk_ns), record.end_ns) == (None, [30], 31)
    assert (record.scheduled_ns, record.sent_ns, record.first_byte_ns) == (5, 10, 15)


def test_what_was_never_sent_has_its_end_as_time_of_sending() -> None:
    record = CompletionStream().record(
        request=REQUEST, scheduled_ns=5, failure="refused", ended_ns=50
    )
    assert (record.sent_ns, record.end_ns, record.error) == (50, 50, "refused")
    assert record.first_byte_ns is None


@pytest.mark.parametrize(
    ("choice", "counts"),
    [
        (delta(content="a"), True),
        (delta(role="assistant", content="a"), True),
        (delta(content=""), True),
        (delta(role=None, content=""), True),
        (delta(content="", reasoning_content=""), True),
        (delta(content=None, reasoning_content="hm"), True),
        (delta(reasoning="hm"), True),
        (delta(tool_calls=[{"index": 0}]), True),
        (delta(refusal="no"), True),
        (delta(role="assistant", content=""), False),
        (delta(role="assistant", content=None), False),
        (delta(role="assistant"), False),
        (delta(reasoning_content=None), False),
        (delta(tool_calls=[], content=None), False),
        (delta(), False),
        ({"index": 0, "delta": {}, "finish_reason": "stop"}, False),
        ({"index": 0, "delta": None}, False),
        ({"index": 0}, False),
    ],
    ids=str,
)
def test_what_of_a_chat_is_content(choice: object, counts: bool) -> None:
    record = received(event(delta(content="a")), event(choice), DONE, api=Api.CHAT)
    assert list(record.chunk_ns) == ([30, 31] if counts else [30])
    assert record.error is None


@pytest.mark.parametrize(
    ("tokens", "chunks"),
    [(2, [30, 31]), (3, [30, 31, 32]), (7, [30, 31, 32]), (None, [30, 31, 32])],
)
def test_an_empty_closing_chunk_counts_unless_the_tokens_are_out(
    tokens: int | None, chunks: list[int]
) -> None:
    closing = event({"text": "", "finish_reason": "length"})
    ends = [DONE] if tokens is None else [usage(tokens), DONE]
    record = received(event({"text": "a"}), event({"text": ""}), closing, *ends)
    assert list(record.chunk_ns) == chunks


def test_usage_in_every_chunk_gives_the_tokens_of_each() -> None:
    record = received(
        event(delta(role="assistant", content=""), 0),
        event(delta(content="a"), 1),
        event(delta(content=""), 1),  # no token: no content
        event(delta(content="b c"), 4),
        event(delta(reasoning="d"), 4),  # the same step's other text
        event({"delta": {"content": ""}, "finish_reason": "length"}, 5),
        usage(5),
        DONE,
        api=Api.CHAT,
    )
    assert list(record.chunk_ns) == [31, 33, 34, 35]
    assert record.chunk_tokens is not None
    assert list(record.chunk_tokens) == [1, 3, 0, 1]


def test_tokens_of_chunks_are_not_known_from_some_of_them() -> None:
    for tokens in ((1, None), (None, 2), (2, 1)):
        record = received(*(event({"text": "a"}, count) for count in tokens), DONE)
        assert record.chunk_tokens is None
        assert len(record.chunk_ns) == 2


@pytest.mark.parametrize(
    "counts",
    [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 2), (4, 4, 4, 4), (1, 2, 3, 5)],
    ids=["none", "one", "half", "all at once", "beyond the total"],
)
def test_counts_in_chunks_that_do_not_run_are_not_believed(counts: tuple[int, ...]) -> None:
    chunks = [event({"text": "a"}, count) for count in counts]
    record = received(*chunks, usage(4), DONE)
    assert (len(record.chunk_ns), record.output_tokens, record.chunk_tokens) == (4, 4, None)


@pytest.mark.parametrize("closing", [{"text": "", "finish_reason": "length"}, None])
def test_what_only_keeps_a_connection_alive_is_no_content(closing: object) -> None:
    """Empty chunks before the first token; the closing chunk holds a token, or there is none."""
    alive = [event({"text": ""})] * 3
    chunks = [event({"text": word}) for word in "abc"]
    closed = [event(closing)] if closing else []
    record = received(*alive, *chunks, *closed, usage(3 + len(closed)), DONE)
    assert list(record.chunk_ns) == [33 + place for place in range(3 + len(closed))]


def test_an_empty_chunk_behind_the_role_is_no_content() -> None:
    chunks = [delta(role="assistant"), delta(content=""), delta(content="a"), delta(content="b")]
    record = received(*map(event, chunks), usage(2), DONE, api=Api.CHAT)
    assert list(record.chunk_ns) == [32, 33]


def test_a_first_token_without_text_counts() -> None:
    record = received(event({"text": ""}), event({"text": "a"}), usage(2), DONE)
    assert list(record.chunk_ns) == [30, 31]


@pytest.mark.parametrize("reason", ["abort", "content_filter", "error"])
@pytest.mark.parametrize("api", list(Api))
def test_an_answer_that_was_cut_short_is_none(reason: str, api: Api) -> None:
    text = {"text": "a"} if api is Api.COMPLETIONS else {"delta": {"content": "a"}}
    closing = event({**text, "finish_reason": reason})
    record = received(event(text), closing, usage(2), DONE, api=api)
    assert record.error == f"ended early: {reason}"


@pytest.mark.parametrize("reason", ["length", "stop", "tool_calls", "repetition", "eos_token"])
def test_an_answer_that_the_model_ended_is_complete(reason: str) -> None:
    closing = event({"text": "b", "finish_reason": reason})
    record = received(event({"text": "a"}), closing, usage(2), DONE)
    assert (record.error, len(record.chunk_ns)) == (None, 2)


def test_an_answer_to_what_was_not_sent_yet_is_none() -> None:
    stream = CompletionStream()
    stream.on_first_byte(15)
    stream.on_head(200, EVENT_STREAM, 20)
    stream.on_body(event({"text": "a"}) + usage(1) + DONE, 30)
    stream.on_sent(40)
    record = stream.record(request=REQUEST, scheduled_ns=5, failure=None, ended_ns=1000)
    assert record.error == "answered before the request was sent"


def test_the_last_usage_decides() -> None:
    record = received(event({"text": "a"}, 1), usage(9), usage(8, 3, 2), DONE)
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (3, 8, 2)
    for wrong in (-1, True, 1.0, "1", None, [1], 1 << 31, 1 << 63):
        record = received(event({"text": "a"}, 1), usage(wrong, wrong, wrong), DONE)
        assert record.error is None
        assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (None,) * 3


def test_text_is_kept_on_request_only_and_bounded() -> None:
    pieces = [event({"text": "ab"}), event({"text": "c" * MAX_TEXT_CHARACTERS}), DONE]
    assert received(*pieces).text == ""
    kept = received(*pieces, event({"text": "d"}), keep_text=True).text
    assert kept == "ab" + "c" * (MAX_TEXT_CHARACTERS - 2)


def test_a_stream_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "MAX_CHUNKS", 100)
    record = received(event({"text": "a"}) * 150, DONE)
    assert record.error == "more than 100 content chunks"
    assert len(record.chunk_ns) == 101


@pytest.mark.parametrize(("asked", "most"), [(8, 72), (64, 128), (100, 200)])
def test_a_stream_far_beyond_what_was_asked_for_is_cut(asked: int, most: int) -> None:
    chunks = event({"text": "a"})
    assert received(chunks * most, DONE, asked_tokens=asked).error is None
    record = received(*[chunks] * (most + 9), DONE, asked_tokens=asked)
    found = most + 1
    assert record.error == f"more than asked for: {found} content chunks, {asked} tokens were"
    assert len(record.chunk_ns) == found
    counted = received(chunks, usage(most), DONE, asked_tokens=asked)
    assert counted.error is None
    counted = received(chunks, usage(found), DONE, asked_tokens=asked)
    assert counted.error == f"more than asked for: {found} tokens, {asked} tokens were"


def test_a_long_explanation_is_cut() -> None:
    body = b'{"message": "' + b"x" * (1 << 17) + b'"}'
    whole = received(body, status=500)
    assert whole.error is not None
    assert whole.error.startswith('http 500: {"message": "xxx')
    assert len(whole.error) < 250
    assert received(*(body[at : at + 999] for at in range(0, len(body), 999)), status=500) == whole


@given(depth=st.integers(1, 5000))
def test_deeply_nested_errors_are_told_without_recursion(depth: int) -> None:
    body = b'{"error":' * depth + b'"down"' + b"}" * depth
    error = received(body, status=503).error
    assert error == ("http 503: down" if depth <= 4 else f"http 503: {body.decode()[:200]}")
