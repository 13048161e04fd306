"""Two pools: their rates matched, the KV cache carried, what limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.hardware import find_accelerator
from runtimes.model import find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from search.perfmodel.configure import configuration_of
from search.perfmodel.disaggregated import DisaggregatedPrediction, Pools, match_rates
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question

DENSE = "meta-llama/Llama-3.1-70B"
CHAT = Load(input_tokens=2048, output_tokens=256, concurrency=64)


def pool(engines: int = 1, *, tp: int = 4, accelerator: str = "H200") -> Configuration:
    model = find_model(DENSE)
    assert model is not None
    config = EngineConfig("vllm", DENSE, layout=ParallelLayout(tp=tp))
    found = configuration_of(config, model, find_accelerator(accelerator))
    return replace(found, spread=replace(found.spread, replicas=engines))


def matched(prefill: Configuration, decode: Configuration, load: Load) -> DisaggregatedPrediction:
    return match_rates([Pools(prefill=prefill, decode=decode, load=load)])[0]


def open_loop(rate: float) -> Load:
    return replace(CHAT, concurrency=None, request_rate=rate)


def test_the_slower_pool_sets_the_rate() -> None:
    saturated = replace(CHAT, concurrency=None, saturated=True)
    few, many = matched(pool(1), pool(1), saturated), matched(pool(64), pool(1), saturated)
    assert few.prefill_limits
    assert few.whole.request_throughput == pytest.approx(few.prefill_rate)
    assert not many.prefill_limits
    assert many.whole.request_throughput == pytest.approx(many.decode_rate)
    assert (few.whole.gpus, many.whole.gpus) == (8, 65 * 4)


def test_the_balance_makes_both_sustain_as_much() -> None:
    found = matched(pool(2), pool(1), CHAT)
    assert found.balance > 2
    again = matched(pool(3), pool(2), CHAT)
    assert again.balance == pytest.approx(found.balance)
    enough = matched(pool(math.ceil(found.balance)), pool(1), CHAT)
    assert not enough.prefill_limits


def test_answers_are_not_held_up_by_prompts() -> None:
    found = matched(pool(8), pool(1), CHAT)
    (mixed,) = predict([Question(pool(1), CHAT)])
    assert found.whole.tpot_ms < mixed.tpot_ms
    assert found.whole.tpot_ms == found.decode.tpot_ms


def test_little_holds_in_a_closed_loop() -> None:
    for prefill in (1, 8):
        whole = matched(pool(prefill), pool(1), CHAT).whole
        assert whole.request_throughput * whole.e2e_ms / 1e3 == pytest.approx(64, rel=1e-6)
        assert whole.output_throughput == pytest.approx(256 * whole.request_throughput)


def test_the_cache_crosses_the_slower_network_before_the_second_token() -> None:
    near = matched(pool(4), pool(1), open_loop(1))
    bytes_of_rank = 2048 * 80 * 2 * 2 * 128 * 2  # layers, K and V, heads of a rank, width, bf16
    assert near.transfer_bytes == bytes_of_rank
    network = find_accelerator("H200").network_bytes_per_s
    assert near.transfer_ms == pytest.approx(1e3 * bytes_of_rank / network)
    slow = replace(
        pool(1), accelerator=replace(find_accelerator("H200"), network_bytes_per_s=network / 10)
    )
    far = matched(pool(4), slow, open_loop(1))
    added = far.whole.ttft_ms - near.whole.ttft_ms
    assert added == pytest.approx(9 * near.transfer_ms, rel=0.01)


def test_more_than_the_slower_pool_sustains_has_no_end() -> None:
    highest = matched(pool(1), pool(1), open_loop(1)).prefill_rate
    assert matched(pool(1), pool(1), open_loop(0.9 * highest)).whole.stable
    beyond = matched(pool(1), pool(1), open_loop(1.1 * highest)).whole
    assert (beyond.stable, beyond.ttft_ms) == (False, math.inf)
    assert beyond.request_throughput == pytest.approx(highest)


def test_each_pool_needs_room_of_its_own() -> None:
    small = pool(1, tp=1, accelerator="H100")
    for found in (matched(small, pool(1), CHAT), matched(pool(1), small, CHAT)):
        assert not found.whole.memory.fits
    assert matched(pool(1), pool(1), CHAT).whole.memory.fits


def test_pools_side_by_side_are_as_one_by_one() -> None:
    asked = [
        Pools(prefill=pool(prefill), decode=pool(1), load=load)
        for prefill in (1, 2)
        for load in (CHAT, open_loop(2), replace(CHAT, concurrency=None, saturated=True))
    ]
    together = match_rates(asked)
    assert match_rates([]) == []
    for pools, found in zip(asked, together, strict=True):
        alone = match_rates([pools])[0].whole
        assert found.whole.ttft_ms == pytest.approx(alone.ttft_ms)
        assert found.whole.output_throughput == pytest.approx(alone.output_throughput)


@settings(max_examples=20, deadline=None)
@given(prefill=st.integers(1, 8), decode=st.integers(1, 8), rate=st.floats(0.1, 20))
def test_another_engine_never_slows_anything(prefill: int, decode: int, rate: float) -> None:
    fewer = matched(pool(prefill), pool(decode), open_loop(rate)).whole
    more = matched(pool(prefill + 1), pool(decode + 1), open_loop(rate)).whole
    if not math.isinf(fewer.ttft_ms):  # else fewer prompts reach the engines that decode
        assert more.ttft_ms <= fewer.ttft_ms * (1 + 1e-6)
        assert more.tpot_ms <= fewer.tpot_ms * (1 + 1e-6)
    assert more.request_throughput >= fewer.request_throughput * (1 - 1e-6)
