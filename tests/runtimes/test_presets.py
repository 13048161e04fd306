"""Presets: what each means for each engine, and why an engine has none."""

from __future__ import annotations

import pytest

from runtimes.engines.base import ENGINES, create_engine
from runtimes.parallel import ParallelLayout
from runtimes.presets import LAYOUT_PRESETS, PRECISION_PRESETS, layout_of, precision_of
from runtimes.quantization import Quantization


@pytest.mark.parametrize(
    ("preset", "engine", "layout"),
    [
        ("single-gpu", "vllm", ParallelLayout()),
        ("high-throughput", "sglang", ParallelLayout(dp=8)),
        ("balanced", "vllm", ParallelLayout(tp=4, dp=2)),
        ("large-model-tp", "tensorrt_llm", ParallelLayout(tp=8)),
        ("large-model-tp-pp", "vllm", ParallelLayout(tp=4, pp=2)),
        ("moe-optimized", "vllm", ParallelLayout(dp=8, ep=8)),
        ("moe-optimized", "sglang", ParallelLayout(tp=8, attention_dp=8, ep=8)),
        ("moe-optimized", "tensorrt_llm", ParallelLayout(tp=8, attention_dp=8, ep=8)),
        ("long-context", "vllm", ParallelLayout(tp=8, dcp=2)),
        ("long-context", "tensorrt_llm", ParallelLayout(tp=4, cp=2)),
        ("balanced", "of-a-plugin", ParallelLayout(tp=4, dp=2)),
    ],
)
def test_layouts_on_a_node_of_eight(preset: str, engine: str, layout: ParallelLayout) -> None:
    assert layout_of(preset, engine, 8) == layout


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm"])
@pytest.mark.parametrize("node_gpus", [1, 2, 3, 4, 8, 72])
def test_a_preset_takes_no_more_gpus_than_the_node_has(engine: str, node_gpus: int) -> None:
    sizes = {}
    for preset in LAYOUT_PRESETS:
        layout = layout_of(preset, engine, node_gpus)
        if isinstance(layout, ParallelLayout):
            sizes[preset] = create_engine(engine).gpus(layout)
        else:
            assert node_gpus == 1
            assert layout == "it takes at least 2 GPUs of a node, and there is 1"
    assert sizes["single-gpu"] == 1
    assert all(node_gpus - 1 <= size <= node_gpus for name, size in sizes.items()
               if name != "single-gpu")  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "engine", "expected"),
    [
        ("default", "sglang", Quantization()),
        ("bf16-stable", "vllm", Quantization(gemm="bf16")),
        ("kv-cache-fp8", "tensorrt_llm", Quantization(kv_cache="fp8")),
        ("dynamic-fp8", "vllm", Quantization(gemm="fp8")),
        ("dynamic-fp8", "sglang", Quantization(gemm="fp8")),
        ("aggressive-moe", "vllm", Quantization(gemm="fp8", moe="nvfp4")),
    ],
)
def test_precisions(preset: str, engine: str, expected: Quantization) -> None:
    assert precision_of(preset, engine) == expected


@pytest.mark.parametrize(
    ("preset", "engine", "words"),
    [
        ("dynamic-fp8", "tensorrt_llm", "quantised beforehand"),
        ("aggressive-moe", "tensorrt_llm", "quantised beforehand"),
        ("aggressive-moe", "sglang", "w4afp8"),
        ("kv-cache-fp8", "external", "runs already"),
    ],
)
def test_what_an_engine_has_nothing_for_says_why(preset: str, engine: str, words: str) -> None:
    reason = precision_of(preset, engine)
    assert isinstance(reason, str)
    assert words in reason


def test_engines_are_named_as_they_are_registered() -> None:
    named = {name for preset in LAYOUT_PRESETS.values() for name in preset.engines}
    named |= {name for preset in PRECISION_PRESETS.values() for name in preset.engines}
    assert named <= set(ENGINES.names())


def test_every_preset_says_what_it_is_for() -> None:
    purposes = [preset.purpose for preset in LAYOUT_PRESETS.values()]
    purposes += [preset.purpose for preset in PRECISION_PRESETS.values()]
    assert all(purpose.endswith(".") for purpose in purposes)
    assert len(set(purposes)) == 7 + 5
