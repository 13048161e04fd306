"""Stages of load as the tests run them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from runtimes.json_types import Json
from runtimes.load.address import ServerAddress
from runtimes.load.arrivals import Load
from runtimes.load.generator import run_load
from runtimes.load.http import HttpClient
from runtimes.load.job import LoadJob
from runtimes.load.result import LoadProgress, LoadResult
from runtimes.load.workers import LoadWorkers
from runtimes.slo import Slo
from runtimes.workloads.base import Prompt
from tests.runtimes.load_servers import HOST, Handler, Server, serving

FIELDS: Mapping[str, Json] = {"temperature": 0.0, "ignore_eos": True}


def prompts(count: int, *, tokens: int = 4, output: int = 3) -> list[Prompt]:
    """Prompts that differ in their first token."""
    return [Prompt((100 + index, *range(tokens - 1)), output) for index in range(count)]


def job(load: Load, *, timeout_s: float = 20.0, stall_s: float = 20.0) -> LoadJob:
    """The stage of `load` that tests run."""
    return LoadJob(prompts(load.requests), load, "m", FIELDS, 7, timeout_s, stall_s)


async def load_at(
    port: int,
    load: Load,
    *,
    timeout_s: float = 20.0,
    stall_s: float = 20.0,
    api_key: str | None = None,
    progress: list[LoadProgress] | None = None,
    slo: Slo | None = None,
) -> LoadResult:
    """A stage of `load` against the server on `port`."""
    async with HttpClient(HOST, port, api_key=api_key) as client:
        return await run_load(
            client,
            replace(job(load, timeout_s=timeout_s, stall_s=stall_s), slo=slo or Slo()),
            on_progress=None if progress is None else progress.append,
        )


async def load_handler(handler: Handler, load: Load) -> tuple[LoadResult, Server]:
    """A stage of `load` against `handler`."""
    async with serving(handler) as server:
        return await load_at(server.port, load), server


@asynccontextmanager
async def workers_at(
    handler: Handler, processes: int, *, api_key: str | None = None
) -> AsyncIterator[tuple[LoadWorkers, Server]]:
    """Workers, and the server of `handler` that they send to."""
    async with (
        serving(handler) as server,
        LoadWorkers(
            [ServerAddress(HOST, server.port)], processes=processes, api_key=api_key
        ) as workers,
    ):
        yield workers, server
