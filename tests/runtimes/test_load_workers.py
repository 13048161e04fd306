"""Loads sent from worker processes: what they record together."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

import pytest
import uvloop
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad, ReplayLoad, StopRules
from runtimes.load.generator import run_load
from runtimes.load.http import HttpClient
from runtimes.load.job import LoadJob
from runtimes.load.result import LoadResult
from runtimes.load.workers import LoadWorkers, Server, processes_for
from runtimes.slo import Slo, SloLimit
from runtimes.statistics import summarise
from runtimes.workloads.base import Prompt
from tests.runtimes.load_servers import HOST, Request, good, serving
from tests.runtimes.load_stages import job, prompts, workers_at

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-not-for-your-eyes"


def sent(result: LoadResult) -> list[tuple[object, ...]]:
    """What each record says that no clock decides."""
    return [
        (
            record.index,
            record.session,
            record.turn,
            record.sent_tokens,
            record.requested_output_tokens,
            record.output_tokens,
            len(record.chunk_ns),
            record.error,
        )
        for record in result.records
    ]


def begun(result: LoadResult) -> dict[int, int]:
    """When the first turn of each session was scheduled, by index, after the stage's start."""
    return {
        record.index: record.scheduled_ns - result.started_ns
        for record in result.records
        if record.turn == 0
    }


@dataclass(frozen=True, slots=True)
class Bench:
    """A server, a client of this process, and one, two and three workers, on one loop."""

    runner: asyncio.Runner
    client: HttpClient
    workers: tuple[LoadWorkers, ...]

    def results(self, one: LoadJob) -> list[LoadResult]:
        """What each of them records."""

        async def run() -> list[LoadResult]:
            alone = await run_load(self.client, one)
            return [alone, *[await workers.run(one) for workers in self.workers]]

        return self.runner.run(run())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    stack = AsyncExitStack()

    async def entered() -> tuple[HttpClient, tuple[LoadWorkers, ...]]:
        server = await stack.enter_async_context(serving(good))
        client = await stack.enter_async_context(HttpClient(HOST, server.port))
        address = Server(HOST, server.port)
        workers = [LoadWorkers([address], processes=count) for count in (1, 2, 3)]
        return client, tuple([await stack.enter_async_context(one) for one in workers])

    with asyncio.Runner() as runner:
        yield Bench(runner, *runner.run(entered()))
        runner.run(stack.aclose())


LOADS = st.one_of(
    st.builds(lambda value: ConcurrencyLoad(value, 1), st.integers(1, 6)),
    st.builds(lambda rate: PoissonLoad(rate, 1), st.floats(300, 3000)),
)


@st.composite
def jobs(draw: st.DrawFn) -> LoadJob:
    """Stages of a few sessions, some of one request and some of several turns."""
    asked: list[Prompt] = []
    for session in range(draw(st.integers(1, 8))):
        turns = draw(st.integers(0, 3))  # 0: a request of no session
        for turn in range(max(1, turns)):
            tokens = tuple(range(draw(st.integers(1, 5))))
            number = session if turns else None
            output = draw(st.integers(1, 4))
            think_s = draw(st.sampled_from([0.0, 0.002]))
            asked.append(Prompt(tokens, output, session=number, turn=turn, think_s=think_s))
    load = replace(draw(LOADS), requests=len(asked))
    return replace(job(load), prompts=asked, seed=draw(st.integers(0, 1000)))


# No shrinking: a stage that hangs would be tried for minutes.
@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(job=jobs())
def test_merged_workers_equal_one(bench: Bench, job: LoadJob) -> None:
    alone, *merged = bench.results(job)
    assert [record.index for record in alone.records] == list(range(len(job.prompts)))
    firsts = [index for index, prompt in enumerate(job.prompts) if prompt.turn == 0]
    schedule = job.load.schedule_ns(job.seed, [job.prompts[index] for index in firsts])
    for result in [alone, *merged]:
        assert sent(result) == sent(alone)
        assert {record[-1] for record in sent(result)} == {None}
        if schedule is not None:
            assert begun(result) == dict(zip(firsts, schedule, strict=True))
            assert result.last_arrival_ns == result.started_ns + schedule[-1]
        for _, turns in groupby(result.records, key=lambda record: record.session):
            ordered = list(turns)
            if ordered[0].session is None:
                continue
            for before, after in pairwise(ordered):
                think_ns = job.prompts[after.index].think_s * 1e9
                assert after.scheduled_ns - before.end_ns >= think_ns
    most = min(len(firsts), job.load.held(0.0) or 3)
    assert [result.client.processes for result in merged if result.client] == [
        min(count, most) for count in (1, 2, 3)
    ]


def test_the_union_of_a_thinned_poisson_schedule_is_the_whole_one() -> None:
    async def body() -> LoadResult:
        async with workers_at(good, 3) as (workers, _):
            return await workers.run(job(PoissonLoad(400.0, 200)))

    result = asyncio.run(body())
    expected = PoissonLoad(400.0, 200).schedule_ns(7, prompts(200))
    assert tuple(begun(result).values()) == expected
    assert all(record.sent_ns >= record.scheduled_ns for record in result.records)
    assert result.last_arrival_ns == result.started_ns + expected[-1]


def test_workers_hold_a_concurrency_together() -> None:
    async def body() -> None:
        together = asyncio.Barrier(5)
        running = peak = 0

        async def meeting(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await together.wait()
            await good(request, writer)
            running -= 1

        async with workers_at(meeting, 2) as (workers, _):
            result = await workers.run(job(ConcurrencyLoad(5, 20)))
        assert len(result.records) == 20
        assert peak == 5

    asyncio.run(body())


@pytest.mark.parametrize("processes", [1, 2])
def test_conversations_are_spread_over_the_servers_and_stay_on_one(processes: int) -> None:
    async def body() -> list[set[str]]:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(serving(good)) for _ in range(2)]
            addresses = [Server(HOST, server.port) for server in servers]
            workers = await stack.enter_async_context(LoadWorkers(addresses, processes=processes))
            turns = [
                Prompt((session,), 1, session=session, turn=turn)
                for session in range(4)
                for turn in range(2)
            ]
            await workers.run(replace(job(ConcurrencyLoad(4, 8)), prompts=turns))
            return [{str(one.json()["prompt"]) for one in server.requests} for server in servers]

    assert asyncio.run(body()) == [{"[0]", "[2]"}, {"[1]", "[3]"}]


def listing(pid: int, name: str) -> bytes:
    """A file of a process in `/proc`."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def test_the_key_reaches_the_server_and_no_listing_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_SETTING", f"key={KEY}")
    monkeypatch.setenv("OTHER_TOKEN", "another secret")

    async def body() -> None:
        async with workers_at(good, 1, api_key=KEY) as (workers, server):
            await workers.run(job(ConcurrencyLoad(1, 1)))
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
            for pid in workers.pids:
                listed, environment = (listing(pid, name) for name in ("cmdline", "environ"))
                assert KEY.encode() not in listed + environment
                assert b"another secret" not in environment
                assert b"PYTHONPATH=" + str(ROOT).encode() in environment

    asyncio.run(body())


def test_a_worker_has_no_socket_of_its_parent() -> None:
    def sockets(pid: int) -> set[str]:
        files = list(Path(f"/proc/{pid}/fd").iterdir())
        return {str(file.readlink()) for file in files if file.is_socket()}

    async def body() -> None:
        async with workers_at(good, 2) as (workers, _):
            await workers.run(job(ConcurrencyLoad(4, 8)))
            first, second = (sockets(pid) for pid in workers.pids)
            assert first
            assert second
            assert not first & second
            assert not (first | second) & sockets(os.getpid())

    asyncio.run(body())


def test_a_slot_that_is_busy_when_a_stage_is_stopped_had_not_run_out() -> None:
    """One request of the first wave takes much longer than the stage lasts."""
    long_s, stage_s = 3.0, 1.0

    async def body() -> list[LoadResult]:
        async def one_long(request: Request, writer: asyncio.StreamWriter) -> None:
            first = request.json()["prompt"] == list(prompts(1)[0].token_ids)
            await asyncio.sleep(long_s if first else 0.01)
            await good(request, writer)

        one = job(ConcurrencyLoad(3, 10_000, StopRules(duration_s=stage_s)))
        found = []
        async with serving(one_long) as server:
            async with HttpClient(HOST, server.port) as client:
                found.append(await run_load(client, one))
            for count in (1, 2, 3):
                async with LoadWorkers([Server(HOST, server.port)], processes=count) as workers:
                    found.append(await workers.run(one))
        return found

    for result in asyncio.run(body()):
        assert result.stopped_by == "duration"
        assert result.last_arrival_ns is not None
        last_s = (result.last_arrival_ns - result.started_ns) / 1e9
        assert stage_s <= last_s < long_s
        measured = summarise(result, Slo(), ConcurrencyLoad(3, 10_000))
        assert measured.window is not None
        assert measured.window.rule == "tail"
        assert measured.window.end_s < long_s


def test_rules_are_judged_over_all_workers() -> None:
    async def body() -> tuple[LoadResult, LoadResult]:
        async with workers_at(good, 2) as (workers, _):
            stop = StopRules(output_tokens=60)
            tokens = await workers.run(job(ConcurrencyLoad(2, 3_000, stop)))
            slo = Slo((SloLimit("ttft_ms", "p99", 1e-6),))
            hopeless = job(ConcurrencyLoad(2, 100, StopRules(hopeless=True)))
            return tokens, await workers.run(replace(hopeless, slo=slo))

    tokens, hopeless = asyncio.run(body())
    assert tokens.stopped_by == "output_tokens"
    assert sum(record.output_tokens or 0 for record in tokens.records) >= 60
    assert len(tokens.records) < 3_000
    assert hopeless.stopped_by in ("hopeless", "")  # all may have ended before anybody looked


def test_any_loop_in_any_thread() -> None:
    results: list[LoadResult] = []

    async def body() -> None:
        async with workers_at(good, 1) as (workers, _):
            results.append(await workers.run(job(ConcurrencyLoad(2, 6))))

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(body())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [record.error for record in results[0].records] == [None] * 6


def test_too_few_prompts_are_refused_before_anything_is_sent() -> None:
    async def body() -> None:
        async with workers_at(good, 1) as (workers, server):
            with pytest.raises(ValueError, match="10 requests, but got 8 prompts"):
                await workers.run(replace(job(ConcurrencyLoad(4, 10)), prompts=prompts(8)))
            assert not server.requests

    asyncio.run(body())


@pytest.mark.parametrize(
    ("load", "turns", "expected"),
    [
        (ConcurrencyLoad(256, 1), [1], 1),
        (ConcurrencyLoad(257, 1), [1], 2),
        (ConcurrencyLoad(10_000, 1), [1], 8),
        (PoissonLoad(100.0, 1), [600], 1),
        (PoissonLoad(100.0, 1), [602], 2),
        (PoissonLoad(100.0, 1), [400, 201], 2),  # a session's answers count together
        (PoissonLoad(0.1, 1), [1], 1),
        (PoissonLoad(1e308, 1), [640], 8),  # beyond what a float holds
        (ReplayLoad(1.0, 1), [6000], 1),  # ten sessions in two seconds
        (ReplayLoad(10.0, 1), [6000], 1),
        (ReplayLoad(10.0, 1), [18_000], 3),  # within one second, whatever the speed
    ],
)
def test_processes_are_as_many_as_a_load_is_worth(
    load: Load, turns: list[int], expected: int
) -> None:
    sample = [
        Prompt((1,), tokens, session=session, turn=turn, at_s=session / 4.5)
        for session in range(10)
        for turn, tokens in enumerate(turns)
    ]
    assert processes_for(load, sample, most=8) == expected
