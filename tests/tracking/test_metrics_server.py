"""The server of the metrics ends when it is told to, whoever is connected."""

from __future__ import annotations

import socket
import threading
import urllib.request
from itertools import count
from urllib.parse import urlsplit

from tracking.metrics_server import MetricsServer

TRICKLE_S = 0.2
TRICKLED = 600
"""Two minutes of single bytes, unless the server hangs up."""


def serving() -> MetricsServer:
    return MetricsServer("127.0.0.1", 0, {"/metrics": lambda accept: (b"up 1\n", "text/plain")})


def connected(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=30)


def test_a_client_that_never_ends_its_request_does_not_hold_the_server_up() -> None:
    server = serving()
    hung_up = threading.Event()
    sent = count()

    def trickle(client: socket.socket) -> None:
        try:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            while next(sent) < TRICKLED and not hung_up.wait(TRICKLE_S):
                client.sendall(b"x")
        except ConnectionError:
            hung_up.set()

    with connected(server) as client:
        sender = threading.Thread(target=trickle, args=(client,))
        sender.start()
        with urllib.request.urlopen(server.url, timeout=30) as answer:
            assert answer.read() == b"up 1\n"
        server.close()
        assert next(sent) < TRICKLED, "it waited for the client"
        assert hung_up.wait(30)
        sender.join()


def test_a_client_that_says_nothing_does_not_either() -> None:
    server = serving()
    with connected(server):
        server.close()
    server.close()
