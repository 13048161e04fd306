"""A small HTTP server for pages that are made when they are asked for, `/metrics` among them."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

from runtimes.errors import UserError

Render = Callable[[str], tuple[bytes, str]]
"""`Accept` header → body and content type of a page."""


_LAST_ANSWERS_S = 2.0
"""What a server that closes gives to the requests that it has begun to answer."""


class MetricsServer:
    """Serves `pages` from its own thread until `close`, which leaves no thread and no socket.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes any free one.
        pages: by path; called on a thread of the server, once a request.

    Attributes:
        url: of `/metrics`.

    Raises:
        UserError: nothing can listen there.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Render]) -> None:
        try:
            self._server = _Server(host, port, pages)
        except (OSError, OverflowError) as error:
            raise UserError(_cannot_listen(host, port, error)) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="servetune-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and wait for requests in progress, some seconds at most; twice is once."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128
    # Joined by `server_close`, which hangs up on those that take too long.
    daemon_threads = False
    block_on_close = True

    def __init__(self, host: str, port: int, pages: Mapping[str, Render]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self._connections: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        if isinstance(request, socket.socket):
            self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        late = threading.Timer(_LAST_ANSWERS_S, self._hang_up)
        late.start()
        try:
            super().server_close()
        finally:
            late.cancel()
            late.join()

    def _hang_up(self) -> None:
        """End what is left of the connections: their timeout is one of each read, not of all."""
        for connection in tuple(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10.0  # of one read: on a busy machine a client may be slow to go on

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            known = " and ".join(self.server.pages)
            self.send_error(HTTPStatus.NOT_FOUND, f"only {known} can be read here")
            return
        body, content_type = page(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the scraper went away; it asks again

    def log_message(self, format: str, *args: object) -> None:
        """One line a scrape is nobody's news."""


def _cannot_listen(host: str, port: int, error: OSError | OverflowError) -> str:
    where = f"metrics cannot be served on {host}:{port}"
    if isinstance(error, OverflowError):
        return f"{where}: a port is 0 to 65535. Set metrics.port to 0 for any free one."
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: another program listens there. "
            "Set metrics.port to another port, or to 0 for any free one."
        )
    if error.errno == errno.EACCES:
        return f"{where}: no permission. Set metrics.port to one above 1023, or to 0."
    return (
        f"{where}: {error.strerror or error}. "
        "Set metrics.host to an address of this machine (127.0.0.1 for itself alone)."
    )
