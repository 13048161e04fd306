"""The HTTP/1.1 client of the load: kept connections, ready-made requests, no proxy."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass
from time import perf_counter_ns
from types import TracebackType

from runtimes.client_limits import shortage_reason
from runtimes.load.connection import Connection, HttpError, OnEnd, Receiver
from runtimes.load.exchange import Exchange, LoadClient, awaited

__all__ = ["HttpClient", "HttpError", "HttpResponse", "LoadClient", "Receiver"]

REUSE_WITHIN_S = 4.0
"""A connection idle for longer is not used again: uvicorn, under vLLM, SGLang and TensorRT-LLM
alike, closes one after 5 s, and a request that meets the closing is lost."""

MAX_BODY_BYTES = 64 << 20
"""Longest body that `get` and `post` accept."""

CONNECTING_AT_ONCE = 64
"""Connections that `open` makes at the same time; a server's backlog holds more."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole response."""

    status: int
    body: bytes


class HttpClient:
    """Exchanges with one server, any number at once, each on a connection of its own.

    Speaks to the address itself: proxy settings of the environment do not apply. Belongs to the
    event loop it is first used on. Use it as an async context manager, or `close` it.

    Args:
        host, port: where the server listens.
        api_key: sent as a bearer token.
        base_path: goes before every path.
        tls: how the server's certificate is checked; None speaks plain HTTP.
        reuse_within_s: idle time after which a connection is not used again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        api_key: str | None = None,
        base_path: str = "",
        tls: ssl.SSLContext | None = None,
        reuse_within_s: float = REUSE_WITHIN_S,
    ) -> None:
        self._host = host
        self._port = port
        self._api_key = api_key
        self._base_path = base_path
        self._tls = tls
        self._reuse_within_s = reuse_within_s
        self._addresses: list[str] = []
        self._idle: list[Connection] = []
        self._live: set[Connection] = set()
        self._closed_because = ""
        self.connections_opened = 0
        name = f"[{host}]" if ":" in host else host
        authorization = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        self.host_header = f"host: {name}:{port}\r\n".encode()
        self._headers = self.host_header + f"user-agent: servetune\r\n{authorization}".encode()

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self, count: int) -> None:
        """Have at least `count` connections ready.

        Raises:
            HttpError: the server does not take them.
        """
        # What would be too old within the stage that is about to begin is of no use to it.
        idle = list(self._idle)
        self._idle[:] = [one for one in idle if self._usable(one, self._reuse_within_s / 2)]
        for connection in set(idle).difference(self._idle):
            connection.abort()
        while (missing := count - len(self._idle)) > 0:
            batch = [self._connect() for _ in range(min(missing, CONNECTING_AT_ONCE))]
            made = await asyncio.gather(*batch, return_exceptions=True)
            self._idle += [one for one in made if isinstance(one, Connection)]
            for error in made:
                if isinstance(error, BaseException):
                    raise error

    async def get(self, path: str, *, timeout_s: float) -> HttpResponse:
        """The response to GET `path`, whatever its status.

        Raises:
            HttpError: no complete response within `timeout_s`.
        """
        head = f"GET {self._base_path}{path} HTTP/1.1\r\naccept: */*\r\n"
        return await self._whole(head.encode() + self._headers + b"\r\n", timeout_s)

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> HttpResponse:
        """The response to POST of the JSON `body`, whatever its status.

        Raises:
            HttpError: no complete response within `timeout_s`.
        """
        return await self._whole(self.post_request(path, body), timeout_s)

    def post_request(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST of the JSON `body`, made before the clock runs, for `stream`."""
        head = (
            f"POST {self._base_path}{path} HTTP/1.1\r\n"
            "accept: application/json, text/event-stream\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        return head.encode() + self._headers + b"\r\n" + body

    def begin(
        self,
        request: bytes,
        receiver: Receiver,
        on_end: OnEnd,
        *,
        timeout_s: float,
        affinity: int | None = None,
    ) -> Exchange:
        """Send `request`, at once where a connection is ready, and report the response.

        `on_end` is called once, and never from within this call: with None when the response is
        complete, otherwise with why it is not: `connection refused`, `connection lost`,
        `cut stream`, `timeout` after `timeout_s`, `malformed response`, `rejected` by the
        receiver, `cancelled`, or why no connection could be made: what this machine is short of
        is told as `shortage_reason` does. From within it the next request may be begun.
        """
        exchange = Exchange(request, receiver, on_end, timeout_s=timeout_s, idle=self._idle)
        connection = self._take_idle()
        if connection is not None:
            exchange.send(connection)
        else:
            exchange.send_once(self._connect)
        return exchange

    async def stream(
        self, request: bytes, receiver: Receiver, *, timeout_s: float, affinity: int | None = None
    ) -> None:
        """`begin`, and return when the response is complete.

        Raises:
            HttpError: there was no complete response; the reason is as `begin` tells it.
        """
        await awaited(self, request, receiver, timeout_s=timeout_s, affinity=affinity)

    def mask(self, text: str) -> str:
        """`text` without the API key, should a server have echoed it."""
        return text.replace(self._api_key, "***") if self._api_key else text

    async def close(self) -> None:
        """Close every connection and wait until their sockets are released. Idempotent."""
        live = list(self._live)
        self._end_all("client closed")
        for connection in live:
            await connection.wait_closed()

    def give_up(self) -> None:
        """Fail every exchange, under way and to come, with `connection lost`.

        For a load that has to end because a part of what it is sent to is gone.
        """
        self._end_all("connection lost")

    def _end_all(self, reason: str) -> None:
        self._closed_because = self._closed_because or reason
        self._idle.clear()
        for connection in list(self._live):
            connection.abort()

    async def _whole(self, request: bytes, timeout_s: float) -> HttpResponse:
        body = _Body()
        try:
            await self.stream(request, body, timeout_s=timeout_s)
        except HttpError as error:
            if error.reason == "rejected":
                raise HttpError(f"body longer than {MAX_BODY_BYTES} bytes") from None
            raise
        return HttpResponse(body.status, b"".join(body.parts))

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if self._usable(connection, self._reuse_within_s):
                return connection
            connection.abort()
        return None

    @staticmethod
    def _usable(connection: Connection, within_s: float) -> bool:
        since_ns = connection.idle_since_ns
        recent = since_ns is None or since_ns > perf_counter_ns() - within_s * 1e9
        return recent and connection.is_open

    async def _connect(self) -> Connection:
        if self._closed_because:
            raise HttpError(self._closed_because)
        loop = asyncio.get_running_loop()
        failure = "no address"
        for address in await self._resolve():
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self._live),
                    address,
                    self._port,
                    ssl=self._tls,
                    server_hostname=None if self._tls is None else self._host,
                )
            except ConnectionRefusedError:
                failure = "connection refused"
            except ssl.SSLCertVerificationError as error:
                failure = f"certificate not trusted: {error.verify_message}"
            except OSError as error:
                failure = self._own_shortage(error) or f"cannot connect: {error.strerror or error}"
            else:
                if self._closed_because:
                    connection.abort()  # the client was closed while this was being made
                    raise HttpError(self._closed_because)
                self._addresses = [address]
                self.connections_opened += 1
                return connection
        raise HttpError(failure)

    def _own_shortage(self, error: OSError) -> str | None:
        """What this machine is short of.

        No address is also what an unreachable one gives, until a connection has been made.
        """
        if error.errno == errno.EADDRNOTAVAIL and not self.connections_opened:
            return None
        return shortage_reason(error.errno)

    async def _resolve(self) -> list[str]:
        """Addresses of the host; once a connection was made, the one that took it."""
        if not self._addresses:
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise HttpError(f"cannot resolve host: {error.strerror or error}") from None
            self._addresses = [str(address[0]) for *_, address in found]
        return self._addresses


class _Body:
    """Collects a whole body."""

    def __init__(self) -> None:
        self.status = 0
        self.parts: list[bytes] = []
        self._size = 0

    def on_sent(self, at_ns: int) -> None:
        """Not needed here."""

    def on_first_byte(self, at_ns: int) -> None:
        """Not needed here."""

    def on_head(self, status: int, content_type: str, at_ns: int) -> None:
        self.status = status

    def on_body(self, data: bytes, at_ns: int) -> bool:
        self.parts.append(data)
        self._size += len(data)
        return self._size <= MAX_BODY_BYTES
