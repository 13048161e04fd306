"""How a simulated GPU's memory is divided, and vLLM's defaults and rules around it."""

from __future__ import annotations

import pytest

from runtimes.fit import GIB
from runtimes.hardware import find_accelerator
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.simulator.arguments import parse_engine
from runtimes.simulator.memory import StartupError, block_bytes, weight_bytes
from runtimes.simulator.resolve import Resolved, resolve

MODEL = "meta-llama/Llama-3.3-70B-Instruct"


def _model(name: str = MODEL) -> ModelFacts:
    model = find_model(name)
    assert model is not None
    return model


def _resolve(*argv: str, accelerator: str = "H200", model: str = MODEL) -> Resolved:
    arguments = parse_engine([model, *argv], model)
    return resolve(arguments, _model(model), find_accelerator(accelerator))


@pytest.mark.parametrize(
    ("layout", "share"),
    [
        (ParallelLayout(), 1),
        (ParallelLayout(tp=4), 4),
        (ParallelLayout(tp=4, pp=2), 8),
        (ParallelLayout(tp=16), 8),
    ],
    ids=str,
)
def test_a_block_is_shared_by_ranks_up_to_the_kv_heads(layout: ParallelLayout, share: int) -> None:
    whole = 16 * 2 * 80 * 8 * 128 * 2
    assert block_bytes(_model(), layout, block_size=16, element_bytes=2.0) == whole / share


def test_the_parts_add_up_to_the_allowed_memory() -> None:
    memory = _resolve("-tp", "2", "--gpu-memory-utilization", "0.9").memory
    allowed = 0.9 * find_accelerator("H200").memory_bytes
    assert memory.weights + memory.activations + memory.kv_pool == pytest.approx(allowed)
    assert memory.weights / GIB == pytest.approx(65.7, abs=0.1)


def test_an_8_bit_cache_holds_twice_the_tokens() -> None:
    assert _resolve("-tp", "2", "--kv-cache-dtype", "fp8").kv_tokens == pytest.approx(
        2 * _resolve("-tp", "2").kv_tokens, rel=1e-3
    )


def test_8_bit_weights_let_70b_fit_one_h200() -> None:
    with pytest.raises(StartupError, match="No available memory for the cache blocks"):
        _resolve()
    assert _resolve("--quantization", "fp8", "--max-model-len", "32k").limits.blocks > 0
    embedding_and_head = 2 * 2 * 128256 * 8192
    layers = _model().weight_bytes - embedding_and_head
    assert weight_bytes(_model(), "fp8") == pytest.approx(layers / 2 + embedding_and_head)


def test_more_running_sequences_leave_less_cache() -> None:
    few = _resolve("-tp", "2", "--max-num-batched-tokens", "2048")
    many = _resolve("-tp", "2", "--max-num-batched-tokens", "16384")
    assert many.kv_tokens < few.kv_tokens


@pytest.mark.parametrize(
    ("accelerator", "seqs", "tokens"),
    [
        ("L40S", 256, 2048),
        ("A100-80GB", 256, 8192),
        ("H200", 1024, 8192),
        ("MI300X", 1024, 16384),
    ],
)
def test_defaults_are_vllm_s_for_the_device(accelerator: str, seqs: int, tokens: int) -> None:
    limits = _resolve(accelerator=accelerator, model="meta-llama/Llama-3.1-8B").limits
    assert (limits.max_num_seqs, limits.max_num_batched_tokens) == (seqs, tokens)
    assert limits.max_model_len == 131072


@pytest.mark.parametrize(
    ("argv", "rule"),
    [
        (["--gpu-memory-utilization", "1.2"], r"must be in \(0, 1\], got 1.2"),
        (["--max-num-seqs", "0"], r"max_num_seqs \(0\).* must be at least 1"),
        (["-tp", "7"], r"attention heads \(64\) must be divisible by tensor parallel size \(7\)"),
    ],
)
def test_broken_rules_are_told_in_vllm_s_words(argv: list[str], rule: str) -> None:
    with pytest.raises(StartupError, match=rule):
        _resolve(*argv)
