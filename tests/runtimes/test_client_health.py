"""What the load generator says of itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from time import perf_counter_ns

import pytest

from runtimes.load.arrivals import ConcurrencyLoad, PoissonLoad, RampLoad
from runtimes.load.health import LAG_EVERY_S, LoopProbe, ProcessHealth, client_health, held_ratio
from runtimes.load.result import LoadAborted
from runtimes.measurement import RequestRecord
from runtimes.slo import Slo
from runtimes.statistics import summarise
from tests.runtimes.load_servers import (
    DONE_EVENT,
    Request,
    chunk,
    event_stream_head,
    response,
    sending,
    token_event,
    usage_event,
)
from tests.runtimes.load_stages import job, load_handler

S = 1_000_000_000


def record(index: int, scheduled_s: float, sent_s: float, end_s: float) -> RequestRecord:
    return RequestRecord(
        index=index,
        scheduled_ns=int(scheduled_s * S),
        sent_ns=int(sent_s * S),
        chunk_ns=[int(end_s * S) - 2, int(end_s * S) - 2, int(end_s * S) - 1],
        end_ns=int(end_s * S),
        prompt_tokens=1,
        output_tokens=3,
        requested_output_tokens=3,
    )


def health(**changes: float) -> ProcessHealth:
    values: dict[str, float] = {
        "cpu_s": 1.0,
        "duration_s": 4.0,
        "lag_p99_ms": 1.0,
        "lag_max_ms": 2.0,
        "connections_opened": 0,
        "last_arrival_ns": 0,
    }
    return ProcessHealth(**{**values, **changes})  # type: ignore[arg-type]


def test_a_loop_that_stands_still_is_late_for_every_timer_that_was_due() -> None:
    async def body() -> ProcessHealth:
        probe = LoopProbe()
        probe.start(perf_counter_ns())
        await asyncio.sleep(0.2)
        time.sleep(0.3)  # noqa: ASYNC251 (that is the point)
        await asyncio.sleep(0.05)
        probe.stop()
        return probe.health(connections_opened=3, last_arrival_ns=7)

    found = asyncio.run(body())
    assert found.lag_max_ms >= 280
    assert found.lag_p99_ms >= 250
    assert (found.connections_opened, found.last_arrival_ns) == (3, 7)
    assert found.duration_s >= 0.55
    assert found.cpu_s < found.duration_s


def test_half_of_a_time_at_a_stand_is_half_of_the_lags() -> None:
    async def body() -> LoopProbe:
        probe = LoopProbe()
        probe.start(perf_counter_ns() - int(100 * LAG_EVERY_S * S))  # it was due 100 times
        await asyncio.sleep(0)
        probe.stop()
        return probe

    assert asyncio.run(body()).health(connections_opened=0, last_arrival_ns=0).lag_p99_ms >= 980


def test_the_cpu_of_a_process_is_counted() -> None:
    async def body() -> ProcessHealth:
        probe = LoopProbe()
        probe.start(perf_counter_ns())
        used_s = time.process_time() + 0.2
        while time.process_time() < used_s:
            pass
        probe.stop()
        return probe.health(connections_opened=0, last_arrival_ns=0)

    assert asyncio.run(body()).cpu_s >= 0.2


def test_several_processes_are_as_well_as_their_worst() -> None:
    one = job(ConcurrencyLoad(2, 3))
    records = [record(0, 0, 0, 1), record(1, 0, 0.002, 1), record(2, 1, 1.001, 2)]
    found = client_health(
        [health(), health(cpu_s=2.0, lag_p99_ms=0.5, lag_max_ms=9.0, connections_opened=2)],
        records,
        one,
        0,
        S,
    )
    assert found.processes == 2
    assert (found.cpu_s, found.cpu_share) == (3.0, 0.5)
    assert (found.lag_p99_ms, found.lag_max_ms) == (1.0, 9.0)
    assert found.connections_opened == 2
    assert found.send_lateness_p99_ms == pytest.approx(2.0)
    assert found.chunks_per_read == 1.5
    assert found.held_ratio == pytest.approx(1 - 0.002 / 2)


def test_failed_requests_say_nothing_of_lateness_and_reads() -> None:
    failed = replace(record(0, 0, 1, 1), error="connection refused")
    found = client_health([health()], [failed], job(PoissonLoad(1.0, 1)), 0, S)
    assert (found.send_lateness_p99_ms, found.chunks_per_read, found.held_ratio) == (0, 0, None)


def test_what_is_held_is_counted_from_the_stagger_to_the_last_begin() -> None:
    one = replace(job(ConcurrencyLoad(2, 4)), stagger_s=1.0)
    records = [
        record(0, 0.0, 0.5, 2.0),  # late before the end of the stagger
        record(1, 0.5, 1.1, 3.0),  # 0.1 s of it afterwards
        record(2, 2.0, 2.3, 4.0),  # 0.3 s
        record(3, 3.0, 4.0, 5.0),  # when nothing was left to send
    ]
    assert held_ratio(records, one, 0, 3 * S) == pytest.approx(1 - 0.4 / 2 / 2)
    assert held_ratio(records, one, 0, S) is None
    assert held_ratio(records, job(PoissonLoad(1.0, 4)), 0, 3 * S) is None
    ramp = job(RampLoad("concurrency", 1, 3, 2.0, 4))
    grown = [record(0, 0, 0, 9), record(1, 0.5, 0.5, 9), records[2]]
    assert held_ratio(grown, ramp, 0, 4 * S) == pytest.approx(1 - 0.3 / 4 / 2.5, rel=1e-3)


def test_a_loop_that_never_began_its_streams_did_not_hold_them() -> None:
    few = [record(number, 0.0, 0.0, 1.0) for number in range(20)]
    assert held_ratio(few, job(ConcurrencyLoad(512, 20)), 0, 0) == 20 / 512
    turns = [replace(one, turn=number % 5) for number, one in enumerate(few)]
    assert held_ratio(turns, job(ConcurrencyLoad(8, 20)), 0, 0) == 4 / 8
    staggered = replace(job(ConcurrencyLoad(4, 100)), stagger_s=2.0)
    stopped = [record(number, number / 2, number / 2, 9.0) for number in range(3)]
    assert held_ratio(stopped, staggered, 0, S) == 3 / 4
    quick = [record(number, number / 100, number / 100, 9.0) for number in range(50)]
    assert held_ratio(quick, staggered, 0, S // 2) == 1 / 4


def test_requests_that_failed_say_nothing_of_what_is_held() -> None:
    one = job(ConcurrencyLoad(1, 4))
    refused = [
        replace(record(number, number, number + 0.3, number + 1), error="http 503")
        for number in range(3)
    ]
    assert held_ratio(refused, one, 0, 3 * S) is None
    assert held_ratio([*refused, record(3, 3.0, 3.4, 4.0)], one, 0, 4 * S) == pytest.approx(0.9)
    abandoned = replace(record(3, 3.0, 3.4, 4.0), error="cancelled")
    assert held_ratio([abandoned, record(0, 0, 0, 3.0)], one, 0, 4 * S) == pytest.approx(0.9)


def test_a_stage_that_goes_well_says_so() -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(event_stream_head())
        for events in (token_event() + token_event(), token_event()):
            await asyncio.sleep(0.05)
            writer.write(chunk(events))
        writer.write(chunk(usage_event(4, 3)) + chunk(DONE_EVENT) + chunk(b""))

    result, server = asyncio.run(load_handler(slow, ConcurrencyLoad(4, 24)))
    found = result.client
    assert found is not None
    assert (found.processes, found.connections_opened) == (1, 0)
    assert server.connections == 4
    assert found.chunks_per_read == pytest.approx(1.5)
    assert found.held_ratio is not None
    assert 0.5 < found.held_ratio <= 1
    assert found.cpu_s > 0
    assert result.last_arrival_ns == max(one.scheduled_ns for one in result.records)


def test_a_server_that_refuses_everything_is_no_limit_of_the_client() -> None:
    async def body() -> LoadAborted:
        with pytest.raises(LoadAborted) as caught:
            await load_handler(sending(response(b"", status=503)), ConcurrencyLoad(4, 500))
        return caught.value

    result = asyncio.run(body()).result
    assert result.client is not None
    assert result.client.held_ratio is None
    assert summarise(result, Slo(), ConcurrencyLoad(4, 500)).client_limits == ()


def test_connections_opened_within_the_stage_are_counted() -> None:
    last = response(b"", status=500).replace(b"content-type", b"connection: close\r\ncontent-type")
    result, server = asyncio.run(load_handler(sending(last), ConcurrencyLoad(2, 6)))
    assert result.client is not None
    assert result.client.connections_opened == server.connections - 2 == 4
