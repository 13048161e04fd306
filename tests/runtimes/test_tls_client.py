"""The load's client against a server that speaks TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from runtimes.load.http import HttpClient, HttpError
from tests.runtimes.load_servers import HOST, read_request, response

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl here to make a certificate with"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that signs itself, and its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(
        [*command, "-keyout", str(path), "-out", str(path) + ".crt"],
        check=True,
        capture_output=True,
    )
    with path.open("a") as pem:
        pem.write(Path(str(path) + ".crt").read_text())
    return path


async def ask(certificate: Path, trusted: Path | None) -> tuple[int, bytes, int]:
    """Status and body of two requests over one client, and the connections they took."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await read_request(reader)
                writer.write(response(b"over TLS" * 20_000))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listening = await asyncio.start_server(connected, HOST, 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    try:
        tls = ssl.create_default_context(cafile=trusted)
        async with HttpClient(HOST, port, tls=tls) as client:
            await client.get("/", timeout_s=20)
            answer = await client.post("/", b"x" * 300_000, timeout_s=20)
            return answer.status, answer.body, client.connections_opened
    finally:
        listening.close()
        await listening.wait_closed()


def test_large_bodies_go_both_ways_on_one_connection(certificate: Path) -> None:
    assert asyncio.run(ask(certificate, certificate)) == (200, b"over TLS" * 20_000, 1)


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with pytest.raises(HttpError, match="certificate not trusted: self"):
        asyncio.run(ask(certificate, None))


def test_plain_http_spoken_to_a_tls_client_is_an_error() -> None:
    async def run() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        listening = await asyncio.start_server(connected, HOST, 0)
        port = listening.sockets[0].getsockname()[1]
        async with HttpClient(HOST, port, tls=ssl.create_default_context()) as client:
            with pytest.raises(HttpError, match="cannot connect"):
                await client.get("/", timeout_s=20)
        listening.close()
        await listening.wait_closed()

    asyncio.run(run())
