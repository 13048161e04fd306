"""One client over several real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from runtimes.load.arrivals import ConcurrencyLoad, PoissonLoad
from runtimes.load.balanced import BalancedClient, balanced
from runtimes.load.completion import CompletionStream
from runtimes.load.generator import run_load
from runtimes.load.http import HttpClient, HttpError
from runtimes.load.result import LoadAborted, LoadResult
from tests.runtimes.load_servers import HOST, Handler, Server, good, serving, silent
from tests.runtimes.load_stages import job, prompts

pytestmark = pytest.mark.usefixtures("either_loop")


@asynccontextmanager
async def over(*handlers: Handler) -> AsyncIterator[tuple[BalancedClient, Sequence[Server]]]:
    """A client over one server for each handler."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(one)) for one in handlers]
        client = BalancedClient([HttpClient(HOST, one.port, api_key="k") for one in servers])
        stack.push_async_callback(client.close)
        yield client, servers


async def measured(client: BalancedClient, load: ConcurrencyLoad | PoissonLoad) -> LoadResult:
    return await run_load(client, job(load))


@pytest.mark.parametrize("load", [ConcurrencyLoad(1, 12), ConcurrencyLoad(6, 12)])
def test_equal_servers_get_equal_shares(load: ConcurrencyLoad) -> None:
    async def run() -> None:
        async with over(good, good, good) as (client, servers):
            result = await measured(client, load)
            assert [record.error for record in result.records] == [None] * 12
            received = [len(server.requests) for server in servers]
            assert sum(received) == 12
            if load.value == 1:
                assert received == [4, 4, 4]
            assert client.connections_opened == sum(server.connections for server in servers)

    asyncio.run(run())


def test_every_request_is_sent_once_and_addressed_to_its_server() -> None:
    async def run() -> None:
        async with over(good, good) as (client, servers):
            await measured(client, ConcurrencyLoad(4, 20))
            seen = []
            for server in servers:
                for request in server.requests:
                    assert request.headers["host"] == f"{HOST}:{server.port}"
                    assert request.headers["authorization"] == "Bearer k"
                    prompt = request.json()["prompt"]
                    assert isinstance(prompt, list)
                    seen.append(prompt)
            assert sorted(map(str, seen)) == sorted(
                str(list(prompt.token_ids)) for prompt in prompts(20)
            )

    asyncio.run(run())


def test_a_slow_server_gets_what_it_can_take() -> None:
    async def run() -> None:
        async with over(silent, good) as (client, servers):
            request = client.post_request("/v1/completions", b'{"prompt": [1], "max_tokens": 1}')
            stuck = [
                asyncio.ensure_future(client.stream(request, CompletionStream(), timeout_s=30))
                for _ in range(2)
            ]
            await servers[0].has_seen(1)
            await stuck[1]  # went to the other server, which answers
            for _ in range(5):
                await client.stream(request, CompletionStream(), timeout_s=30)
            assert [len(server.requests) for server in servers] == [1, 6]
            stuck[0].cancel()
            await asyncio.wait({stuck[0]})
            again = asyncio.ensure_future(client.stream(request, CompletionStream(), timeout_s=30))
            await servers[0].has_seen(2)  # one that was cancelled is outstanding no more
            again.cancel()
            await asyncio.wait({again})

    asyncio.run(run())


def test_giving_up_ends_what_runs_and_what_would_come() -> None:
    async def run() -> None:
        async with over(silent, silent) as (client, servers):
            running = asyncio.ensure_future(measured(client, ConcurrencyLoad(4, 40)))
            for server in servers:
                await server.has_seen(2)
            client.give_up()
            with pytest.raises(LoadAborted) as raised:
                await running
            errors = {record.error for record in raised.value.result.records}
            assert errors <= {"connection lost", "cancelled"}
            assert "connection lost" in errors
            with pytest.raises(HttpError, match="connection lost"):
                await client.open(8)

    asyncio.run(run())


def test_a_single_server_needs_no_balance() -> None:
    client = HttpClient(HOST, 1)
    assert balanced([client]) is client
    assert isinstance(balanced([client, client]), BalancedClient)


def test_scheduled_times_do_not_depend_on_the_number_of_servers() -> None:
    async def offsets(count: int) -> list[int]:
        async with over(*[good] * count) as (client, _):
            result = await measured(client, PoissonLoad(400.0, 20))
            return [record.scheduled_ns - result.started_ns for record in result.records]

    assert asyncio.run(offsets(1)) == asyncio.run(offsets(3))
