"""Stages of load against bad servers: every wrong is a record, and a dead server ends the stage."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from runtimes.failure import FailureKind
from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.load.result import LoadAborted, LoadResult, LoadStalled
from runtimes.load.sse import MAX_EVENT_BYTES
from tests.runtimes.free_ports import free_port
from tests.runtimes.load_servers import (
    DONE_EVENT,
    Handler,
    Request,
    chunk,
    completion_events,
    event,
    event_stream_head,
    good,
    response,
    sending,
    serving,
    silent,
    stream,
    token_event,
    usage_event,
)
from tests.runtimes.load_stages import load_at, load_handler

pytestmark = pytest.mark.usefixtures("either_loop")


def error_of(handler: Handler, *, api_key: str | None = None) -> str | None:
    """The error that one request to `handler` is recorded with."""

    async def body() -> str | None:
        async with serving(handler) as server:
            result = await load_at(server.port, ConcurrencyLoad(1, 1), api_key=api_key)
        (record,) = result.records
        return record.error

    return asyncio.run(body())


def streaming(*events: bytes) -> Handler:
    """A handler that streams `events` and ends the stream in good order."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        await stream(writer, events)

    return handler


def endless(data: bytes, *, every_s: float = 0.0) -> Handler:
    """A handler that streams `data` for as long as anybody reads it."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(event_stream_head())
        while not writer.is_closing():
            writer.write(chunk(data))
            await writer.drain()
            await asyncio.sleep(every_s)

    return handler


NOT_A_STREAM = response(b'{"choices": []}')
BAD: dict[str, tuple[Handler, str]] = {
    "cut": (
        sending(event_stream_head() + chunk(token_event()), close=True),
        "cut stream",
    ),
    "ended without [DONE]": (streaming(token_event()), "cut stream"),
    "without end": (
        endless(token_event()),
        "more than asked for: 68 content chunks, 3 tokens were",
    ),
    "no content": (streaming(usage_event(4, 0), DONE_EVENT), "no content"),
    "malformed JSON": (streaming(token_event(), b'data: {"choices": [\n\n'), "malformed event"),
    "not UTF-8": (streaming(b'data: {"choices": ["\xff"]}\n\n'), "malformed event"),
    "no object": (streaming(b"data: 17\n\n", DONE_EVENT), "malformed event"),
    "choices of another type": (streaming(event({"choices": {}}), DONE_EVENT), "malformed event"),
    "error within": (
        streaming(token_event(), event({"error": {"message": "out of\nblocks", "code": 500}})),
        "engine error: out of blocks",
    ),
    "status 500": (sending(response(b"", status=500)), "http 500"),
    "status 400": (
        sending(response(b'{"error": {"message": "too long"}}', status=400)),
        "http 400: too long",
    ),
    "status 422": (
        sending(response(b'{"detail": [{"msg": "no"}]}', status=422)),
        'http 422: {"detail": [{"msg": "no"}]}',
    ),
    "status 502": (
        sending(response(b"<html>\nbad</html>", status=502, content_type="text/html")),
        "http 502: <html> bad</html>",
    ),
    "endless error": (
        sending(event_stream_head().replace(b"200 OK", b"500 X") + chunk(b"x" * (1 << 20))),
        "http 500: " + "x" * 200,
    ),
    "content type": (sending(NOT_A_STREAM), "wrong content type 'application/json'"),
    "no HTTP": (sending(b"\x16\x03\x01\x02\x00\r\n\r\n", close=True), "malformed response"),
    "hang up": (sending(b"", close=True), "connection lost"),
    "huge line": (
        sending(event_stream_head() + chunk(b"data: " + b"x" * 2 * MAX_EVENT_BYTES)),
        f"event longer than {MAX_EVENT_BYTES} bytes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_server_does_wrong_is_the_error_of_a_record(name: str) -> None:
    handler, expected = BAD[name]
    assert error_of(handler) == expected


def test_an_echoed_api_key_is_masked() -> None:
    handler = sending(response(b'{"message": "bad key sk-secret"}', status=401))
    assert error_of(handler, api_key="sk-secret") == "http 401: bad key ***"


def test_a_request_that_takes_too_long_is_a_timeout_and_the_next_one_is_sent() -> None:
    async def body() -> None:
        calls = itertools.count()

        async def first_silent(request: Request, writer: asyncio.StreamWriter) -> None:
            await (silent if next(calls) == 0 else good)(request, writer)

        async with serving(first_silent) as server:
            result = await load_at(server.port, ConcurrencyLoad(1, 3), timeout_s=0.5)
        assert [record.error for record in result.records] == ["timeout", None, None]

    asyncio.run(body())


def test_tokens_before_a_cut_stay_in_the_record() -> None:
    data = event_stream_head() + chunk(token_event()) + chunk(token_event())
    result, _ = asyncio.run(load_handler(sending(data, close=True), ConcurrencyLoad(1, 1)))
    (record,) = result.records
    assert record.error == "cut stream"
    assert len(record.chunk_ns) == 2
    assert record.end_ns >= record.chunk_ns[-1]


@pytest.mark.parametrize(
    ("load", "begins"),
    [(ConcurrencyLoad(3, 9), True), (PoissonLoad(50.0, 1000), False)],
    ids=["closed loop, after a first token", "open loop that goes on sending"],
)
def test_silence_of_every_request_in_flight_is_a_stall(load: Load, begins: bool) -> None:
    async def body() -> LoadStalled:
        calls = itertools.count()

        async def hanging(request: Request, writer: asyncio.StreamWriter) -> None:
            if next(calls) < 2:
                await good(request, writer)
                return
            if begins:
                writer.write(event_stream_head() + chunk(token_event()))
            await silent(request, writer)

        async with serving(hanging) as server:
            with pytest.raises(LoadStalled) as caught:
                await load_at(server.port, load, stall_s=0.5)
            return caught.value

    stalled = asyncio.run(body())
    assert stalled.failure.kind is FailureKind.HUNG
    assert "requests in flight" in stalled.failure.message
    records = stalled.result.records
    assert [record.error for record in records[:2]] == [None, None]
    assert {(record.error, len(record.chunk_ns)) for record in records[2:]} == {
        ("cancelled", int(begins))
    }


def test_one_request_that_streams_keeps_a_stage_from_stalling() -> None:
    async def body() -> None:
        calls = itertools.count()

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            if next(calls) == 0:
                await asyncio.sleep(1.2)
                await good(request, writer)
                return
            writer.write(event_stream_head())
            for data in [token_event()] * 8 + completion_events(request):
                writer.write(chunk(data))
                await asyncio.sleep(0.1)
            writer.write(chunk(b""))

        async with serving(handler) as server:
            result = await load_at(server.port, ConcurrencyLoad(2, 2), stall_s=0.8)
        assert [record.error for record in result.records] == [None, None]

    asyncio.run(body())


def test_a_server_that_is_not_there_ends_the_stage_early() -> None:
    async def body() -> LoadAborted:
        with pytest.raises(LoadAborted) as caught:
            await load_at(free_port(), ConcurrencyLoad(2, 1000))
        return caught.value

    aborted = asyncio.run(body())
    assert aborted.failure.kind is FailureKind.CRASHED
    assert "connection refused" in aborted.failure.message
    errors = {record.error for record in aborted.result.records}
    assert errors <= {"connection refused", "cancelled"}
    assert 10 <= len(aborted.result.records) < 20


def test_a_server_that_dies_under_load_ends_the_stage_with_what_was_recorded() -> None:
    async def body() -> LoadAborted:
        answered = 0
        dead = asyncio.Event()

        async def mortal(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal answered
            answered += 1
            if answered > 20:
                dead.set()
                await silent(request, writer)
            await good(request, writer)

        load = ConcurrencyLoad(4, 1000)
        async with serving(mortal) as server:
            task = asyncio.create_task(load_at(server.port, load))
            await dead.wait()
        with pytest.raises(LoadAborted) as caught:
            await task
        return caught.value

    aborted = asyncio.run(body())
    errors = [record.error for record in aborted.result.records]
    assert aborted.failure.kind is FailureKind.CRASHED
    assert errors.count(None) == 20
    assert set(errors) <= {None, "connection lost", "connection refused", "cancelled", "cut stream"}
    assert "connection refused" in errors


def test_failures_with_successes_between_do_not_end_a_stage() -> None:
    async def body() -> LoadResult:
        calls = itertools.count()

        async def flaky(request: Request, writer: asyncio.StreamWriter) -> None:
            if next(calls) % 9:
                writer.write(response(b"", status=503))
            else:
                await good(request, writer)

        async with serving(flaky) as server:
            return await load_at(server.port, ConcurrencyLoad(1, 45))

    result = asyncio.run(body())
    assert len(result.records) == 45
    assert sum(record.error is None for record in result.records) == 5


def test_all_in_flight_may_fail_at_once_without_ending_the_stage() -> None:
    async def body() -> LoadResult:
        calls = itertools.count()
        together = asyncio.Barrier(20)

        async def first_wave(request: Request, writer: asyncio.StreamWriter) -> None:
            number = next(calls)
            if number < 20:
                await together.wait()
            if number < 15:
                writer.write(response(b"", status=503))
            else:
                await good(request, writer)

        async with serving(first_wave) as server:
            return await load_at(server.port, ConcurrencyLoad(20, 40))

    result = asyncio.run(body())
    assert sum(record.error is None for record in result.records) == 25


def test_a_server_that_only_shows_that_it_lives_is_given_up_at_the_timeout() -> None:
    async def body() -> LoadResult:
        async with serving(endless(b": ping\n\n", every_s=0.01)) as server:
            return await load_at(server.port, ConcurrencyLoad(2, 2), timeout_s=0.3, stall_s=0.2)

    assert [one.error for one in asyncio.run(body()).records] == ["timeout", "timeout"]
