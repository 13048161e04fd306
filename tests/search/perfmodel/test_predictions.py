"""The way in: every question an answer, and what each answer carries."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from runtimes.hardware import ACCELERATORS
from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves
from runtimes.serving_limits import ServingLimits
from search.perfmodel.answer import Bottleneck, PhaseCost, Prediction
from search.perfmodel.fit import stored_fit
from search.perfmodel.layers import LayerGroup, spread_layers
from search.perfmodel.predict import predict
from search.perfmodel.question import Load, Question, Spread
from tests.search.perfmodel.deployments import (
    EXPERTS,
    LATENT,
    LLAMA,
    answered,
    catalogue,
    deployment,
)

USUAL = Load(input_tokens=1024, output_tokens=256, concurrency=16)


def test_no_question_no_answer() -> None:
    assert predict([]) == []


@pytest.mark.parametrize("name", [LLAMA, EXPERTS, LATENT])
@pytest.mark.parametrize(
    "load",
    [
        Load(input_tokens=1, output_tokens=1, concurrency=1),
        Load(input_tokens=1, output_tokens=1, request_rate=1e-6),
        Load(input_tokens=1, output_tokens=1, saturated=True),
        Load(input_tokens=1e6, output_tokens=1, concurrency=1),
        Load(input_tokens=1, output_tokens=1e6, concurrency=1),
        Load(input_tokens=1e6, output_tokens=1e6, concurrency=1e6),
        Load(input_tokens=1e6, output_tokens=1e6, request_rate=1e6),
        Load(input_tokens=10, output_tokens=10, concurrency=1e6),
        Load(input_tokens=10, output_tokens=10, concurrency=0.01),
        Load(input_tokens=100, output_tokens=10, prefix_hit=0.999, concurrency=4),
    ],
    ids=str,
)
def test_extreme_loads_have_figures(name: str, load: Load) -> None:
    for spread in (Spread(), Spread(tp=64, dense_tp=64, expert_tp=1, expert_ep=64)):
        found = answered(deployment(name, "GB200", spread=spread), load)
        _check_figures(found)


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_every_model_is_answered_on_every_accelerator(model: ModelFacts) -> None:
    questions = [
        Question(replace(deployment(), model=model, accelerator=accelerator), USUAL)
        for accelerator in ACCELERATORS.values()
    ]
    for found in predict(questions):
        _check_figures(found)


def _check_figures(found: Prediction) -> None:
    assert 0 < found.tpot_ms < math.inf
    assert 0 < found.request_throughput < math.inf
    assert found.ttft_ms > 0
    assert found.e2e_ms >= found.ttft_ms
    assert math.isfinite(found.ttft_ms) == found.stable
    assert not math.isnan(found.waiting_ms)
    memory = found.memory
    parts = (memory.weights, memory.activations, memory.collectives, memory.runtime)
    assert all(0 <= part < math.inf for part in parts)
    assert math.isfinite(memory.kv_budget)
    assert memory.fits == (memory.max_sequences > 0)


def test_an_answer_lies_within_its_interval() -> None:
    found = answered(deployment(), USUAL)
    for value, interval in (
        (found.tpot_ms, found.tpot_interval_ms),
        (found.ttft_ms, found.ttft_interval_ms),
        (found.output_throughput, found.throughput_interval),
    ):
        assert 0 < interval.low < value * 1.5
        assert interval.low < interval.high
    assert 0 < found.uncertainty < 1


def test_what_nobody_measured_is_said_and_widens_the_intervals() -> None:
    usual = answered(deployment(), USUAL)
    assert usual.extrapolates == ()
    unknown = answered(deployment(engine="toy"), USUAL)
    assert any("toy" in note for note in unknown.extrapolates)
    assert unknown.uncertainty > usual.uncertainty
    assert unknown.tpot_ms == pytest.approx(usual.tpot_ms)
    rare = answered(deployment(accelerator="Gaudi3"), USUAL)
    assert any("Gaudi3" in note for note in rare.extrapolates)


def test_a_nodes_curves_end_an_extrapolation() -> None:
    curves = NodeCurves(
        accelerator="Gaudi3",
        gemm_flops={"bf16": ((16, 1e13), (4096, 5e14))},
        gemm_bytes_per_s={"bf16": 2e12},
        copy_bytes_per_s=2e12,
        prefill_attention_flops=((1024, 1e14), (8192, 3e14)),
        decode_attention_s=((1e6, 1e-5), (1e8, 6e-5), (1e9, 5e-4)),
    )
    question = Question(deployment(accelerator="Gaudi3"), USUAL)
    (before,), (after,) = predict([question]), predict([question], curves=[curves])
    assert len(after.extrapolates) < len(before.extrapolates)
    assert after.tpot_ms != before.tpot_ms


def test_another_fit_has_its_own_overheads() -> None:
    fit = stored_fit()
    slower = replace(
        fit, engines={name: replace(each, step_s=0.1) for name, each in fit.engines.items()}
    )
    (found,) = predict([Question(deployment(), USUAL)], fit=slower)
    assert found.tpot_ms > 100
    assert found.decode.overhead_s > 0.1
    assert found.decode.bottleneck is Bottleneck.OVERHEAD


def test_the_bottleneck_is_what_most_time_goes_to() -> None:
    cost = PhaseCost(compute_s=1, memory_s=3, communication_s=2, overhead_s=0.5)
    assert (cost.bottleneck, cost.seconds) == (Bottleneck.MEMORY, 6.5)
    found = answered(
        deployment("meta-llama/Llama-3.1-70B", "H200", spread=Spread(tp=2, dense_tp=2)),
        Load(input_tokens=8192, output_tokens=64, concurrency=1),
    )
    assert found.prefill.bottleneck is Bottleneck.COMPUTE
    assert found.decode.bottleneck is Bottleneck.MEMORY


def test_layers_with_degrees_of_their_own_take_the_place_of_the_spread() -> None:
    spread = Spread(tp=4, dense_tp=4)
    configuration = deployment(spread=spread)
    uniform = spread_layers(configuration.model, spread)
    same = replace(configuration, layers=uniform)
    assert answered(same, USUAL) == answered(configuration, USUAL)
    apart = tuple(
        replace(group, count=1) for group in uniform for _ in range(group.count)
    )  # each layer by itself
    found, whole = answered(replace(configuration, layers=apart), USUAL), answered(same, USUAL)
    assert found.tpot_ms == pytest.approx(whole.tpot_ms)
    assert found.memory.weights == pytest.approx(whole.memory.weights)
    narrow = tuple(replace(group, tp=1) if group.kind.attends else group for group in uniform)
    assert isinstance(narrow[0], LayerGroup)
    assert answered(replace(configuration, layers=narrow), USUAL).tpot_ms > whole.tpot_ms


def test_what_does_not_fit_is_still_timed() -> None:
    found = answered(deployment("meta-llama/Llama-3.1-405B", "L4"), USUAL)
    assert not found.memory.fits
    assert found.memory.short_by > 0
    assert found.tpot_ms > 0


def test_memory_bounds_what_runs() -> None:
    limits = ServingLimits(max_num_seqs=100_000)
    configuration = deployment("meta-llama/Llama-3.1-8B", "L40S", limits=limits)
    found = answered(configuration, Load(input_tokens=8000, output_tokens=2000, concurrency=5000))
    assert found.running < 100
    assert found.waiting_ms > found.tpot_ms


@pytest.mark.parametrize("concurrency", [8, 64])
def test_prompts_that_come_together_wait_within_littles_law(concurrency: int) -> None:
    load = Load(input_tokens=2048, output_tokens=128, equal_lengths=True, concurrency=concurrency)
    found = answered(deployment(LLAMA), load)
    assert found.request_throughput * found.e2e_ms / 1e3 == pytest.approx(concurrency, rel=0.005)
