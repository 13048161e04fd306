"""What fits, how much of it, and the words for what does not."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.fit import GIB, model_weights_per_gpu
from runtimes.hardware import find_accelerator
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.quantization import CheckpointQuantization, Precision, Quantization
from runtimes.serving_limits import ServingLimits
from search.perfmodel.answer import Memory
from search.perfmodel.layers import LayerGroup, LayerKind, layers_of
from search.perfmodel.memory import MemoryBudgets, explain, memory_of
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question, Spread
from search.perfmodel.rows import RowKind, RowQuestion, read_row
from search.perfmodel.spread import spread_of

DENSE = "meta-llama/Llama-3.1-70B"
SMALL = "meta-llama/Llama-3.1-8B"
EXPERTS = "Qwen/Qwen3-235B-A22B"
LATENT = "deepseek-ai/DeepSeek-V3"
WINDOWED = "openai/gpt-oss-120b"
HYBRID = "Qwen/Qwen3.5-397B-A17B"
ALL = (DENSE, SMALL, EXPERTS, LATENT, WINDOWED, HYBRID)
FP8 = Quantization(gemm="fp8", kv_cache="fp8")

models = st.sampled_from(ALL)
engines = st.sampled_from(["vllm", "sglang", "tensorrt_llm"])
rules = st.sampled_from(
    [
        ServingLimits(fraction_of="total"),
        ServingLimits(fraction_of="static"),
        ServingLimits(fraction_of="free"),
    ]
)
tokens = st.integers(1, 200_000)


def known(name: str) -> ModelFacts:
    model = find_model(name)
    assert model is not None
    return model


def configured(
    model: str | ModelFacts = DENSE,
    accelerator: str = "H200",
    *,
    engine: str = "vllm",
    layout: ParallelLayout | None = None,
    quantization: Quantization | None = None,
    limits: ServingLimits | None = None,
) -> Configuration:
    facts = known(model) if isinstance(model, str) else model
    return Configuration(
        model=facts,
        accelerator=find_accelerator(accelerator),
        engine=engine,
        spread=spread_of(engine, layout or ParallelLayout(), facts),
        quantization=quantization or Quantization(),
        limits=limits or ServingLimits(),
    )


def one(configuration: Configuration, length: float = 2048, sequences: float = 1) -> Memory:
    return memory_of(configuration, sequence_tokens=length, sequences=sequences)


def kv_bytes(configuration: Configuration, length: float) -> float:
    return float(MemoryBudgets([configuration]).kv_bytes(np.array([length]))[0])


def held(configuration: Configuration, length: float) -> float:
    return float(MemoryBudgets([configuration]).max_sequences(np.array([length]))[0])


class TestWeights:
    @given(
        model=models, tp=st.sampled_from([1, 2, 4, 8]), quantization=st.sampled_from([None, FP8])
    )
    def test_are_those_of_the_neutral_layout(
        self, model: str, tp: int, quantization: Quantization | None
    ) -> None:
        layout = ParallelLayout(tp=tp)
        expected = model_weights_per_gpu(known(model), layout, quantization)
        found = one(configured(model, layout=layout, quantization=quantization)).weights
        assert found == pytest.approx(expected, rel=1e-9)

    def test_of_files_are_what_the_files_say(self) -> None:
        facts = replace(
            known(SMALL),
            checkpoint_bytes=4_920_000_000,
            quantization=CheckpointQuantization("gguf"),
        )
        assert one(configured(facts)).weights == pytest.approx(4_920_000_000)
        halves = one(configured(facts, layout=ParallelLayout(tp=2))).weights
        assert 0.5 <= halves / 4_920_000_000 < 0.501  # norms are on both

    @given(model=models, engine=engines, pp=st.sampled_from([1, 2, 4]))
    def test_per_gpu_never_grow_with_tensor_ranks(self, model: str, engine: str, pp: int) -> None:
        layouts = [ParallelLayout(tp=tp, pp=pp) for tp in (1, 2, 4, 8, 16)]
        found = [one(configured(model, engine=engine, layout=each)) for each in layouts]
        weights = [memory.weights for memory in found]
        assert weights == sorted(weights, reverse=True)
        assert len(set(weights)) == len(weights)
        caches = [memory.kv_cache for memory in found]
        assert caches == sorted(caches, reverse=True)

    def test_of_a_stage_hold_one_end_of_the_model(self) -> None:
        whole, halves = (
            one(configured(SMALL, layout=ParallelLayout(pp=pp))).weights for pp in (1, 2)
        )
        assert halves == pytest.approx(whole / 2, rel=1e-3)
        ends = 2 * known(SMALL).vocab * known(SMALL).hidden
        quarter = one(configured(SMALL, layout=ParallelLayout(pp=4))).weights
        assert quarter == pytest.approx((whole - 2 * ends) / 4 + ends, rel=1e-6)

    def test_of_uneven_stages_are_those_of_the_longest(self) -> None:
        whole, thirds = (
            one(configured(LATENT, layout=ParallelLayout(pp=pp))).weights for pp in (1, 3)
        )
        assert thirds / whole == pytest.approx(21 / 61, rel=1e-2)

    def test_whole_experts_and_slices_of_all_take_as_much(self) -> None:
        slices = one(configured(EXPERTS, layout=ParallelLayout(tp=8))).weights
        whole = one(configured(EXPERTS, layout=ParallelLayout(tp=8, ep=8))).weights
        assert whole == pytest.approx(slices)

    def test_of_experts_are_shared_by_groups_that_attend_apart(self) -> None:
        together = one(configured(LATENT, layout=ParallelLayout(tp=8, ep=8))).weights
        apart = one(configured(LATENT, layout=ParallelLayout(dp=8, ep=8))).weights
        weights = known(LATENT).weights
        copied = weights.attention + weights.dense + weights.shared + 2 * weights.embeddings
        assert apart - together == pytest.approx(copied * 7 / 8, rel=1e-3)


class TestKvCache:
    def test_is_what_the_shape_says(self) -> None:
        assert kv_bytes(configured(DENSE), 1024) == 1024 * known(DENSE).kv_bytes_per_token()
        latent = configured(LATENT, layout=ParallelLayout(tp=8))
        assert kv_bytes(latent, 1024) == 1024 * known(LATENT).kv_bytes_per_token()

    def test_heads_are_copied_beyond_their_number(self) -> None:
        sizes = [kv_bytes(configured(DENSE, layout=ParallelLayout(tp=tp)), 16) for tp in (4, 8, 16)]
        assert sizes[0] == 2 * sizes[1] == 2 * sizes[2]

    @pytest.mark.parametrize("engine", ["vllm", "sglang"])
    def test_contexts_split_over_ranks_that_would_copy_it(self, engine: str) -> None:
        plain, split = (
            configured(LATENT, engine=engine, layout=ParallelLayout(tp=8, dcp=dcp))
            for dcp in (1, 8)
        )
        assert kv_bytes(plain, 4096) == 8 * kv_bytes(split, 4096)

    def test_takes_whole_blocks(self) -> None:
        limits = ServingLimits(block_size=64)
        assert kv_bytes(configured(limits=limits), 65) == kv_bytes(configured(limits=limits), 128)

    def test_of_windowed_layers_ends_with_the_window(self) -> None:
        assert kv_bytes(configured(WINDOWED), 128) == 128 * known(WINDOWED).kv_bytes_per_token()
        growth = kv_bytes(configured(WINDOWED), 2144) - kv_bytes(configured(WINDOWED), 1120)
        assert growth == pytest.approx(1024 * known(WINDOWED).kv_bytes_per_token() / 2)

    def test_of_windowed_layers_is_what_a_pool_is_given(self) -> None:
        pooled = configured(WINDOWED, limits=ServingLimits(window_pool=0.8, block_size=1))
        share = kv_bytes(pooled, 1000) / (1000 * known(WINDOWED).kv_bytes_per_token())
        assert share == pytest.approx(0.9)

    def test_of_linear_attention_is_a_state(self) -> None:
        start = kv_bytes(configured(HYBRID), 16)
        full = 15 * 2 * 2 * 256 * 2
        assert start > 45 * 64 * 128 * 128 * 4
        assert kv_bytes(configured(HYBRID), 1040) - start == pytest.approx(1024 * full)

    @given(model=models, kv=st.sampled_from(["bf16", "fp8", "nvfp4"]))
    def test_grows_with_its_format(self, model: str, kv: Precision) -> None:
        found = kv_bytes(configured(model, quantization=Quantization(kv_cache=kv)), 4096)
        assert found <= kv_bytes(configured(model), 4096)

    @given(model=models, engine=engines, lengths=st.tuples(tokens, tokens))
    def test_grows_with_length(self, model: str, engine: str, lengths: tuple[int, int]) -> None:
        configuration = configured(model, engine=engine)
        short, long = sorted(lengths)
        assert kv_bytes(configuration, short) <= kv_bytes(configuration, long)
        assert held(configuration, short) >= held(configuration, long)


class TestBudget:
    def test_of_vllm_is_a_share_of_all(self) -> None:
        memory = one(configured(limits=ServingLimits(memory_fraction=0.92)))
        beside = memory.weights + memory.activations + memory.collectives + memory.runtime
        assert memory.kv_budget == pytest.approx(0.92 * memory.capacity - beside)

    def test_of_sglang_is_a_share_with_the_weights(self) -> None:
        limits = ServingLimits(memory_fraction=0.85, fraction_of="static")
        layout = ParallelLayout(tp=2)
        memory = one(configured(engine="sglang", layout=layout, limits=limits))
        assert memory.kv_budget == pytest.approx(0.85 * memory.capacity - memory.weights, rel=0.03)

    def test_of_tensorrt_llm_is_a_share_of_what_is_free(self) -> None:
        limits = ServingLimits(memory_fraction=0.9, fraction_of="free")
        memory = one(configured(engine="tensorrt_llm", layout=ParallelLayout(tp=2), limits=limits))
        beside = memory.weights + memory.activations + memory.collectives + memory.runtime
        assert memory.kv_budget == pytest.approx(0.9 * (memory.capacity - beside))

    def test_may_be_given_outright(self) -> None:
        limits = ServingLimits(kv_cache_bytes=10 * GIB)
        assert one(configured(SMALL, limits=limits)).kv_budget == 10 * GIB
        beyond = ServingLimits(kv_cache_bytes=1000 * GIB)
        assert one(configured(SMALL, limits=beyond)).kv_budget < 140 * GIB

    def test_holds_no_more_tokens_than_it_is_told(self) -> None:
        assert held(configured(SMALL, limits=ServingLimits(kv_cache_tokens=8192)), 2048) == 4

    def test_has_room_for_the_longest_sequence_where_the_engine_wants_it(self) -> None:
        longest = ServingLimits(max_model_len=131_072, reserves_longest=True)
        assert one(configured(SMALL, "L4", limits=longest)).short_by > 0
        shorter = replace(longest, max_model_len=16_384)
        assert one(configured(SMALL, "L4", limits=shorter)).fits
        assert one(configured(SMALL, "L4", limits=replace(longest, reserves_longest=False))).fits

    @given(rule=rules, model=models, fractions=st.tuples(*[st.floats(0.3, 0.98)] * 2))
    def test_grows_with_the_share(
        self, rule: ServingLimits, model: str, fractions: tuple[float, float]
    ) -> None:
        layout = ParallelLayout(tp=8)
        budgets = [
            one(
                configured(
                    model,
                    "B200",
                    layout=layout,
                    limits=replace(rule, memory_fraction=share),
                )
            ).kv_budget
            for share in sorted(fractions)
        ]
        assert budgets == sorted(budgets)

    @given(rule=rules, layers=st.tuples(*[st.integers(8, 120)] * 2))
    def test_falls_as_weights_grow(self, rule: ServingLimits, layers: tuple[int, int]) -> None:
        sizes = [replace(known(SMALL), layers=each) for each in sorted(layers)]
        budgets = [
            float(MemoryBudgets([configured(each, limits=rule)]).kv_budget[0]) for each in sizes
        ]
        assert budgets == sorted(budgets, reverse=True)

    @given(model=models, length=tokens, batch=st.tuples(*[st.integers(256, 65_536)] * 2))
    def test_falls_with_the_step(self, model: str, length: int, batch: tuple[int, int]) -> None:
        layout = ParallelLayout(tp=8)
        found = [
            held(
                configured(model, layout=layout, limits=ServingLimits(max_num_batched_tokens=each)),
                length,
            )
            for each in sorted(batch)
        ]
        assert found[0] >= found[1]


class TestAnswer:
    @given(model=models, engine=engines, rule=rules, length=tokens, tp=st.sampled_from([1, 4, 8]))
    def test_is_of_one_piece(
        self, model: str, engine: str, rule: ServingLimits, length: int, tp: int
    ) -> None:
        configuration = configured(
            model, "H100", engine=engine, layout=ParallelLayout(tp=tp), limits=rule
        )
        memory = one(configuration, length)
        assert memory.fits == (memory.short_by == 0) == (memory.max_sequences >= 1)
        if memory.fits:
            assert memory.kv_cache <= memory.kv_budget * (1 + 1e-9)
            parts = memory.weights + memory.collectives + memory.kv_budget
            assert parts <= memory.capacity
        else:
            assert memory.kv_budget + memory.short_by >= memory.kv_cache * (1 - 1e-9)

    @settings(max_examples=40, deadline=None)
    @given(
        model=models, engine=engines, tp=st.sampled_from([4, 8]), answer=st.integers(2, 20_000),
        load=st.sampled_from([{"concurrency": 1e6}, {"saturated": True}, {"request_rate": 50.0}]),
    )  # fmt: skip
    def test_running_sequences_stay_within_the_budget(
        self, model: str, engine: str, tp: int, answer: int, load: dict[str, Any]
    ) -> None:
        configuration = configured(model, engine=engine, layout=ParallelLayout(tp=tp))
        asked = Load(input_tokens=1000, output_tokens=answer, **load)
        (found,) = predict([Question(configuration, asked)])
        assert not found.memory.fits or found.memory.kv_cache <= found.memory.kv_budget * 1.0001

    def test_counts_sequences_of_all_groups(self) -> None:
        apart = configured(LATENT, layout=ParallelLayout(dp=8, ep=8))
        memory = one(apart, 4096, sequences=64)
        assert memory.max_sequences == 8 * held(apart, 4096)
        assert memory.kv_cache == pytest.approx(8 * kv_bytes(apart, 4096))

    def test_is_the_same_side_by_side(self) -> None:
        many = [configured(model, layout=ParallelLayout(tp=8)) for model in ALL]
        together = MemoryBudgets(many).memories(np.full(len(many), 3000.0), np.full(len(many), 7.0))
        assert together == [one(each, 3000, 7) for each in many]
        assert MemoryBudgets([]).memories(np.zeros(0), np.zeros(0)) == []

    def test_follows_layers_with_degrees_of_their_own(self) -> None:
        model = known(SMALL)
        split = {LayerKind.ATTENTION: 2, LayerKind.FEEDFORWARD: 8}
        layers = tuple(
            LayerGroup(kind=kind, count=count, tp=split.get(kind, 1))
            for kind, count in layers_of(model).items()
        )
        plain = configured(SMALL)
        memory = one(replace(plain, spread=Spread(tp=8, dense_tp=8), layers=layers))
        weights = model.weights
        expected = (weights.attention + weights.key_value) / 2 + weights.dense / 8
        assert memory.weights == 2 * (expected + weights.embeddings + weights.norms)


class TestExplain:
    def test_says_the_largest_batch(self) -> None:
        words = explain(one(configured(SMALL, "H100")), "H100")
        assert words.startswith("fits on H100 with 79.6 GiB: weights 15.0 GiB, activations")
        assert words.endswith("for the KV cache hold 211 sequences of this length")

    def test_says_by_how_much_weights_are_too_large(self) -> None:
        words = explain(one(configured(DENSE, "H100")), "H100")
        assert words == (
            "does not fit on H100 with 79.6 GiB: the weights take 131.4 GiB, 51.8 GiB too many"
        )

    def test_says_how_much_one_sequence_lacks(self) -> None:
        words = explain(one(configured(LATENT, "H100", layout=ParallelLayout(tp=8))), "H100")
        assert words.startswith("does not fit on H100 with 79.6 GiB: weights 79.3 GiB")
        assert words.endswith("GiB short of one sequence")


def measured() -> list[tuple[str, RowQuestion]]:
    folder = os.environ.get("SERVETUNE_FACTS")
    if folder is None:
        pytest.skip("SERVETUNE_FACTS names no folder of facts")
    with gzip.open(Path(folder) / "groundtruth.csv.gz", "rt", encoding="utf-8") as lines:
        read = [(row["source"], read_row(row)) for row in csv.DictReader(lines)]
    return [(source, row) for source, row in read if isinstance(row, RowQuestion)]


def test_whatever_was_measured_fits() -> None:
    """Rows of disaggregated servings do not say on how many GPUs each half runs."""
    rows = [(source, row) for source, row in measured() if row.kind is not RowKind.DISAGGREGATED]
    assert len(rows) > 6000
    questions = [row.question for _, row in rows]
    budgets = MemoryBudgets([each.configuration for each in questions])
    lengths = [each.load.input_tokens + each.load.output_tokens for each in questions]
    short = budgets.short_by(np.array(lengths))
    failed = Counter(
        (source, row.question.configuration.model.name, row.question.configuration.accelerator.name)
        for (source, row), missing in zip(rows, short, strict=True)
        if missing > 0
    )
    assert not failed
