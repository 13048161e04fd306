"""The load's client against a server that speaks TLS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path
from time import perf_counter_ns

import pytest

from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.completion import CompletionStream
from runtimes.load.http import HttpClient, HttpError
from runtimes.load.shares import PlannedRequest
from runtimes.load.workers import LoadWorkers, Server
from tests.runtimes.load_servers import HOST, good, read_request, response, serving
from tests.runtimes.load_stages import job

pytestmark = [
    pytest.mark.skipif(
        shutil.which("openssl") is None, reason="no openssl here to make a certificate with"
    ),
    pytest.mark.usefixtures("either_loop"),
]


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


def test_a_request_is_sent_before_the_server_has_read_it(certificate: Path) -> None:
    async def run() -> None:
        read_ns = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                await read_request(reader)
                read_ns.append(perf_counter_ns())
                writer.write(response(b"ok"))
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listening = await asyncio.start_server(connected, HOST, 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        tls = ssl.create_default_context(cafile=certificate)
        async with HttpClient(HOST, port, tls=tls) as client:
            for size in (10, 100_000):
                stream = CompletionStream()
                request = client.post_request("/", b"x" * size)
                with contextlib.suppress(HttpError):  # the stream wants no JSON
                    await client.stream(request, stream, timeout_s=20)
                record = stream.record(
                    request=PlannedRequest(0, b"", 1, None),
                    scheduled_ns=0,
                    failure=None,
                    ended_ns=perf_counter_ns(),
                )
                assert record.sent_ns < read_ns.pop()
        listening.close()
        await listening.wait_closed()

    asyncio.run(run())


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


def test_workers_trust_whom_the_environment_names(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def errors() -> set[str | None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        async with (
            serving(good, tls=context) as server,
            LoadWorkers([Server(HOST, server.port, tls=True)], processes=1) as workers,
        ):
            return {one.error for one in (await workers.run(job(ConcurrencyLoad(2, 6)))).records}

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asyncio.run(errors()) == {None}
    monkeypatch.delenv("SSL_CERT_FILE")
    (untrusted,) = asyncio.run(errors())
    assert untrusted is not None
    assert "certificate not trusted: self" in untrusted
