"""Stages of load against good servers: what is sent, and what is recorded of it."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad, ReplayLoad
from runtimes.load.generator import run_load
from runtimes.load.http import HttpClient
from runtimes.load.result import LoadProgress, Sum
from runtimes.load.sender import Share
from runtimes.load.shares import dealt, planned
from runtimes.workloads.base import Prompt
from tests.runtimes.load_servers import (
    DONE_EVENT,
    HOST,
    Request,
    chunk,
    completion_events,
    event,
    event_stream_head,
    good,
    sending,
    serving,
    silent,
    stream,
    token_event,
    usage_event,
)
from tests.runtimes.load_stages import job, load_at, load_handler, prompts

pytestmark = pytest.mark.usefixtures("either_loop")


@pytest.mark.parametrize(
    "load", [ConcurrencyLoad(4, 30), PoissonLoad(500.0, 30)], ids=["closed", "open"]
)
def test_every_request_of_a_good_server_is_recorded_in_full(load: Load) -> None:
    result, server = asyncio.run(load_handler(good, load))
    assert [record.index for record in result.records] == list(range(30))
    for record in result.records:
        assert record.error is None
        assert (record.prompt_tokens, record.output_tokens) == (4, 3)
        assert record.requested_output_tokens == 3
        assert len(record.chunk_ns) == 3
        times = [record.scheduled_ns, record.sent_ns, *record.chunk_ns, record.end_ns]
        assert times == sorted(times)
        assert result.started_ns <= record.scheduled_ns
        assert record.end_ns <= result.ended_ns
    asked = [request.json()["prompt"] for request in server.requests]
    assert sorted(asked, key=str) == sorted([list(p.token_ids) for p in prompts(30)], key=str)


def test_a_replay_has_a_connection_for_each_session_of_its_first_stays() -> None:
    """A burst of 90, 30 more within the stagger at this speed, and the rest later."""
    at_s = [0.0] * 90 + [3.0] * 30 + [10.0] * 80
    asked = [Prompt((number,), 1, at_s=when) for number, when in enumerate(at_s)]
    burst = replace(job(ReplayLoad(4.0, len(asked))), prompts=asked, stagger_s=1.0)
    shares = dealt(planned(burst), burst.load, 2)
    assert Share(burst, planned(burst)).connections == 120
    assert [Share(burst, one, number, 2).connections for number, one in enumerate(shares)] == [
        60, 60,
    ]  # fmt: skip
    assert Share(burst, shares[0][-10:], 0, 2).connections == 10
    at_once = replace(burst, stagger_s=0.0, prompts=asked[120:], load=ReplayLoad(1.0, 70))
    assert Share(at_once, planned(at_once)).connections == 70


def test_the_body_pins_length_sampling_and_usage() -> None:
    _, server = asyncio.run(load_handler(good, ConcurrencyLoad(1, 1)))
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].json() == {
        "model": "m",
        "prompt": [100, 0, 1, 2],
        "max_tokens": 3,
        "min_tokens": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "ignore_eos": True,
    }


def test_a_closed_loop_holds_its_concurrency_on_connections_opened_before() -> None:
    async def body() -> None:
        running, seen = 0, []
        together = asyncio.Event()

        async def counting(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal running
            running += 1
            seen.append(running)
            if running == 5:
                together.set()
            await together.wait()
            await good(request, writer)
            running -= 1

        async with serving(counting) as server:
            await load_at(server.port, ConcurrencyLoad(5, 40))
            assert max(seen) == 5
            assert server.connections == 5

    asyncio.run(body())


def test_an_open_loop_sends_on_schedule_whatever_the_server_does() -> None:
    async def body() -> None:
        load = PoissonLoad(200.0, 20)
        all_sent = asyncio.Event()
        waiting = itertools.count(1)

        async def holding(request: Request, writer: asyncio.StreamWriter) -> None:
            if next(waiting) == load.requests:
                all_sent.set()
            await all_sent.wait()
            await good(request, writer)

        async with serving(holding) as server:
            result = await load_at(server.port, load)
        offsets = tuple(record.scheduled_ns - result.started_ns for record in result.records)
        assert offsets == load.schedule_ns(7, prompts(load.requests))
        assert all(record.sent_ns >= record.scheduled_ns for record in result.records)
        assert all(record.error is None for record in result.records)

    asyncio.run(body())


def test_chunks_are_events_with_choices_and_tokens_are_of_usage() -> None:
    async def odd(request: Request, writer: asyncio.StreamWriter) -> None:
        tokens = [token_event(""), token_event(" two tokens"), token_event("", last=True)]
        pings = [b": ping\n\n", event({"choices": []})]
        await stream(writer, [*pings, *tokens, usage_event(4, 2), usage_event(4, 5), DONE_EVENT])

    result, _ = asyncio.run(load_handler(odd, ConcurrencyLoad(1, 1)))
    (record,) = result.records
    assert record.error is None
    assert len(record.chunk_ns) == 3
    assert record.output_tokens == 5


def test_a_stream_without_usage_succeeds_without_counts() -> None:
    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        await stream(writer, [token_event(), DONE_EVENT])

    result, _ = asyncio.run(load_handler(handler, ConcurrencyLoad(1, 1)))
    (record,) = result.records
    assert (record.error, record.prompt_tokens, record.output_tokens) == (None, None, None)


def test_what_the_connection_does_after_the_last_event_is_no_error() -> None:
    data = event_stream_head() + chunk(token_event()) + chunk(DONE_EVENT)
    result, _ = asyncio.run(load_handler(sending(data, close=True), ConcurrencyLoad(1, 2)))
    assert [record.error for record in result.records] == [None, None]


def test_progress_ends_with_the_totals() -> None:
    async def body() -> list[LoadProgress]:
        calls = itertools.count()
        progress: list[LoadProgress] = []

        async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(event_stream_head())
            writer.write(chunk(token_event()))
            await asyncio.sleep(0.6)
            if next(calls) == 1:
                writer.close()
                return
            for data in completion_events(request)[1:]:
                writer.write(chunk(data))
            writer.write(chunk(b""))

        async with serving(slow) as server:
            await load_at(server.port, ConcurrencyLoad(2, 4), progress=progress)
        return progress

    progress = asyncio.run(body())
    counts = [
        (one.completed, one.failed, one.planned, one.output_tokens, one.in_flight)
        for one in progress
    ]
    assert (0, 0, 4, 2, 2) in counts
    assert counts[-1] == (3, 1, 4, 10, 0)


def test_progress_tells_what_completed_requests_took_and_how_late_the_loop_ran() -> None:
    async def body() -> list[LoadProgress]:
        progress: list[LoadProgress] = []

        async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.3)
            await good(request, writer)

        async with serving(slow) as server:
            await load_at(server.port, ConcurrencyLoad(2, 4), progress=progress)
        return progress

    progress = asyncio.run(body())
    last = progress[-1]
    assert last.ttft_ms.count == 4
    mean_ms = last.ttft_ms.mean_since(Sum())
    assert mean_ms is not None
    assert mean_ms > 290
    assert last.ttft_ms.mean_since(last.ttft_ms) is None
    assert any(one.lag_ms > 0 for one in progress)


def test_cancelling_ends_every_request_and_leaves_no_task_behind() -> None:
    async def body() -> None:
        async with serving(silent) as server, HttpClient(HOST, server.port) as client:
            before = asyncio.all_tasks()
            task = asyncio.create_task(run_load(client, job(ConcurrencyLoad(4, 8))))
            await server.has_seen(4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() - before == server.tasks

    asyncio.run(body())


def test_too_few_prompts_are_refused() -> None:
    async def body() -> None:
        async with HttpClient(HOST, 1) as client:
            with pytest.raises(ValueError, match="10 requests, but got 8 prompts"):
                await run_load(client, replace(job(ConcurrencyLoad(4, 10)), prompts=prompts(8)))

    asyncio.run(body())
