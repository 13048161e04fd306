"""What ends a stage before its last request."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad, StopRules
from runtimes.load.result import LoadResult
from runtimes.load.stop import BATCHES, MIN_PER_BATCH, StopJudge, breaks, relative_width
from runtimes.measurement import RequestRecord
from runtimes.slo import Slo, SloLimit
from tests.runtimes.load_servers import (
    Handler,
    Request,
    chunk,
    event_stream_head,
    good,
    response,
    serving,
    silent,
    token_event,
)
from tests.runtimes.load_stages import job, load_at, load_handler, workers_at

MS = 1_000_000


def record(
    index: int, *, ttft_ms: float = 10.0, tpot_ms: float = 1.0, error: str | None = None
) -> RequestRecord:
    """A request of eleven tokens that was sent at `index` ms."""
    first_ns = index * MS + int(ttft_ms * MS)
    chunk_ns = [first_ns, first_ns + int(10 * tpot_ms * MS)]
    return RequestRecord(
        index=index,
        scheduled_ns=index * MS,
        sent_ns=index * MS,
        chunk_ns=chunk_ns,
        end_ns=chunk_ns[-1],
        prompt_tokens=4,
        output_tokens=11,
        requested_output_tokens=11,
        error=error,
    )


def verdict(
    rules: StopRules,
    records: Sequence[RequestRecord],
    *,
    requests: int = 1000,
    limits: Sequence[SloLimit] = (),
    now_ns: int = 0,
) -> str:
    """The rule that holds after `records` in a stage that began at 0."""
    one = replace(job(ConcurrencyLoad(1, requests, rules)), slo=Slo(tuple(limits)))
    judge = StopJudge(one, 0)
    for each in records:
        judge.ended(each)
    return judge.verdict(now_ns)


def test_no_rule_holds_where_none_is_set() -> None:
    records = [record(index, error="http 500") for index in range(900)]
    assert verdict(StopRules(), records, now_ns=10**18) == ""


def test_the_duration_is_counted_from_the_start() -> None:
    assert verdict(StopRules(duration_s=2.0), [], now_ns=2 * 10**9 - 1) == ""
    assert verdict(StopRules(duration_s=2.0), [], now_ns=2 * 10**9) == "duration"


def test_output_tokens_are_those_of_ended_requests() -> None:
    rules = StopRules(output_tokens=33)
    assert verdict(rules, [record(0), record(1)]) == ""
    assert verdict(rules, [record(0), record(1), record(2)]) == "output_tokens"
    untold = [replace(record(index), output_tokens=None) for index in range(17)]
    assert verdict(rules, untold[:16]) == ""
    assert verdict(rules, untold) == "output_tokens"  # two chunks each


def test_an_error_rate_is_judged_once_ten_have_ended() -> None:
    rules = StopRules(error_rate=0.2)
    bad = [record(index, error="timeout") for index in range(3)]
    well = [record(index) for index in range(3, 20)]
    assert verdict(rules, bad + well[:6]) == ""
    assert verdict(rules, bad + well[:7]) == "error_rate"
    assert verdict(rules, bad + well[:12]) == ""


def test_an_interval_is_narrow_when_those_of_ttft_and_tpot_are() -> None:
    random = np.random.default_rng(5)
    rules = StopRules(interval_width=0.1)

    def records(count: int, spread_ttft: float, spread_tpot: float) -> list[RequestRecord]:
        ttft = 100 + spread_ttft * random.standard_normal(count)
        tpot = 10 + spread_tpot * random.standard_normal(count)
        return [
            record(i, ttft_ms=a, tpot_ms=b) for i, (a, b) in enumerate(zip(ttft, tpot, strict=True))
        ]

    assert verdict(rules, records(99, 0, 0)) == ""
    assert verdict(rules, records(100, 0, 0)) == "interval_width"
    assert verdict(rules, records(400, 20, 2)) == "interval_width"
    assert verdict(rules, records(400, 100, 2)) == ""
    assert verdict(rules, records(400, 20, 10)) == ""


def test_a_width_is_that_of_the_interval_it_names() -> None:
    random = np.random.default_rng(11)
    inside = 0
    for _ in range(400):
        values = random.exponential(1.0, 400)
        half = relative_width(values.tolist()) * values.mean() / 2
        inside += abs(values.mean() - 1.0) <= half
    assert 0.92 <= inside / 400 <= 0.98
    assert relative_width([1.0] * (BATCHES * MIN_PER_BATCH - 1)) == float("inf")
    assert relative_width([0.0] * 1000) == float("inf")


@given(
    values=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60),
    rest=st.integers(0, 60),
    percentile=st.sampled_from([0.0, 50.0, 90.0, 99.0, 99.9, 100.0]),
    limit_ms=st.floats(0, 100),
)
def test_a_limit_out_of_reach_is_missed_by_numpys_percentile_as_well(
    values: list[float], rest: int, percentile: float, limit_ms: float
) -> None:
    limit = SloLimit("ttft_ms", f"p{percentile:g}", limit_ms)
    planned = len(values) + rest
    if breaks(values, limit, planned):
        for ended in range(len(values), planned + 1):  # the others meet it, or never end
            everything = values + [0.0] * (ended - len(values))
            assert np.percentile(everything, percentile) > limit_ms
    if breaks(values, replace(limit, statistic="mean"), planned):
        assert np.mean(values + [0.0] * rest) > limit_ms * (1 - 1e-9)


def test_hopeless_is_what_the_requests_to_come_cannot_mend() -> None:
    rules, p90 = StopRules(hopeless=True), SloLimit("ttft_ms", "p90", 50.0)
    slow = [record(index, ttft_ms=60) for index in range(20)]
    assert verdict(rules, slow[:10], requests=100, limits=[p90]) == ""
    assert verdict(rules, slow[:11], requests=100, limits=[p90]) == "hopeless"
    assert verdict(rules, slow[:11], requests=1000, limits=[p90]) == ""
    assert verdict(StopRules(), slow, requests=20, limits=[p90]) == ""
    quick = [record(index) for index in range(20, 60)]
    assert verdict(rules, slow + quick, requests=100, limits=[p90]) == ""  # a slow start
    itl = SloLimit("itl_ms", "p90", 0.001)
    assert verdict(rules, slow, requests=20, limits=[itl]) == ""
    mean = SloLimit("e2e_ms", "mean", 30.0)
    assert verdict(rules, slow, requests=40, limits=[mean]) == "hopeless"
    assert verdict(rules, slow, requests=80, limits=[mean]) == ""


def stage(handler: Handler, load: Load, *, slo: Slo | None = None) -> LoadResult:
    """A stage of `load` against `handler`."""

    async def body() -> LoadResult:
        async with serving(handler) as server:
            return await load_at(server.port, load, slo=slo)

    return asyncio.run(body())


def test_a_stage_for_a_time_says_that_its_prompts_ran_out_before() -> None:
    reserve = StopRules(duration_s=60.0, reserve=True)
    assert stage(good, ConcurrencyLoad(2, 6, reserve)).stopped_by == "prompts"
    wanted = replace(reserve, reserve=False)
    assert stage(good, ConcurrencyLoad(2, 6, wanted)).stopped_by == ""


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_what_is_in_flight_at_the_end_of_the_duration_is_awaited(kind: str) -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        await good(request, writer)

    stop = StopRules(duration_s=0.5, reserve=True)
    load = ConcurrencyLoad(3, 500, stop) if kind == "closed" else PoissonLoad(50.0, 500, stop)
    result = stage(slow, load)
    assert result.stopped_by == "duration"
    assert 3 <= len(result.records) < 100
    assert {one.error for one in result.records} == {None}
    end_ns = result.started_ns + 10**9 // 2
    assert any(one.end_ns > end_ns for one in result.records)
    assert result.last_arrival_ns is not None
    last_ns = max(one.scheduled_ns for one in result.records)
    if kind == "open":
        assert result.last_arrival_ns == last_ns
    else:  # its slots were all taken, and would have been until then
        assert result.last_arrival_ns >= end_ns > last_ns


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_a_duration_stops_nothing_where_nothing_was_left_to_send(processes: int) -> None:
    async def body() -> LoadResult:
        async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.6)
            await good(request, writer)

        load = ConcurrencyLoad(4, 4, StopRules(duration_s=0.4))
        if not processes:
            return (await load_handler(slow, load))[0]
        async with workers_at(slow, processes) as (workers, _):
            return await workers.run(job(load))

    result = asyncio.run(body())
    assert [one.error for one in result.records] == [None] * 4
    assert result.stopped_by == ""
    assert result.ended_ns - result.started_ns >= 6 * 10**8


def test_a_hopeless_stage_leaves_no_record_of_what_it_abandons() -> None:
    calls = itertools.count()

    async def answers_some(request: Request, writer: asyncio.StreamWriter) -> None:
        if next(calls) < 12:
            await good(request, writer)
        else:
            writer.write(event_stream_head() + chunk(token_event()))
            await silent(request, writer)

    load = ConcurrencyLoad(4, 100, StopRules(hopeless=True))
    slo = Slo((SloLimit("ttft_ms", "p90", 1e-6),))
    result = stage(answers_some, load, slo=slo)
    assert result.stopped_by == "hopeless"
    assert [one.error for one in result.records] == [None] * 12
    assert result.client is not None
    assert result.client.held_ratio is not None


def test_too_many_errors_end_a_stage_whose_server_lives() -> None:
    calls = itertools.count()

    async def flaky(request: Request, writer: asyncio.StreamWriter) -> None:
        if next(calls) % 2:
            await good(request, writer)
        else:
            writer.write(response(b"", status=503))
            await asyncio.sleep(0.02)

    result = stage(flaky, ConcurrencyLoad(2, 5000, StopRules(error_rate=0.3)))
    assert result.stopped_by == "error_rate"
    assert 10 <= len(result.records) < 5000


def test_a_queue_that_grows_ends_an_open_loop() -> None:
    async def body() -> LoadResult:
        turn = asyncio.Lock()

        async def one_at_a_time(request: Request, writer: asyncio.StreamWriter) -> None:
            async with turn:
                await asyncio.sleep(0.01)
                await good(request, writer)

        async with serving(one_at_a_time) as server:
            return await load_at(server.port, PoissonLoad(250.0, 5000, StopRules(hopeless=True)))

    result = asyncio.run(body())
    assert result.stopped_by == "hopeless"
    assert len(result.records) < 2000
