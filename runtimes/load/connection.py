"""One keep-alive HTTP/1.1 connection, parsed as its bytes arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol, TypeAlias, cast

import httptools

from runtimes.errors import ServetuneError

MAX_HEAD_BYTES = 1 << 18
"""Status line and headers beyond this are malformed, and so is as much of anything else without a
byte of a body: trailers, extensions of a chunk."""

LONGEST_FAST_CHUNK = 4096
"""Chunks from this size on always go through the HTTP parser."""

OnEnd: TypeAlias = Callable[[str | None], None]
"""Told how an exchange ended: None for a complete response, otherwise a reason as `HttpError`'s."""


class HttpError(ServetuneError):
    """An exchange that gave no complete response; `reason` is a few words for the record."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def _size_lines(longest: int) -> dict[int, bytes]:
    """By length of a read: the size line it begins with if it is one whole chunk.

    A chunk is its size in hexadecimal, CRLF, its data, CRLF (RFC 9112 §7.1).
    """
    lines = {}
    for size in range(1, longest):
        line = b"%x\r\n" % size
        lines[len(line) + size + 2] = line
    return lines


_SIZE_LINES = _size_lines(LONGEST_FAST_CHUNK)


class Receiver(Protocol):
    """What an exchange reports to, on the loop's thread. Its methods must not raise."""

    def on_sent(self, at_ns: int) -> None:
        """The last byte of the request was handed to the socket."""

    def on_first_byte(self, at_ns: int) -> None:
        """The first bytes of the response arrived, those of an interim one (1xx) included."""

    def on_head(self, status: int, content_type: str, at_ns: int) -> None:
        """Status and headers are complete; `content_type` is lower case without parameters."""

    def on_body(self, data: bytes, at_ns: int) -> bool:
        """A piece of the body arrived; False gives the response up and closes the connection."""


class Connection(asyncio.Protocol):
    """One exchange at a time over one socket.

    Times are `time.perf_counter_ns`, taken once per read before anything is parsed, so that
    all bytes of one read carry one time.

    The usual read of a stream is one whole chunk of the chunked coding. Between two chunks the
    HTTP parser keeps nothing of either, so that such a chunk need not go through it.

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
        self._on_end: OnEnd | None = None
        self._reason: str | None = None
        self._read_ns = 0
        self._began = False
        self._reset()
        self.idle_since_ns: int | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def start(self, request: bytes, receiver: Receiver, on_end: OnEnd) -> None:
        """Send `request` and report its response.

        `on_end` is called once, and never from within this call. Its reason is `connection lost`
        before the response began, `cut stream` within it, `malformed response`, `compressed
        response`, which nobody asked for, `rejected` by the receiver, or what `fail` was told. The
        connection is closed by then unless it can be used again.
        """
        if self._transport is None or self._transport.is_closing():
            self._loop.call_soon(on_end, "connection lost")
            return
        self._on_end = on_end
        self._receiver = receiver
        self._reset()
        self._transport.write(request)
        if not self._write_paused:
            receiver.on_sent(perf_counter_ns())

    def fail(self, reason: str) -> None:
        """End the exchange under way with `reason`, and the connection."""
        self._finish(reason)
        self.abort()
        self._tell_end()

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
        # Not 0: TLS transports, the standard library's and uvloop's, take an empty buffer for full.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange under way: complete when the body was to run to the end."""
        if exc is None and self._head_complete and self._until_eof:
            self._finish(None)
        else:
            self._finish("cut stream" if self._head_complete else "connection lost")
        self._tell_end()
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
        now_ns = perf_counter_ns()
        receiver = self._receiver
        if receiver is None:
            self.abort()  # nothing was asked: a server that speaks first is not understood
            return
        line = _SIZE_LINES.get(len(data)) if self._between_chunks else None
        if line is not None and data.startswith(line) and data.endswith(b"\r\n"):
            if receiver.on_body(data[len(line) : -2], now_ns):
                return
            self._finish("rejected")
            self.abort()
        else:
            self._parse(data, now_ns, receiver)
        if self._receiver is None:
            self._tell_end()

    def _parse(self, data: bytes, now_ns: int, receiver: Receiver) -> None:
        """Give what was read to the HTTP parser."""
        self._read_ns = now_ns
        if not self._began:
            self._began = True
            receiver.on_first_byte(now_ns)
        self._bytes_without_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a bug of ours: the loop logs it and closes, and the request is a cut stream
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._finish("malformed response")
            self.abort()
            return
        # CRLF behind a chunk would have ended a size line, and then a chunk would have begun.
        self._between_chunks = self._chunk_complete and data.endswith(b"\r\n")
        if self._bytes_without_body > MAX_HEAD_BYTES:
            self._finish("malformed response")
            self.abort()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Refuse a response that nobody asked for, sent behind the one that was."""
        if self._receiver is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what decides how the body is read; trailers decide nothing."""
        if self._head_complete:
            return
        match name.lower():
            case b"content-type":
                self._content_type = value.decode("latin-1").partition(";")[0].strip().lower()
            case b"content-encoding":
                self._compressed = value.strip().lower() not in (b"", b"identity")
            case b"content-length" | b"transfer-encoding":
                self._until_eof = False

    def on_headers_complete(self) -> None:
        """Report the head, interim responses (1xx) aside."""
        status = self._parser.get_status_code()
        if status < 200:
            self._reset_head()
            return
        self._head_complete = True
        if self._receiver is not None:
            self._receiver.on_head(status, self._content_type, self._read_ns)
            if self._compressed:
                self._finish("compressed response")
                self.abort()

    def on_chunk_header(self) -> None:
        """A chunk has begun."""
        self._chunk_complete = False

    def on_chunk_complete(self) -> None:
        """A chunk has ended."""
        self._chunk_complete = self._head_complete

    def on_body(self, data: bytes) -> None:
        """Pass the bytes on until the receiver gives up; an interim response has none to read."""
        if not self._head_complete:
            return
        self._bytes_without_body = 0
        if self._receiver is not None and not self._receiver.on_body(data, self._read_ns):
            self._finish("rejected")
            self.abort()

    def on_message_complete(self) -> None:
        """End the exchange, and the connection unless it can serve another one."""
        self._chunk_complete = False
        if not self._head_complete:
            return
        if self._write_paused or not self._parser.should_keep_alive():
            self.abort()  # the rest of a request that is answered already is not wanted
        self._finish(None)

    def _finish(self, reason: str | None) -> None:
        """Note how the exchange ended; the first call counts."""
        if self._receiver is not None:
            self._receiver = None
            self._reason = reason

    def _tell_end(self) -> None:
        """Say how the exchange ended: the next one may start, so not while the parser works."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            self.idle_since_ns = perf_counter_ns()
            on_end(self._reason)

    def _reset(self) -> None:
        """Be ready for a response."""
        self._began = False
        self._bytes_without_body = 0
        self._chunk_complete = False
        self._between_chunks = False
        self._reset_head()

    def _reset_head(self) -> None:
        self._head_complete = False
        self._content_type = ""
        self._compressed = False
        self._until_eof = True
