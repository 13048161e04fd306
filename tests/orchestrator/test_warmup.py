"""When a warm-up ends, and what it sends; on an engine of made-up times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.warmup import Warmed, WarmUp, agree, spread
from runtimes.json_types import Json
from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord
from runtimes.workloads.append_prefill import AppendPrefillWorkload
from runtimes.workloads.base import Prompt, Workload, WorkloadContext
from runtimes.workloads.synthetic import SyntheticWorkload

SECOND = 10**9
TOKENS = 11


def even(number: int) -> float:
    return 20.0


@dataclass
class Engine:
    """Answers each request with the TPOT, in ms, that `tpot` gives its number."""

    tpot: Callable[[int], float] = even
    batches: list[tuple[int, int]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)

    async def send(self, prompts: Sequence[Prompt], load: Load) -> LoadResult:
        first = len(self.prompts)
        self.batches.append((int(load.value), load.requests))
        self.prompts += prompts
        records = [self.record(number, first + number) for number in range(len(prompts))]
        return LoadResult(tuple(records), 0, SECOND, 0.0)

    def record(self, index: int, number: int) -> RequestRecord:
        gap_ns = int(self.tpot(number) * 1e6)
        chunk_ns = tuple(gap_ns * (1 + chunk) for chunk in range(TOKENS))
        return RequestRecord(index, 0, 0, chunk_ns, chunk_ns[-1], 8, TOKENS, TOKENS)


def workload(kind: type[Workload] = SyntheticWorkload) -> Workload:
    return kind.from_settings(
        {"input_tokens": 8, "output_tokens": TOKENS}, WorkloadContext(vocab=1000, seed=1)
    )


def warmed(
    engine: Engine, *loads: Load, requests: int | None = None, made: Workload | None = None
) -> list[Warmed]:
    """What the warm-up before each of `loads` came to."""
    source = made or workload()

    async def run() -> list[Warmed]:
        warm_up = WarmUp(engine.send, source, requests=requests, seed=1)
        return [
            await warm_up.before(load, source.prompts(str(index), load.requests))
            for index, load in enumerate(loads)
        ]

    return asyncio.run(run())


def test_an_engine_that_serves_evenly_is_warm_after_two_waves() -> None:
    engine = Engine()
    assert warmed(engine, ConcurrencyLoad(8, 64)) == [Warmed(16, True)]
    assert engine.batches == [(8, 16)]


def test_one_that_compiles_on_its_first_requests_takes_longer() -> None:
    engine = Engine(lambda number: 90.0 if number < 8 else 20.0)
    assert warmed(engine, ConcurrencyLoad(8, 64)) == [Warmed(24, True)]


def test_one_that_never_settles_is_left_after_four_waves_and_said_so() -> None:
    engine = Engine(lambda number: 10.0 * 2 ** (number // 8))
    assert warmed(engine, ConcurrencyLoad(8, 64)) == [Warmed(32, False)]


def test_no_prompt_is_sent_twice_nor_measured() -> None:
    engine = Engine(lambda number: 10.0 * 2 ** (number // 8))
    loads = ConcurrencyLoad(8, 64), ConcurrencyLoad(16, 64)
    warmed(engine, *loads)
    measured = [prompt for index in range(2) for prompt in workload().prompts(str(index), 64)]
    sent = [prompt.token_ids for prompt in [*engine.prompts, *measured]]
    assert len(set(sent)) == len(sent)


def test_only_batch_sizes_that_were_not_met_yet_are_warmed_up() -> None:
    loads = [ConcurrencyLoad(value, 64) for value in (8, 4, 12, 16)]
    assert [found.requests for found in warmed(Engine(), *loads)] == [16, 0, 0, 32]


def test_a_single_stream_still_sends_enough_to_judge() -> None:
    assert warmed(Engine(), ConcurrencyLoad(1, 64)) == [Warmed(8, True)]


def test_an_open_loop_is_warmed_up_with_what_it_will_have_in_flight() -> None:
    engine = Engine()  # a request takes 0.22 s
    (found,) = warmed(engine, PoissonLoad(200.0, 4000))
    assert found.steady
    assert engine.batches[0] == (16, 32)
    streams = engine.batches[1][0]
    assert streams == pytest.approx(200 * 0.22, rel=0.1)


def test_a_number_of_requests_is_taken_at_its_word() -> None:
    engine = Engine()
    loads = ConcurrencyLoad(4, 64), ConcurrencyLoad(4, 64)
    assert warmed(engine, *loads, requests=10) == [Warmed(10, True)] * 2
    assert warmed(engine, *loads, requests=3) == [Warmed(3, None)] * 2
    assert warmed(engine, *loads, requests=0) == [Warmed(0, None)] * 2
    assert engine.batches == [(4, 10)] * 2 + [(3, 3)] * 2


def grid(**settings: Json) -> Workload:
    return AppendPrefillWorkload.from_settings(settings, WorkloadContext(vocab=1000, seed=1))


def test_every_cell_of_a_grid_is_met() -> None:
    engine, contexts, appends = Engine(), [0, 512, 2048], [8, 32, 128]
    made = grid(context_length=[*contexts], append_length=[*appends], repeats=8)
    (found,) = warmed(engine, ConcurrencyLoad(1, 72), made=made)
    assert found == Warmed(18, True)
    cells = {(length, append) for length in contexts for append in appends}
    for wave in (engine.prompts[:9], engine.prompts[9:]):
        lengths = [len(prompt.token_ids) for prompt in wave]
        assert (min(lengths), max(lengths)) == (8, 2048 + 128)
    sent = {(one.shared_tokens, len(one.token_ids) - one.shared_tokens) for one in engine.prompts}
    assert sent == cells


def test_a_number_of_requests_is_spread_over_the_lengths_as_well() -> None:
    engine = Engine()
    made = grid(context_length=[0, 2048], append_length=[8, 128], repeats=16)
    warmed(engine, ConcurrencyLoad(2, 64), requests=4, made=made)
    assert sorted(len(prompt.token_ids) for prompt in engine.prompts) == [8, 128, 2056, 2176]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1)), min_size=1, max_size=40),
    st.integers(1, 20),
    st.integers(1, 8),
)
def test_a_spread_takes_each_once_and_both_ends(
    lengths: list[tuple[int, int]], count: int, wave: int
) -> None:
    prompts = [
        Prompt((number,) * length, 1, shared_tokens=shared if shared < length else 0)
        for number, (length, shared) in enumerate(lengths)
    ]
    found = spread(prompts, count, wave)
    assert len(found) == min(count, len(prompts))
    assert len({id(prompt) for prompt in found}) == len(found)

    def key(prompt: Prompt) -> tuple[int, int]:
        return prompt.shared_tokens, len(prompt.token_ids)

    if len(found) > 1:
        assert key(min(found, key=key)) == key(min(prompts, key=key))
        assert key(max(found, key=key)) == key(max(prompts, key=key))


def test_the_waves_of_a_spread_have_the_same_lengths() -> None:
    prompts = [Prompt((0,) * length, 1) for length in range(1, 101)]
    found = spread(prompts, 40, 20)
    means = [fmean(len(prompt.token_ids) for prompt in found[at : at + 20]) for at in (0, 20)]
    assert means[0] == pytest.approx(means[1], rel=0.01)


class Talk(SyntheticWorkload):
    """One conversation that never ends."""

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        return [
            replace(prompt, session=0, turn=turn, think_s=9.0)
            for turn, prompt in enumerate(super().prompts(stage, count))
        ]


def test_turns_of_a_conversation_do_not_wait_for_each_other() -> None:
    engine = Engine()
    warmed(engine, ConcurrencyLoad(4, 32), made=workload(Talk))
    assert {prompt.session for prompt in engine.prompts} == {None}
    assert {prompt.think_s for prompt in engine.prompts} == {0.0}


def test_batches_agree_within_five_percent_or_their_noise() -> None:
    assert agree([20.0, 20.0], [20.9, 20.9])
    assert not agree([20.0, 20.0], [21.1, 21.1])
    assert agree([10.0, 30.0, 20.0, 20.0], [14.0, 34.0, 24.0, 24.0])
    assert not agree([], [1.0])
    assert not agree([1.0], [])
