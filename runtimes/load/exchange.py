"""What a load asks of a client: exchanges that report to callbacks, without a task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from runtimes.load.connection import Connection, HttpError, OnEnd, Receiver


class LoadClient(Protocol):
    """What a load needs of a client; `HttpClient` says what each of it does."""

    @property
    def connections_opened(self) -> int:
        """Connections made so far."""

    async def open(self, count: int) -> None:
        """Have at least `count` connections ready."""

    def post_request(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST of the JSON `body`, for `begin`."""

    def begin(
        self,
        request: bytes,
        receiver: Receiver,
        on_end: OnEnd,
        *,
        timeout_s: float,
        affinity: int | None = None,
    ) -> Exchange:
        """Send `request` and report the response to `receiver`, then its end to `on_end`."""

    def mask(self, text: str) -> str:
        """`text` without the API key."""

    def give_up(self) -> None:
        """Fail every exchange, under way and to come, with `connection lost`."""

    async def close(self) -> None:
        """Close every connection and wait until their sockets are released."""


class Exchange:
    """One request under way, made by `begin` and ended by its response, `timeout_s` or `cancel`.

    Args:
        on_end: told how it ended, once.
        idle: gets the connection back when it can be used again.
    """

    __slots__ = (
        "_connecting",
        "_connection",
        "_idle",
        "_on_end",
        "_receiver",
        "_request",
        "_timer",
    )

    def __init__(
        self,
        request: bytes,
        receiver: Receiver,
        on_end: OnEnd,
        *,
        timeout_s: float,
        idle: list[Connection],
    ) -> None:
        self._request = request
        self._receiver = receiver
        self._on_end = on_end
        self._idle = idle
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = loop.call_later(timeout_s, self.fail, "timeout")

    def cancel(self) -> None:
        """End it with the reason `cancelled`; does nothing once it has ended."""
        self.fail("cancelled")

    def fail(self, reason: str) -> None:
        """End it with `reason`, and its connection; does nothing once it has ended."""
        if self._timer is None:
            return
        if self._connection is not None:
            self._connection.fail(reason)
            return
        if self._connecting is not None:
            self._connecting.cancel()
        self._ended(reason)

    def send(self, connection: Connection) -> None:
        """Send the request on a connection that is there."""
        self._connection = connection
        connection.start(self._request, self._receiver, self._ended)

    def send_once(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        """Send the request once `connect` has a connection; without one, end with its reason."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect(connect))

    async def _connect(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        try:
            connection = await connect()
        except HttpError as error:
            self._ended(error.reason)
        else:
            self.send(connection)

    def _ended(self, reason: str | None) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            self._idle.append(connection)
        self._on_end(reason)


async def awaited(
    client: LoadClient,
    request: bytes,
    receiver: Receiver,
    *,
    timeout_s: float,
    affinity: int | None = None,
) -> None:
    """`client.begin`, and return when the response is complete. Cancelling ends the exchange.

    Raises:
        HttpError: there was no complete response; its reason is as `HttpClient.begin` tells it.
    """
    done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def on_end(reason: str | None) -> None:
        if not done.done():
            done.set_result(reason)

    exchange = client.begin(request, receiver, on_end, timeout_s=timeout_s, affinity=affinity)
    try:
        reason = await done
    finally:
        exchange.cancel()
    if reason is not None:
        raise HttpError(reason)
