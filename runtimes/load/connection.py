"""One keep-alive HTTP/1.1 connection, parsed as its bytes arrive."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import Protocol, cast

import httptools

from runtimes.errors import ServetuneError

MAX_HEAD_BYTES = 1 << 18
"""Status line and headers beyond this are malformed."""


class HttpError(ServetuneError):
    """An exchange that gave no complete response; `reason` is a few words for the record."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Receiver(Protocol):
    """What an exchange reports to, on the loop's thread. Its methods must not raise."""

    def on_sent(self, at_ns: int) -> None:
        """The last byte of the request was handed to the socket."""

    def on_head(self, status: int, content_type: str, at_ns: int) -> None:
        """Status and headers are complete; `content_type` is lower case without parameters."""

    def on_body(self, data: bytes, at_ns: int) -> bool:
        """A piece of the body arrived; False gives the response up and closes the connection."""


class Connection(asyncio.Protocol):
    """One exchange at a time over one socket.

    Times are `time.perf_counter_ns`, taken once per read before anything is parsed, so that
    all bytes of one read carry one time.

    Args:
        live: holds this connection while it has a socket.
    """

    def __init__(self, live: set[Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._live = live
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._write_paused = False
        self._receiver: Receiver | None = None
        self._complete: asyncio.Future[str | None] | None = None
        self._read_ns = 0
        self._reset_head()
        self.idle_since_ns: int | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, receiver: Receiver) -> None:
        """Send `request` and report its response; returns when the response is complete.

        The connection is closed when the exchange ends in any other way, cancellation included.

        Raises:
            HttpError: `connection lost` before the response began, `cut stream` within it,
                `malformed response`, or `rejected` by the receiver.
        """
        if self._transport is None or not self.is_open:
            raise HttpError("connection lost")
        self._complete = self._loop.create_future()
        self._receiver = receiver
        self._reset_head()
        try:
            self._transport.write(request)
            if not self._write_paused:
                receiver.on_sent(perf_counter_ns())
            reason = await self._complete
            if reason is not None:
                raise HttpError(reason)
        except BaseException:
            self.abort()
            raise
        finally:
            self._receiver = None
            self._complete = None
        self.idle_since_ns = perf_counter_ns()

    def abort(self) -> None:
        """Close at once, dropping what was not sent."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the socket is released."""
        await asyncio.wait({self._closed})

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, with a write buffer that says when the socket has taken it all."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange under way: complete when the body was to run to the end."""
        if exc is None and self._head_complete and self._until_eof:
            self._finish(None)
        else:
            self._finish("cut stream" if self._head_complete else "connection lost")
        self._live.discard(self)
        self._closed.set_result(None)

    def pause_writing(self) -> None:
        """The socket did not take all of the request."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The socket has taken the rest of the request."""
        self._write_paused = False
        if self._receiver is not None:
            self._receiver.on_sent(perf_counter_ns())

    def data_received(self, data: bytes) -> None:
        """Parse what was read."""
        self._read_ns = perf_counter_ns()
        if self._receiver is None:
            self.abort()  # nothing was asked: a server that speaks first is not understood
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._finish("malformed response")
            self.abort()
            return
        if not self._head_complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._finish("malformed response")
                self.abort()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Refuse a response that nobody asked for, sent behind the one that was."""
        if self._receiver is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what decides how the body is read."""
        match name.lower():
            case b"content-type":
                self._content_type = value.decode("latin-1").partition(";")[0].strip().lower()
            case b"content-length" | b"transfer-encoding":
                self._until_eof = False

    def on_headers_complete(self) -> None:
        """Report the head, interim responses (1xx) aside."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._head_complete = True
        if self._receiver is not None:
            self._receiver.on_head(status, self._content_type, self._read_ns)

    def on_body(self, data: bytes) -> None:
        """Pass the bytes on until the receiver gives up."""
        if self._receiver is not None and not self._receiver.on_body(data, self._read_ns):
            self._finish("rejected")

    def on_message_complete(self) -> None:
        """End the exchange, and the connection unless the server keeps it."""
        if not self._head_complete:
            return
        if not self._parser.should_keep_alive():
            self.abort()
        self._finish(None)

    def _finish(self, reason: str | None) -> None:
        """Wake the exchange with success or `reason`; the first call counts."""
        self._receiver = None
        if self._complete is not None and not self._complete.done():
            self._complete.set_result(reason)

    def _reset_head(self) -> None:
        self._head_complete = False
        self._head_bytes = 0
        self._content_type = ""
        self._until_eof = True
