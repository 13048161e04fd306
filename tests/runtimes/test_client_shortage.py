"""A machine that has nothing left for the client's connections: whose fault that is."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from runtimes.client_limits import shortage_reason, shortage_remedy, shortages
from runtimes.errors import EngineError
from runtimes.failure import FailureKind
from runtimes.load.arrivals import ConcurrencyLoad, ConstantLoad
from runtimes.load.generator import run_load
from runtimes.load.http import HttpClient
from runtimes.load.result import LoadAborted
from runtimes.load.sender import OPEN_LOOP_CONNECTIONS
from runtimes.slo import Slo
from runtimes.statistics import summarise
from tests.runtimes.load_servers import HOST, Request, good, serving, silent
from tests.runtimes.load_stages import job, workers_at

TOO_MANY_FILES = "client limit: Too many open files"
_FEW = 256


@contextmanager
def few_descriptors() -> Iterator[None]:
    """A low soft limit, as a shell's `ulimit -Sn` sets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened."""
    taken: list[int] = []
    with few_descriptors():
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            yield
        finally:
            for fd in taken:
                os.close(fd)


def test_a_worker_may_open_all_that_its_machine_lets_it() -> None:
    async def body() -> tuple[int, int]:
        with few_descriptors():
            async with workers_at(good, 1) as (workers, _):
                await workers.run(job(ConcurrencyLoad(2, 4)))
                return resource.prlimit(workers.pids[0], resource.RLIMIT_NOFILE)

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert asyncio.run(body()) == (hard, hard)


@pytest.mark.usefixtures("either_loop")
def test_a_load_without_descriptors_is_the_clients_failure_not_the_servers() -> None:
    async def body() -> LoadAborted:
        with ExitStack() as shortage:

            async def silent_then(request: Request, writer: asyncio.StreamWriter) -> None:
                if server.connections >= OPEN_LOOP_CONNECTIONS:  # it could not take them later
                    shortage.enter_context(no_descriptors())
                await silent(request, writer)

            async with serving(silent_then) as server, HttpClient(HOST, server.port) as client:
                # More than the connections that an open loop begins with.
                with pytest.raises(LoadAborted) as caught:
                    await run_load(client, job(ConstantLoad(250, 4 * OPEN_LOOP_CONNECTIONS)))
                shortage.close()
        return caught.value

    aborted = asyncio.run(body())
    assert aborted.failure.kind is FailureKind.CLIENT_LIMITED
    assert TOO_MANY_FILES in aborted.failure.message
    assert "ulimit -Hn" in aborted.failure.remedy
    assert TOO_MANY_FILES in {record.error for record in aborted.result.records}
    measured = summarise(aborted.result, Slo())
    assert "client_limited" in measured.flags
    assert any("Too many open files" in words for words in measured.client_limits)


@pytest.mark.usefixtures("either_loop")
def test_a_load_without_a_timer_says_what_it_lacks() -> None:
    async def body() -> EngineError:
        async with serving(good) as server, HttpClient(HOST, server.port) as client:
            with no_descriptors(), pytest.raises(EngineError) as caught:
                await run_load(client, job(ConcurrencyLoad(2, 4)))
            again = await run_load(client, job(ConcurrencyLoad(2, 4)))
            assert {record.error for record in again.records} == {None}
        return caught.value

    failure = asyncio.run(body()).failure
    assert failure.kind is FailureKind.CLIENT_LIMITED
    assert TOO_MANY_FILES in failure.message
    assert "ulimit -Hn" in failure.remedy


@pytest.mark.parametrize(
    "code", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM]
)
def test_a_shortage_is_told_with_what_to_do(code: int) -> None:
    reason = shortage_reason(code)
    assert reason is not None
    remedy = shortage_remedy(reason)
    assert remedy
    assert shortages([None, reason, "http 503", reason]) == [
        f"it could not send 2 of its requests: {os.strerror(code)} ({remedy})"
    ]


def test_what_a_server_does_is_no_shortage_of_the_client() -> None:
    assert shortage_reason(errno.ECONNREFUSED) is None
    assert shortage_reason(None) is None
    assert shortages([None, "connection refused", "Too many open files"]) == []


def test_nothing_is_compared_where_the_client_could_not_send() -> None:
    async def body() -> tuple[str, ...]:
        async with workers_at(good, 1) as (workers, _):
            result = await workers.run(job(ConcurrencyLoad(2, 6)))
        *others, last = result.records
        lost = replace(last, error=TOO_MANY_FILES)
        return summarise(replace(result, records=(*others, lost)), Slo()).flags

    assert "client_limited" in asyncio.run(body())
