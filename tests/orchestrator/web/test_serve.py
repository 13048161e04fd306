"""The API as a process of its own, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from orchestrator.web.serve import serve
from runtimes.errors import UserError
from tests.orchestrator.commands import ROOT, environment
from tests.orchestrator.web.requests import (
    TINY,
    Body,
    layer_request,
    phase_request,
    phases_request,
    system_request,
)

IN_FLIGHT = 1000
PROGRAM = """
from orchestrator.web.serve import serve
serve("127.0.0.1", 0, started=lambda url: print(url, flush=True))
"""


def start(errors: Path) -> subprocess.Popen[str]:
    """A server that writes its URL to stdout and what goes wrong in it to `errors`."""
    with errors.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**environment(), "HOME": os.environ.get("HOME", "/")},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    errors = tmp_path_factory.mktemp("server") / "errors"
    with start(errors) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
            server.wait(timeout=30)
    assert errors.read_text(encoding="utf-8") == ""


def test_every_call_over_http(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        layers = client.get("/api/layers", params={"model_id": TINY})
        answers = [
            client.post("/config/layer-metrics", json=layer_request()),
            client.post("/config/system-metrics", json=system_request()),
            client.post("/api/system-metrics", json=phases_request()),
            client.get("/openapi.json"),
        ]
        gone = client.post("/config/load", json={"model_id": TINY})
        wrong = client.post("/config/layer-metrics", json={})
        large = client.post("/config/layer-metrics", content=b" " * (1 << 22))
    assert layers.json()["layers"][0]["count"] == 1
    assert [answer.status_code for answer in answers] == [200] * 4
    assert (gone.status_code, wrong.status_code, large.status_code) == (410, 422, 413)


def test_a_client_that_leaves_in_the_middle_of_a_request_harms_nobody(url: str) -> None:
    address = urlsplit(url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(message(layer_request())[:-10])
    assert httpx.get(f"{url}/api/layers", params={"model_id": TINY}).status_code == 200


def test_two_configurations_at_once_are_answered_as_one_after_the_other(url: str) -> None:
    bodies = [
        phases_request(),
        phases_request(phase_request(4, hardware_config="H100", dtype="fp8", batch_size=3)),
    ] * 10

    async def at_once() -> list[bytes]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            calls = [client.post("/api/system-metrics", json=body) for body in bodies]
            return [response.content for response in await asyncio.gather(*calls)]

    with httpx.Client(base_url=url, timeout=60) as client:
        alone = [client.post("/api/system-metrics", json=body).content for body in bodies[:2]]
    assert alone[0] != alone[1]
    assert asyncio.run(at_once()) == alone * 10


def message(body: Body) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "POST /config/layer-metrics HTTP/1.1\r\nHost: api\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def test_a_thousand_requests_in_flight(url: str) -> None:
    """All are sent but for the last byte before the first may be answered."""
    address = urlsplit(url)
    request = message(layer_request())

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(request[:-1])
        await writer.drain()
        return reader, writer

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request[-1:])
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received.partition(b"\r\n\r\n")[2]

    async def all_at_once() -> list[bytes]:
        connections = [await opened() for _ in range(IN_FLIGHT)]
        return await asyncio.gather(*(answered(*connection) for connection in connections))

    alone = httpx.post(f"{url}/config/layer-metrics", json=layer_request()).content
    assert asyncio.run(all_at_once()) == [alone] * IN_FLIGHT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_when_told_to(number: signal.Signals, tmp_path: Path) -> None:
    with start(tmp_path / "errors") as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("http://127.0.0.1:")
            server.send_signal(number)
            server.wait(timeout=30)
        finally:
            server.kill()
    assert server.returncode in (-number, 1, 130)


def test_an_address_that_is_taken_is_the_users_to_put_right() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1 port {port}: .*--port"):
            serve("127.0.0.1", port)


def test_an_address_that_is_not_here() -> None:
    with pytest.raises(UserError, match="--host"):
        serve("192.0.2.1", 0)
