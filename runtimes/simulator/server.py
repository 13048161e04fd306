"""The HTTP side: a bare ASGI application with vLLM's routes.

A framework would cost more per streamed chunk than everything else here together.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import TypeAlias

from runtimes.simulator.completions import (
    DONE,
    CompletionRequest,
    RequestError,
    Writer,
    error_body,
    read_request,
)
from runtimes.simulator.engine_model import EngineModel, Request
from runtimes.simulator.faults import SLOWER, Fault
from runtimes.simulator.kv_cache import block_hashes
from runtimes.simulator.metrics import render
from runtimes.simulator.replica import ClientGoneError, Replica, TokenStream, least_loaded
from runtimes.simulator.resolve import VLLM_VERSION, Resolved, startup_lines
from runtimes.simulator.timing import FRONTEND_S, StepWork

_logger = logging.getLogger(__name__)

Scope: TypeAlias = Mapping[str, object]
Message: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Respond: TypeAlias = Callable[
    [CompletionRequest, TokenStream, Writer, Send], Coroutine[object, object, None]
]

_CHAT = "/v1/chat/completions"
_GENERATING = ("/v1/completions", _CHAT)
_JSON = b"application/json"
_EVENTS = b"text/event-stream; charset=utf-8"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Application:
    """One simulated server: replicas, routes, and the fault it was told to have.

    Args:
        startup_s: from the first event-loop turn to healthy.
        jitter, seed: noise of step durations, see `Replica`.
        dev_mode: True adds the route that empties the prefix cache, as vLLM does.
    """

    def __init__(
        self,
        resolved: Resolved,
        *,
        startup_s: float = 0.0,
        jitter: float = 0.0,
        seed: int = 0,
        fault: Fault = Fault.NONE,
        api_key: str | None = None,
        dev_mode: bool = False,
    ) -> None:
        self._resolved = resolved
        self._api_key = api_key
        self._dev_mode = dev_mode
        self._startup_s = startup_s
        self._fault = fault
        self._replicas = [
            Replica(
                EngineModel(resolved.limits, _timed(resolved, fault)),
                jitter=jitter,
                seed=seed + index,
            )
            for index in range(resolved.arguments.layout.dp)
        ]
        self._numbers = itertools.count(1)
        self._loaded = False
        self._created = int(time.time())
        self._pages: Mapping[str, Callable[[], tuple[bytes, bytes]]] = {
            "/health": lambda: (b"", _TEXT),
            "/version": lambda: (json.dumps({"version": VLLM_VERSION}).encode(), _JSON),
            "/v1/models": lambda: (self._models(), _JSON),
            "/metrics": lambda: (render(self._replicas, self._resolved), _TEXT),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._route(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _start(self) -> None:
        if self._fault is Fault.STUBBORN:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for line in startup_lines(self._resolved):
            _logger.info(line)
        if self._fault is not Fault.START_HANG:
            asyncio.get_running_loop().call_later(self._startup_s, self._become_ready)

    def _become_ready(self) -> None:
        self._loaded = True

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = str(scope["path"]), scope["method"]
        if not self._loaded:
            await _answer(send, 503, error_body(503, "ServiceUnavailable", "loading"))
        elif path.startswith("/v1/") and not self._allowed(scope):
            await _answer(send, 401, error_body(401, "Unauthorized", "the API key is wrong"))
        elif method == "GET" and path in self._pages:
            body, content_type = self._pages[path]()
            await _answer(send, 200, body, content_type)
        elif method == "POST" and path in _GENERATING:
            await self._completions(receive, send, chat=path == _CHAT)
        elif method == "POST" and path == "/reset_prefix_cache" and self._dev_mode:
            done = [replica.model.reset_prefix_cache() for replica in self._replicas]
            await _answer(send, 200, json.dumps({"success": all(done)}).encode())
        else:
            await _answer(send, 404, error_body(404, "NotFoundError", f"no {method} {path}"))

    def _allowed(self, scope: Scope) -> bool:
        """As vLLM does: a key, where one is set, guards `/v1` and nothing else."""
        if self._api_key is None:
            return True
        headers = scope["headers"]
        assert isinstance(headers, list)
        return (b"authorization", f"Bearer {self._api_key}".encode()) in map(tuple, headers)

    async def _completions(self, receive: Receive, send: Send, *, chat: bool) -> None:
        body = await _read_body(receive)
        number = next(self._numbers)
        due = self._fault.due(number)
        if due and self._fault is Fault.HTTP_500:
            await _answer(send, 500, error_body(500, "InternalServerError", "simulated fault"))
            return
        if due and self._fault is Fault.HANG:
            await _disconnected(receive)
            return
        try:
            request = read_request(
                body,
                served_name=self._resolved.arguments.served_name,
                max_model_len=self._resolved.limits.max_model_len,
                chat=chat,
            )
        except RequestError as error:
            await _answer(send, error.status, error.body())
            return
        respond = _stream if request.stream else _collect
        if due and self._fault is Fault.CRASH:
            respond = _crash
        arguments = self._resolved.arguments
        writer = Writer(
            number=number,
            model=arguments.served_name,
            created=self._created,
            chat=chat,
            tells_cached=arguments.prompt_tokens_details,
        )
        await self._serve(request, respond, writer, receive, send)

    async def _serve(
        self,
        request: CompletionRequest,
        respond: Respond,
        writer: Writer,
        receive: Receive,
        send: Send,
    ) -> None:
        """Play one request; a client that goes away frees its place at once."""
        limits, request_id = self._resolved.limits, writer.request_id
        hashes = block_hashes(request.prompt, limits.block_size) if limits.prefix_caching else ()
        await asyncio.sleep(FRONTEND_S)
        replica = least_loaded(self._replicas)
        stream = replica.submit(
            Request(request_id, len(request.prompt), request.max_tokens, hashes)
        )
        watcher = asyncio.create_task(_close_on_disconnect(receive, stream))
        try:
            await respond(request, stream, writer, send)
        except ClientGoneError:
            _logger.info("%s: the client is gone, aborted", request_id)
        finally:
            watcher.cancel()
            replica.abort(request_id)

    def _models(self) -> bytes:
        model = {
            "id": self._resolved.arguments.served_name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "max_model_len": self._resolved.limits.max_model_len,
        }
        return json.dumps({"object": "list", "data": [model]}).encode()


async def _stream(
    request: CompletionRequest, stream: TokenStream, writer: Writer, send: Send
) -> None:
    """Server-sent events: one chunk per token, the usage if asked for, `[DONE]`.

    A chat says who speaks as its first token is there.
    """
    await send(_start_message(200, _EVENTS))
    opening, finished = writer.opening, False
    while not finished:
        tokens, finished = await stream.take()
        if opening:
            await send({"type": "http.response.body", "body": opening, "more_body": True})
            opening = b""
        for left in range(tokens, 0, -1):
            last = finished and left == 1
            chunk = writer.last_token_chunk if last else writer.token_chunk
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    end = DONE
    if request.include_usage:
        end = writer.usage_chunk(request, stream.cached_tokens) + DONE
    await send({"type": "http.response.body", "body": end})


async def _collect(
    request: CompletionRequest, stream: TokenStream, writer: Writer, send: Send
) -> None:
    """One JSON document when the last token is out."""
    finished = False
    while not finished:
        _, finished = await stream.take()
    await _answer(send, 200, writer.answer(request, stream.cached_tokens))


async def _crash(
    request: CompletionRequest, stream: TokenStream, writer: Writer, send: Send
) -> None:
    """Die after the first token, with every stream open, in vLLM's words."""
    await send(_start_message(200, _EVENTS))
    await stream.take()
    await send({"type": "http.response.body", "body": writer.token_chunk, "more_body": True})
    sys.stderr.write(
        "EngineCore encountered a fatal error.\n"
        "Traceback (most recent call last):\n"
        "RuntimeError: simulated fault\n"
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. "
        "See stack trace (above) for the root cause.\n"
    )
    sys.stderr.flush()
    os._exit(1)


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        part = message.get("body")
        if isinstance(part, bytes):
            parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close_on_disconnect(receive: Receive, stream: TokenStream) -> None:
    await _disconnected(receive)
    stream.close()


def _timed(resolved: Resolved, fault: Fault) -> Callable[[StepWork], float]:
    """Seconds that a step takes by its work; longer where the engine was told to be slow."""
    latency_s = resolved.timer.latency_s
    if fault is Fault.SLOW:
        return lambda work: SLOWER * latency_s(work)
    return latency_s


async def _answer(send: Send, status: int, body: bytes, content_type: bytes = _JSON) -> None:
    await send(_start_message(status, content_type, len(body)))
    await send({"type": "http.response.body", "body": body})


def _start_message(status: int, content_type: bytes, length: int | None = None) -> Message:
    headers = [(b"content-type", content_type)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}
