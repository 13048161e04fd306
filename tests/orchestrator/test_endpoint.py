"""What is read from servers over HTTP, where they answer in ways of their own."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus

from orchestrator.endpoint import QUICK_S, Endpoint
from orchestrator.engine_session import EngineSession, IdleCounters
from runtimes.engines.base import create_engine
from runtimes.json_types import Json
from runtimes.load.address import ServerAddress
from tests.orchestrator.attempts import order

CACHE: Json = {"reusedBlocks": 4, "missedBlocks": 16, "tokensPerBlock": 32}
BUSY: Json = {"iter": 154, "numActiveRequests": 3, "numQueuedRequests": 2, "kvCacheStats": CACHE}
LAST: Json = {"iter": 155, "numActiveRequests": 0, "numQueuedRequests": 0, "kvCacheStats": CACHE}


class Iterations:
    """Answers as `trtllm-serve` 1.2 does: each iteration is told once, and none while idle."""

    def __init__(self, *told: list[Json]) -> None:
        self._told = list(told)
        self.status = HTTPStatus.OK

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                body = json.dumps(self._told.pop(0) if self._told else []).encode()
                head = f"HTTP/1.1 {self.status} x\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()


async def session_of(answers: Iterations) -> tuple[asyncio.Server, EngineSession]:
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    engine = create_engine("tensorrt_llm")
    endpoint = Endpoint(engine, ServerAddress("127.0.0.1", server.sockets[0].getsockname()[1]))
    return server, EngineSession(order(), engine, processes=(), endpoints=[endpoint], facts={})


def test_counters_of_an_idle_server_stand_though_it_does_not_repeat_them() -> None:
    async def counted() -> tuple[dict[str, float], int]:
        server, session = await session_of(Iterations([BUSY], [LAST]))
        async with server:
            counters, idle = await session.idle_counters(0)
            assert idle
            await session.close()
        running = [one for one in session.samples if one.metric == "requests_running"]
        return counters, len(running)

    counters, running = asyncio.run(counted())
    assert counters == {"prefix_cache_hits_total": 128.0, "prefix_cache_queries_total": 640.0}
    assert running == 2, "a gauge is only what the server says of this moment"


def test_an_engine_in_which_requests_still_run_is_waited_for_and_not_called_idle() -> None:
    async def counted(told: Iterations, busy_s: float) -> IdleCounters:
        server, session = await session_of(told)
        async with server:
            found = await session.idle_counters(0, busy_s=busy_s)
            await session.close()
        return found

    never = Iterations(*([BUSY] for _ in range(50)))
    assert not asyncio.run(counted(never, 0.5)).idle
    # Longer than counters may take to stand still: what runs is waited for all the same.
    queued: Json = {**LAST, "numQueuedRequests": 1} if isinstance(LAST, dict) else None
    in_time = Iterations(*([queued] for _ in range(round(QUICK_S / 0.1) + 5)), [LAST])
    found = asyncio.run(counted(in_time, 60.0))
    assert found.idle
    assert found.counters["prefix_cache_queries_total"] == 640.0


def test_a_server_that_does_not_answer_has_no_counters() -> None:
    async def scraped() -> list[set[str]]:
        answers = Iterations([LAST])
        server, session = await session_of(answers)
        async with server:
            first = await session.scrape()
            answers.status = HTTPStatus.INTERNAL_SERVER_ERROR
            second = await session.scrape()
            await session.close()
        return [set(first), set(second)]

    first, second = asyncio.run(scraped())
    assert "prefix_cache_hits_total" in first
    assert second == set()
