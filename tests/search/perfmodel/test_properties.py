"""What holds for every deployment: more of anything is never slower, and loads are in balance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question
from tests.search.perfmodel.deployments import (
    closed_loops,
    configurations,
    several,
    with_accelerator,
    with_load,
)

EXAMPLES = settings(max_examples=10, deadline=None)
ROUNDING = 1 + 1e-5
"""Slack for curves that are moved by a ratio: the sizes of their points are rounded."""
ITERATION = 1.02
"""Slack for a loop that ends after a fixed number of iterations, near the edge of a budget."""
COHORTS = 1.1
"""Slack where what sequences wait for that start together counts: how many of them share a step
changes with the time that a prompt takes."""


FASTER = {
    "memory": ("memory_bytes_per_s",),
    "arithmetic": ("bf16_flops", "fp8_flops", "fp4_flops", "int8_ops"),
    "links": ("link_bytes_per_s", "network_bytes_per_s"),
}


@pytest.mark.parametrize("names", FASTER.values(), ids=FASTER)
@EXAMPLES
@given(several(closed_loops()), st.floats(1.01, 16))
def test_a_faster_accelerator_is_never_slower(
    names: tuple[str, ...], questions: list[Question], factor: float
) -> None:
    """But for TTFT: where answers come sooner, the next prompts do too, and meet others."""
    faster = [with_accelerator(each, **dict.fromkeys(names, factor)) for each in questions]
    for old, new in zip(predict(questions), predict(faster), strict=True):
        assert new.tpot_ms <= old.tpot_ms * ITERATION
        assert new.output_throughput >= old.output_throughput / ITERATION
        assert new.e2e_ms <= old.e2e_ms * ITERATION


@pytest.mark.parametrize("names", FASTER.values(), ids=FASTER)
@EXAMPLES
@given(several(closed_loops()), st.floats(1.01, 16))
def test_a_single_stream_is_never_slower_on_a_faster_accelerator(
    names: tuple[str, ...], questions: list[Question], factor: float
) -> None:
    alone = [with_load(question, concurrency=1) for question in questions]
    faster = [with_accelerator(question, **dict.fromkeys(names, factor)) for question in alone]
    for old, new in zip(predict(alone), predict(faster), strict=True):
        assert new.ttft_ms <= old.ttft_ms * ROUNDING
        assert new.prefill.seconds <= old.prefill.seconds * ROUNDING
        assert new.decode.seconds <= old.decode.seconds * ROUNDING


@EXAMPLES
@given(several(closed_loops(most=512, shortest=64)))
def test_twice_the_streams_never_lower_throughput(questions: list[Question]) -> None:
    twice = [
        with_load(question, concurrency=2 * (question.load.concurrency or 1))
        for question in questions
    ]
    for old, new in zip(predict(questions), predict(twice), strict=True):
        assert new.output_throughput >= old.output_throughput / COHORTS
        assert new.e2e_ms >= old.e2e_ms / COHORTS


@EXAMPLES
@given(several(closed_loops()), st.floats(1.05, 4))
def test_longer_prompts_never_lower_ttft(questions: list[Question], factor: float) -> None:
    alone = [with_load(question, concurrency=1) for question in questions]
    longer = [
        with_load(question, input_tokens=question.load.input_tokens * factor) for question in alone
    ]
    for old, new in zip(predict(alone), predict(longer), strict=True):
        assert new.ttft_ms >= old.ttft_ms / ROUNDING


@EXAMPLES
@given(several(closed_loops()), st.floats(0.01, 0.99))
def test_prefix_hits_never_raise_ttft(questions: list[Question], hit: float) -> None:
    cold = [with_load(question, concurrency=1, prefix_hit=0.0) for question in questions]
    warm = [with_load(question, prefix_hit=hit) for question in cold]
    for old, new in zip(predict(cold), predict(warm), strict=True):
        assert new.ttft_ms <= old.ttft_ms * ROUNDING


@EXAMPLES
@given(several(closed_loops()))
def test_a_closed_loop_obeys_littles_law(questions: list[Question]) -> None:
    """All streams are somewhere: waiting, running, or between the client and the engine.

    Within 5 %: rates and latencies come from a loop of a fixed number of iterations.
    """
    for question, found in zip(questions, predict(questions), strict=True):
        if found.memory.fits:
            concurrency = question.load.concurrency or 0
            under_way = found.request_throughput * found.e2e_ms / 1e3
            assert under_way == pytest.approx(concurrency, rel=0.05)
            inside = under_way - found.request_throughput * found.waiting_ms / 1e3
            assert inside <= concurrency * 1.05


@EXAMPLES
@given(several(closed_loops()), st.floats(0.001, 0.97) | st.floats(1, 3))
def test_an_open_loop_serves_what_arrives_or_says_that_it_cannot(
    questions: list[Question], share: float
) -> None:
    full = [with_load(question, concurrency=None, saturated=True) for question in questions]
    highest = [found.request_throughput for found in predict(full)]
    offered = [
        with_load(question, concurrency=None, request_rate=rate * share)
        for question, rate in zip(questions, highest, strict=True)
    ]
    for question, most, found in zip(offered, highest, predict(offered), strict=True):
        rate = question.load.request_rate or 0
        assert found.stable == (share < 1)
        assert np.isfinite(found.ttft_ms) == found.stable
        assert np.isfinite(found.e2e_ms) == found.stable
        assert found.request_throughput == pytest.approx(min(rate, most))
        if found.stable:
            assert found.running <= rate * found.e2e_ms / 1e3 * COHORTS + 1e-3


@EXAMPLES
@given(several(closed_loops()))
def test_a_rare_request_finds_an_idle_engine(questions: list[Question]) -> None:
    single = [with_load(question, concurrency=1) for question in questions]
    alone = predict(single)
    rare = [
        with_load(question, concurrency=None, request_rate=0.001 * found.request_throughput)
        for question, found in zip(single, alone, strict=True)
    ]
    for one, found in zip(alone, predict(rare), strict=True):
        assert found.stable
        assert found.tpot_ms == pytest.approx(one.tpot_ms, rel=0.2)
        assert found.ttft_ms == pytest.approx(one.ttft_ms, rel=0.2)


@EXAMPLES
@given(several(closed_loops()))
def test_a_saturated_engine_is_one_with_as_many_streams_as_it_runs(
    questions: list[Question],
) -> None:
    full = [with_load(question, concurrency=None, saturated=True) for question in questions]
    saturated = predict(full)
    crowd = [with_load(question, concurrency=1e6) for question in questions]
    for found, crowded in zip(saturated, predict(crowd), strict=True):
        assert crowded.tpot_ms == pytest.approx(found.tpot_ms, rel=0.01)
        assert crowded.request_throughput == pytest.approx(found.request_throughput, rel=0.01)
        assert crowded.running == pytest.approx(found.running)
        assert crowded.waiting_ms > found.waiting_ms


@EXAMPLES
@given(st.lists(closed_loops(), max_size=6))
def test_questions_are_answered_as_if_alone(questions: list[Question]) -> None:
    together = predict(questions)
    assert len(together) == len(questions)
    for question, found in zip(questions, together, strict=True):
        (alone,) = predict([question])
        assert found.tpot_ms == pytest.approx(alone.tpot_ms)
        assert found.ttft_ms == pytest.approx(alone.ttft_ms)
        assert found.extrapolates == alone.extrapolates


@EXAMPLES
@given(configurations(), st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0.001, 1e6))
def test_every_figure_is_a_number(
    configuration: Configuration, input_tokens: int, output_tokens: int, much: float
) -> None:
    loads = (
        Load(input_tokens=input_tokens, output_tokens=output_tokens, concurrency=much),
        Load(input_tokens=input_tokens, output_tokens=output_tokens, request_rate=much),
        Load(input_tokens=input_tokens, output_tokens=output_tokens, saturated=True),
    )
    asked = [Question(configuration, load) for load in loads]
    for found in predict(asked):
        rates = (found.request_throughput, found.output_throughput, found.total_throughput)
        assert all(0 < rate < np.inf for rate in rates)
        assert 0 < found.tpot_ms < np.inf
        assert found.ttft_ms > 0
        assert (found.ttft_ms < np.inf) == found.stable
        assert 0 < found.decode.seconds < np.inf
        assert 0 < found.prefill.seconds < np.inf
        assert found.uncertainty > 0
        assert found.waiting_ms >= 0
        assert 0 < found.running < np.inf
