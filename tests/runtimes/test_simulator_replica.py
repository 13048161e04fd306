"""A replica on a real event loop: pace, pipeline overlap, lateness, placement."""

from __future__ import annotations

import asyncio
import random
import statistics

import pytest
import uvloop

from runtimes.simulator.engine_model import EngineModel, Limits, Request
from runtimes.simulator.replica import (
    ClientGoneError,
    Replica,
    TokenStream,
    least_loaded,
    step_factor,
)
from runtimes.simulator.timing import StepWork

STEP_S = 0.01


def _replica(stages: int = 1, emitted_at_launch: list[int] | None = None) -> Replica:
    limits = Limits(
        max_num_seqs=8,
        max_num_batched_tokens=16,
        max_model_len=256,
        blocks=64,
        stages=stages,
    )

    def step_seconds(work: StepWork) -> float:
        if emitted_at_launch is not None:
            emitted_at_launch.append(model.counters.generation_tokens)
        return STEP_S

    model = EngineModel(limits, step_seconds)
    return Replica(model)


async def _count(stream: TokenStream) -> int:
    total, finished = 0, False
    while not finished:
        tokens, finished = await stream.take()
        total += tokens
    return total


def test_steps_never_end_before_their_time() -> None:
    async def play() -> float:
        start = asyncio.get_running_loop().time()
        assert await _count(replica.submit(Request("a", 16, 10))) == 10
        return asyncio.get_running_loop().time() - start

    replica = _replica()
    # Half a millisecond for event loops whose timers round to the nearest one.
    assert asyncio.run(play()) > 10 * STEP_S - 0.0005
    assert replica.steps == 10
    assert replica.lateness_s > 0


def test_a_blocked_machine_shows_as_lateness_and_not_as_a_slower_clock() -> None:
    async def play() -> None:
        stream = replica.submit(Request("a", 16, 10))
        await stream.take()
        loop = asyncio.get_running_loop()
        until = loop.time() + 5 * STEP_S
        while loop.time() < until:
            pass
        await _count(stream)

    replica = _replica()
    asyncio.run(play())
    assert replica.steps == 10
    # Steps due 10, 20, 30 and 40 ms into the pause are 40, 30, 20 and 10 ms late.
    assert replica.lateness_s > (4 + 3 + 2 + 1) * STEP_S * 0.8


def test_a_request_right_behind_a_step_that_ended_early_is_served() -> None:
    async def play() -> None:
        # The timers of uvloop round to the millisecond: many steps of odd length end early.
        replica = Replica(_replica().model, jitter=0.3)
        async with asyncio.timeout(60):
            for number in range(50):
                assert await _count(replica.submit(Request(str(number), 16, 1))) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())


@pytest.mark.parametrize(("stages", "emitted_before_second_launch"), [(1, 1), (2, 0)])
def test_pipeline_stages_overlap_steps(stages: int, emitted_before_second_launch: int) -> None:
    async def play() -> None:
        streams = [replica.submit(Request(name, 16, 1)) for name in ("a", "b")]
        assert await asyncio.gather(*map(_count, streams)) == [1, 1]

    launches: list[int] = []
    replica = _replica(stages, launches)
    asyncio.run(play())
    assert launches == [0, emitted_before_second_launch]


def test_a_closed_stream_raises_and_an_aborted_request_is_forgotten() -> None:
    async def play() -> None:
        stream = replica.submit(Request("a", 16, 100))
        stream.close()
        with pytest.raises(ClientGoneError):
            await stream.take()
        replica.abort("a")
        replica.abort("a")
        assert await _count(replica.submit(Request("b", 16, 2))) == 2

    replica = _replica()
    asyncio.run(play())
    assert replica.model.counters.aborted_requests == 1
    assert replica.load == 0


def test_requests_go_to_the_least_loaded_replica() -> None:
    async def place() -> None:
        for index in range(4):
            least_loaded(replicas).submit(Request(str(index), 16, 5))

    replicas = [_replica(), _replica()]
    asyncio.run(place())
    assert [replica.load for replica in replicas] == [5, 5]


def test_jitter_is_around_one_seeded_and_bounded() -> None:
    draws = [step_factor(random.Random(seed), 0.05) for seed in range(500)]
    assert statistics.mean(draws) == pytest.approx(1.0, abs=0.01)
    assert statistics.stdev(draws) == pytest.approx(0.05, rel=0.2)
    assert draws == [step_factor(random.Random(seed), 0.05) for seed in range(500)]
    assert step_factor(random.Random(1), 0.0) == 1.0
    source = random.Random(1)
    assert min(step_factor(source, 0.99) for _ in range(1000)) == 0.1


def test_waits_of_finished_requests_are_counted_as_the_engine_spends_them() -> None:
    async def play() -> None:
        # Eight sequences run at once; the ninth waits until one of ten steps has ended.
        streams = [replica.submit(Request(str(index), 1, 10)) for index in range(9)]
        gone = replica.submit(Request("gone", 1, 10))
        replica.abort("gone")
        await asyncio.gather(*map(_count, streams))
        with pytest.raises(ClientGoneError):
            gone.close()
            await gone.take()

    replica = _replica()
    asyncio.run(play())
    waits = replica.waits
    assert waits.requests == 9
    assert waits.decode_s == pytest.approx(9 * 9 * STEP_S)
    assert waits.prefill_s == pytest.approx(9 * STEP_S, abs=STEP_S)
    # All but the first came while its step was under way; one of them waited for a place.
    assert 9 * STEP_S < waits.queue_s < (7 + 10 + 1) * STEP_S
