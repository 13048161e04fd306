"""The ASGI application without a socket: what it sends when its client reads slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, MutableMapping

from runtimes.hardware import find_accelerator
from runtimes.model import find_model
from runtimes.simulator.arguments import parse_engine
from runtimes.simulator.resolve import resolve
from runtimes.simulator.server import Application

MODEL = "meta-llama/Llama-3.2-1B"
Message = MutableMapping[str, object]


async def _stream(output_tokens: int, *, seconds_per_send: float) -> list[bytes]:
    """Bodies sent for one streamed completion to a client that takes its time."""
    model = find_model(MODEL)
    assert model is not None
    application = Application(resolve(parse_engine([], MODEL), model, find_accelerator("H200")))
    starts: Iterator[Message] = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    fields = {"prompt": [1], "max_tokens": output_tokens, "stream": True}
    requests: list[Message] = [{"type": "http.request", "body": json.dumps(fields).encode()}]
    bodies: list[bytes] = []

    async def lifespan() -> Message:
        return next(starts)

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable: the client stays connected")

    async def send(message: Message) -> None:
        await asyncio.sleep(seconds_per_send)
        body = message.get("body")
        if isinstance(body, bytes):
            bodies.append(body)

    await application({"type": "lifespan"}, lifespan, send)
    while not bodies or b"loading" in bodies[-1]:
        bodies.clear()
        await application({"type": "http", "path": "/version", "method": "GET"}, receive, send)
    bodies.clear()
    scope = {"type": "http", "path": "/v1/completions", "method": "POST"}
    await application(scope, receive, send)
    return bodies


def test_a_slow_client_gets_one_chunk_per_token_and_one_finish_reason() -> None:
    """Tokens pile up between sends of 10 ms: the simulated step takes under 2 ms."""
    *chunks, done = asyncio.run(_stream(20, seconds_per_send=0.01))
    assert done == b"data: [DONE]\n\n"
    reasons = [
        json.loads(chunk.removeprefix(b"data: "))["choices"][0]["finish_reason"] for chunk in chunks
    ]
    assert reasons == [None] * 19 + ["length"]
