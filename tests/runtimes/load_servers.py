"""Small HTTP servers, good and bad, that tests of the load speak to over real sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from runtimes.json_types import Json

HOST = "127.0.0.1"
_TURNS = 10
DONE_EVENT = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Json]:
        """The body as the JSON object it is."""
        parsed: dict[str, Json] = json.loads(self.body)
        return parsed


Handler: TypeAlias = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A listening server and what it has seen."""

    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def has_seen(self, count: int) -> None:
        """Return when `count` requests have come in."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= count)


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve `handler` on a free port: called once a request, closes the connection to end it."""
    server = Server()
    tasks = server.tasks

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            while not writer.is_closing():
                request = await read_request(reader)
                async with server.changed:
                    server.requests.append(request)
                    server.changed.notify_all()
                await handler(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.transport.abort()
            tasks.discard(task)

    listening = await asyncio.start_server(connected, HOST, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for _ in range(_TURNS):  # a connection just taken is nobody's until its task has begun
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await listening.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The next request of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


def response(body: bytes, *, status: int = 200, content_type: str = "application/json") -> bytes:
    """A whole response of known length."""
    return (
        f"HTTP/1.1 {status} Words\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )


def event_stream_head(content_type: str = "text/event-stream; charset=utf-8") -> bytes:
    """The head of a chunked response."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; of no data, the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(payload: Json) -> bytes:
    """A server-sent event with JSON data."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def token_event(text: str = " a", *, last: bool = False) -> bytes:
    """The event of one token, as vLLM's `/v1/completions` sends it."""
    choice: Json = {"index": 0, "text": text, "finish_reason": "length" if last else None}
    return event({"object": "text_completion", "choices": [choice]})


def usage_event(prompt_tokens: int, completion_tokens: int) -> bytes:
    """The event that carries token counts and no choice."""
    usage: Json = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return event({"object": "text_completion", "choices": [], "usage": usage})


def completion_events(request: Request) -> list[bytes]:
    """Everything a good server sends for `request`, one token an event."""
    body = request.json()
    prompt, count = body["prompt"], body["max_tokens"]
    assert isinstance(prompt, list)
    assert isinstance(count, int)
    tokens = [token_event(last=number == count - 1) for number in range(count)]
    return [*tokens, usage_event(len(prompt), count), DONE_EVENT]


async def good(request: Request, writer: asyncio.StreamWriter) -> None:
    """Answer a completion as it should be."""
    await stream(writer, completion_events(request))


async def stream(writer: asyncio.StreamWriter, events: Iterable[bytes]) -> None:
    """Send an event stream, one write and one turn of the loop an event, and end it."""
    writer.write(event_stream_head())
    for data in events:
        writer.write(chunk(data))
        await asyncio.sleep(0)
    writer.write(chunk(b""))
    await writer.drain()


def sending(data: bytes, *, close: bool = False) -> Handler:
    """A handler that answers every request with exactly `data`."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return handler


async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()
