"""Conversations, and closed loops whose concurrency changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from runtimes.load.arrivals import ConcurrencyLoad, ConstantLoad, Load, PoissonLoad, RampLoad
from runtimes.load.balanced import BalancedClient
from runtimes.load.generator import run_load
from runtimes.load.http import HttpClient
from runtimes.load.job import LoadJob
from runtimes.load.result import LoadProgress, LoadResult
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.workloads.base import Prompt
from tests.runtimes.load_servers import (
    HOST,
    Handler,
    Request,
    chunk,
    completion_events,
    event_stream_head,
    good,
    response,
    serving,
)
from tests.runtimes.load_stages import job

pytestmark = pytest.mark.usefixtures("either_loop")


def talks(count: int, turns: int, *, think_s: float = 0.0) -> list[Prompt]:
    """Prompts of `count` conversations; the first token says which, the second the turn."""
    return [
        Prompt((talk, turn), 2, session=talk, turn=turn, think_s=think_s)
        for talk in range(count)
        for turn in range(turns)
    ]


def talking(load: Load, prompts: list[Prompt]) -> LoadJob:
    return replace(job(load), prompts=prompts)


def run_at(
    handler: Handler, one: LoadJob, *, progress: list[LoadProgress] | None = None
) -> LoadResult:
    async def body() -> LoadResult:
        async with serving(handler) as server, HttpClient(HOST, server.port) as client:
            on_progress = None if progress is None else progress.append
            return await run_load(client, one, on_progress=on_progress)

    return asyncio.run(body())


@pytest.mark.parametrize(
    "load", [ConcurrencyLoad(3, 24), PoissonLoad(400.0, 24)], ids=["closed", "open"]
)
def test_a_turn_waits_for_the_one_before_and_its_user(load: Load) -> None:
    prompts = talks(8, 3, think_s=0.01)
    result = run_at(good, talking(load, prompts))
    assert [(record.session, record.turn) for record in result.records] == [
        (talk, turn) for talk in range(8) for turn in range(3)
    ]
    for before, after in pairwise(result.records):
        if after.turn:
            assert after.scheduled_ns == before.end_ns + 10_000_000
            assert after.sent_ns >= after.scheduled_ns
    if not isinstance(load, ConcurrencyLoad):
        offsets = [one.scheduled_ns - result.started_ns for one in result.records if not one.turn]
        assert tuple(offsets) == load.schedule_ns(7, prompts[::3])


@pytest.mark.parametrize("turns", [1, 4], ids=["slots", "turns"])
def test_a_body_that_goes_on_after_its_last_event_is_time_the_load_was_not_held(
    turns: int,
) -> None:
    async def ends_late(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(event_stream_head())
        for one in completion_events(request):
            await asyncio.sleep(0.01)
            writer.write(chunk(one))
        await asyncio.sleep(0.1)
        writer.write(chunk(b""))

    result = run_at(ends_late, talking(ConcurrencyLoad(2, 16), talks(16 // turns, turns)))
    assert {one.error for one in result.records} == {None}
    ends_ns = {one.end_ns for one in result.records}
    followers = sorted(result.records, key=lambda one: one.scheduled_ns)[2:]
    for one in followers:
        assert one.scheduled_ns in ends_ns, "due when the one before it had ended"
        assert one.sent_ns - one.scheduled_ns >= 90_000_000
    assert result.client is not None
    assert result.client.held_ratio is not None
    assert result.client.held_ratio < 0.6
    assert "client_limited" in summarise(result, Slo()).flags


def test_a_turn_that_fails_ends_its_conversation_only() -> None:
    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.json()["prompt"] == [1, 1]:
            writer.write(response(b"", status=500))
        else:
            await good(request, writer)

    progress: list[LoadProgress] = []
    result = run_at(handler, talking(ConcurrencyLoad(2, 12), talks(3, 4)), progress=progress)
    assert [(record.session, record.turn) for record in result.records] == [
        *((0, turn) for turn in range(4)),
        *((1, turn) for turn in range(2)),
        *((2, turn) for turn in range(4)),
    ]
    assert [record.error for record in result.records if record.error] == ["http 500"]
    assert progress[-1].planned == 12
    assert (progress[-1].completed, progress[-1].failed) == (9, 1)


def test_a_load_that_ends_within_a_conversation_leaves_its_rest_out() -> None:
    result = run_at(good, talking(ConcurrencyLoad(2, 5), talks(3, 4)))
    assert [(record.session, record.turn) for record in result.records] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
    ]


def test_a_closed_loop_holds_conversations_not_requests() -> None:
    running: set[int] = set()
    peak = 0

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal peak
        prompt = request.json()["prompt"]
        assert isinstance(prompt, list)
        talk, turn = int(str(prompt[0])), int(str(prompt[1]))
        running.add(talk)
        peak = max(peak, len(running))
        if turn == 2:
            running.discard(talk)
        await good(request, writer)

    run_at(handler, talking(ConcurrencyLoad(2, 18), talks(6, 3, think_s=0.005)))
    assert peak == 2


def test_all_turns_of_a_conversation_go_to_one_server() -> None:
    async def body() -> None:
        async with serving(good) as first, serving(good) as second, serving(good) as third:
            servers = (first, second, third)
            clients = [HttpClient(HOST, server.port) for server in servers]
            client = BalancedClient(clients)
            await run_load(client, talking(ConcurrencyLoad(4, 36), talks(12, 3)))
            await client.close()
        for number, server in enumerate(servers):
            asked = [request.json()["prompt"] for request in server.requests]
            talks_here = {int(str(one[0])) for one in asked if isinstance(one, list)}
            assert talks_here == {talk for talk in range(12) if talk % 3 == number}
            assert len(asked) == 12

    asyncio.run(body())


def begins(result: LoadResult) -> list[float]:
    """When each request was scheduled, s after the start."""
    return sorted((one.scheduled_ns - result.started_ns) / 1e9 for one in result.records)


async def in_step(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.2)
    await good(request, writer)


def test_the_first_wave_is_spread_over_the_stagger() -> None:
    result = run_at(in_step, replace(job(ConcurrencyLoad(10, 20)), stagger_s=0.2))
    first = begins(result)[:10]
    for number, at_s in enumerate(first):
        assert at_s >= number * 0.02
    assert result.client is not None
    together = run_at(in_step, job(ConcurrencyLoad(10, 20)))
    assert len({one.scheduled_ns for one in together.records[:10]}) == 1


def test_a_ramp_of_concurrency_is_followed() -> None:
    running = peak = 0
    at_once: list[int] = []

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        at_once.append(running)
        await asyncio.sleep(0.01)
        running -= 1
        await good(request, writer)

    rising = run_at(handler, job(RampLoad("concurrency", 1, 6, 0.5, 200)))
    assert len(rising.records) == 200
    assert peak == 6
    assert at_once[0] == 1
    assert begins(rising)[1] >= 0.01  # a single one at first
    peak = 0
    falling = run_at(handler, job(RampLoad("concurrency", 6, 2, 0.2, 150)))
    assert len(falling.records) == 150
    assert peak == 6
    assert max(at_once[-40:]) <= 2


def test_late_sends_are_made_at_once_and_show_as_late() -> None:
    async def body() -> LoadResult:
        async with serving(good) as server, HttpClient(HOST, server.port) as client:
            load = asyncio.create_task(run_load(client, job(ConstantLoad(100.0, 30))))
            await server.has_seen(5)
            busy_until = asyncio.get_running_loop().time() + 0.15
            while asyncio.get_running_loop().time() < busy_until:
                pass  # the loop stands still
            return await load

    result = asyncio.run(body())
    offsets = [one.scheduled_ns - result.started_ns for one in result.records]
    assert offsets == list(ConstantLoad(100.0, 30).schedule_ns(7, job(ConstantLoad(1, 30)).prompts))
    late_ms = [(one.sent_ns - one.scheduled_ns) / 1e6 for one in result.records]
    assert max(late_ms) > 50
    assert result.client is not None
    assert result.client.send_lateness_p99_ms > 50
    assert result.client.lag_max_ms > 100
