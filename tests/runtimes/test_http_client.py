"""The HTTP client against real servers, those that misbehave included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns

import pytest

from runtimes.load.connection import MAX_HEAD_BYTES
from runtimes.load.http import HttpClient, HttpError
from tests.runtimes.free_ports import free_port
from tests.runtimes.load_servers import (
    HOST,
    Handler,
    Request,
    chunk,
    event_stream_head,
    response,
    sending,
    serving,
    silent,
)

pytestmark = pytest.mark.usefixtures("either_loop")

TIMEOUT_S = 20.0


class Recorder:
    """Keeps what an exchange reports."""

    def __init__(self, accept: Callable[[bytes], bool] = lambda data: True) -> None:
        self.sent_ns: int | None = None
        self.head: tuple[int, str] | None = None
        self.body = b""
        self.times_ns: list[int] = []
        self._accept = accept

    def on_sent(self, at_ns: int) -> None:
        self.sent_ns = at_ns

    def on_first_byte(self, at_ns: int) -> None:
        self.times_ns.append(at_ns)

    def on_head(self, status: int, content_type: str, at_ns: int) -> None:
        assert self.head is None
        self.head = (status, content_type)
        self.times_ns.append(at_ns)

    def on_body(self, data: bytes, at_ns: int) -> bool:
        self.body += data
        self.times_ns.append(at_ns)
        return self._accept(data)


async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's method, path and body."""
    writer.write(
        response(b" ".join((request.method.encode(), request.path.encode(), request.body)))
    )


async def failure_of(handler: Handler, *, timeout_s: float = TIMEOUT_S) -> str:
    """Why a GET fails."""
    async with serving(handler) as server, HttpClient(HOST, server.port) as client:
        with pytest.raises(HttpError) as caught:
            await client.get("/", timeout_s=timeout_s)
        return caught.value.reason


def test_get_and_post_share_one_kept_connection() -> None:
    async def body() -> None:
        async with serving(echo) as server, HttpClient(HOST, server.port) as client:
            got = await client.get("/health", timeout_s=TIMEOUT_S)
            posted = await client.post("/v1/x", b'{"a":1}', timeout_s=TIMEOUT_S)
            assert (got.status, got.body) == (200, b"GET /health ")
            assert (posted.status, posted.body) == (200, b'POST /v1/x {"a":1}')
            assert server.connections == client.connections_opened == 1
            first, second = server.requests
            assert first.headers["host"] == f"{HOST}:{server.port}"
            assert "authorization" not in first.headers
            assert second.headers["content-type"] == "application/json"

    asyncio.run(body())


def test_the_api_key_is_sent_and_masked() -> None:
    async def body() -> None:
        async with (
            serving(echo) as server,
            HttpClient(HOST, server.port, api_key="sk-secret") as client,
        ):
            await client.get("/", timeout_s=TIMEOUT_S)
            assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
            assert client.mask("no such key: sk-secret") == "no such key: ***"

    asyncio.run(body())


def test_connections_are_opened_ahead_and_each_serves_one_exchange_at_a_time() -> None:
    async def body() -> None:
        together = asyncio.Barrier(3)

        async def meet(request: Request, writer: asyncio.StreamWriter) -> None:
            await together.wait()
            writer.write(response(b"ok"))

        async with serving(meet) as server, HttpClient(HOST, server.port) as client:
            await client.open(3)
            assert client.connections_opened == 3
            await client.open(2)
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(client.get("/", timeout_s=TIMEOUT_S))
            assert server.connections == client.connections_opened == 3

    asyncio.run(body())


def test_a_connection_that_idled_too_long_is_replaced() -> None:
    async def body() -> None:
        async with (
            serving(echo) as server,
            HttpClient(HOST, server.port, reuse_within_s=0.05) as client,
        ):
            await client.get("/", timeout_s=TIMEOUT_S)
            await asyncio.sleep(0.1)
            await client.get("/", timeout_s=TIMEOUT_S)
            assert client.connections_opened == 2

    asyncio.run(body())


def test_opening_closes_the_connections_that_it_replaces() -> None:
    async def body() -> None:
        async with (
            serving(echo) as server,
            HttpClient(HOST, server.port, reuse_within_s=0.05) as client,
        ):
            await client.open(4)
            await asyncio.gather(*(client.get("/", timeout_s=TIMEOUT_S) for _ in range(4)))
            first = set(server.tasks)
            await asyncio.sleep(0.1)
            await client.open(4)
            _, left = await asyncio.wait(first, timeout=TIMEOUT_S)
            assert not left
            assert (len(first), client.connections_opened) == (4, 8)

    asyncio.run(body())


def test_connections_closed_by_the_server_are_replaced() -> None:
    async def body() -> None:
        handler = sending(response(b"ok"), close=True)
        async with serving(handler) as server, HttpClient(HOST, server.port) as client:
            for _ in range(3):
                assert (await client.get("/", timeout_s=TIMEOUT_S)).body == b"ok"
                await asyncio.sleep(0.02)
            assert server.connections == 3

    asyncio.run(body())


def test_connection_close_is_obeyed() -> None:
    async def body() -> None:
        handler = sending(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
        async with serving(handler) as server, HttpClient(HOST, server.port) as client:
            for _ in range(2):
                assert (await client.get("/", timeout_s=TIMEOUT_S)).body == b"ok"
            assert server.connections == 2

    asyncio.run(body())


@pytest.mark.parametrize(
    ("sent", "close", "status", "expected"),
    [
        (response(b"why", status=503), False, 503, b"why"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, 204, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"ok"), False, 200, b"ok"),
        (event_stream_head() + chunk(b"ab") + chunk(b"c") + chunk(b""), False, 200, b"abc"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", True, 200, b"to the end"),
    ],
    ids=["error status", "no body", "interim response", "chunked", "ended by closing"],
)
def test_framing(sent: bytes, close: bool, status: int, expected: bytes) -> None:
    async def body() -> None:
        async with (
            serving(sending(sent, close=close)) as server,
            HttpClient(HOST, server.port) as client,
        ):
            answer = await client.get("/", timeout_s=TIMEOUT_S)
            assert (answer.status, answer.body) == (status, expected)

    asyncio.run(body())


def test_a_response_split_at_every_byte_is_read() -> None:
    async def trickle(request: Request, writer: asyncio.StreamWriter) -> None:
        data = event_stream_head() + chunk(b"data: a\n\n") + chunk(b"data: b\n\n") + chunk(b"")
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

    async def body() -> None:
        async with serving(trickle) as server, HttpClient(HOST, server.port) as client:
            recorder = Recorder()
            request = client.post_request("/", b"{}")
            await client.stream(request, recorder, timeout_s=TIMEOUT_S)
            assert recorder.head == (200, "text/event-stream")
            assert recorder.body == b"data: a\n\ndata: b\n\n"
            assert recorder.sent_ns is not None
            assert recorder.sent_ns <= recorder.times_ns[0]
            assert recorder.times_ns == sorted(recorder.times_ns)
            assert recorder.times_ns[-1] <= perf_counter_ns()

    asyncio.run(body())


def test_a_request_is_sent_when_the_socket_has_taken_its_last_byte() -> None:
    async def body() -> None:
        may_read = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await may_read.wait()
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.write(response(b"ok"))
            writer.close()
            await writer.wait_closed()

        listening = await asyncio.start_server(slow, HOST, 0)
        async with listening, HttpClient(HOST, listening.sockets[0].getsockname()[1]) as client:
            recorder = Recorder()
            request = client.post_request("/", b" " * (32 << 20))
            task = asyncio.create_task(client.stream(request, recorder, timeout_s=TIMEOUT_S))
            await asyncio.sleep(0.1)
            assert recorder.sent_ns is None
            released_ns = perf_counter_ns()
            may_read.set()
            await task
            assert recorder.sent_ns is not None
            assert recorder.sent_ns > released_ns

    asyncio.run(body())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "connection lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "connection lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "cut stream"),
        (event_stream_head() + chunk(b"data: a\n\n"), "cut stream"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed response"),
        (event_stream_head() + b"zz\r\n", "malformed response"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2 * MAX_HEAD_BYTES, "malformed response"),
    ],
    ids=[
        "nothing",
        "half a head",
        "short body",
        "no last chunk",
        "no HTTP",
        "chunk size",
        "upgrade",
        "endless head",
    ],
)
def test_bad_responses_fail_with_a_reason(sent: bytes, reason: str) -> None:
    found = asyncio.run(failure_of(sending(sent, close=True)))
    assert found == (reason or "malformed response")


def test_silence_is_a_timeout() -> None:
    assert asyncio.run(failure_of(silent, timeout_s=0.1)) == "timeout"


def test_a_refused_connection_is_told_for_a_name_with_several_addresses_too() -> None:
    async def body(host: str) -> None:
        async with HttpClient(host, free_port()) as client:
            with pytest.raises(HttpError, match=r"^connection refused$"):
                await client.get("/", timeout_s=TIMEOUT_S)
            with pytest.raises(HttpError, match=r"^connection refused$"):
                await client.open(1)

    asyncio.run(body(HOST))
    asyncio.run(body("localhost"))


def test_an_unknown_host_is_told() -> None:
    async def body() -> None:
        async with HttpClient("no-such-host.invalid", 80) as client:
            with pytest.raises(HttpError, match=r"^cannot resolve host"):
                await client.get("/", timeout_s=TIMEOUT_S)

    asyncio.run(body())


def test_a_receiver_that_gives_up_closes_the_connection() -> None:
    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(event_stream_head())
        while True:
            writer.write(chunk(b"data: x\n\n"))
            await writer.drain()

    async def body() -> None:
        async with serving(endless) as server, HttpClient(HOST, server.port) as client:
            recorder = Recorder(accept=lambda data: False)
            request = client.post_request("/", b"{}")
            with pytest.raises(HttpError, match=r"^rejected$"):
                await client.stream(request, recorder, timeout_s=TIMEOUT_S)
            assert recorder.body == b"data: x\n\n"

    asyncio.run(body())


def test_a_second_response_nobody_asked_for_ends_the_connection() -> None:
    async def body() -> None:
        handler = sending(response(b"one") + response(b"two"))
        async with serving(handler) as server, HttpClient(HOST, server.port) as client:
            for _ in range(2):
                assert (await client.get("/", timeout_s=TIMEOUT_S)).body == b"one"
            assert server.connections == 2

    asyncio.run(body())


def test_cancelling_an_exchange_closes_its_connection_only() -> None:
    async def body() -> None:
        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            await (silent if request.path == "/silent" else echo)(request, writer)

        async with serving(handler) as server, HttpClient(HOST, server.port) as client:
            await client.open(2)
            task = asyncio.create_task(client.get("/silent", timeout_s=TIMEOUT_S))
            await server.has_seen(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.get("/", timeout_s=TIMEOUT_S)).status == 200
            assert client.connections_opened == 2

    asyncio.run(body())


def test_giving_up_fails_what_is_still_connecting() -> None:
    async def run() -> None:
        async with serving(echo) as server, HttpClient(HOST, server.port) as client:
            ends: asyncio.Queue[str | None] = asyncio.Queue()
            request = client.post_request("/", b"")
            client.begin(request, Recorder(), ends.put_nowait, timeout_s=TIMEOUT_S)
            await asyncio.sleep(0)
            client.give_up()
            assert await ends.get() == "connection lost"
            assert not server.requests

    asyncio.run(run())


def test_closing_twice_is_fine_and_ends_what_runs() -> None:
    async def body() -> None:
        async with serving(silent) as server:
            client = HttpClient(HOST, server.port)
            await client.open(2)
            task = asyncio.create_task(client.get("/", timeout_s=TIMEOUT_S))
            await server.has_seen(1)
            await client.close()
            await client.close()
            with pytest.raises(HttpError, match=r"^connection lost$"):
                await task
            with pytest.raises(HttpError, match=r"^client closed$"):
                await client.get("/", timeout_s=TIMEOUT_S)

    asyncio.run(body())


def test_proxies_of_the_environment_do_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setenv("http_proxy", f"http://{HOST}:{free_port()}")
        async with serving(echo) as server, HttpClient(HOST, server.port) as client:
            assert (await client.get("/", timeout_s=TIMEOUT_S)).status == 200

    asyncio.run(body())
