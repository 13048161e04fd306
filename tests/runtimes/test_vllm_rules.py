from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.engines import _vllm_rules as rules
from runtimes.engines.vllm import VllmEngine
from runtimes.hardware import find_accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from tests.runtimes.vllm_cases import ask_vllm

ENGINE = VllmEngine()
TINY = ModelFacts("tiny", 4, 128, 4, 2, 32, 256, 2048, max_context=4096)
LLAMA = ModelFacts("llama", 80, 8192, 64, 8, 128, 28672, 128256, max_context=131072)


def refused(
    model: ModelFacts | None = LLAMA,
    *,
    args: Mapping[str, Json] | None = None,
    layout: ParallelLayout | None = None,
    env: Mapping[str, str] | None = None,
    accelerator: str | None = None,
) -> str | None:
    config = EngineConfig(
        "vllm", "m", layout=layout or ParallelLayout(), args=args or {}, env=env or {}
    )
    device = find_accelerator(accelerator) if accelerator else None
    refusal = ENGINE.refuse(config, model, device)
    return None if refusal is None else refusal.message


def test_the_defaults_are_accepted() -> None:
    assert refused() is None


def test_heads_message_names_the_nearest_valid_degrees() -> None:
    assert refused(layout=ParallelLayout(tp=3)) == (
        "tp=3 does not divide 64 attention heads; valid: 1, 2, 4, 8"
    )


@given(tp=st.integers(1, 64), heads=st.integers(1, 256))
def test_heads_rule_is_divisibility(tp: int, heads: int) -> None:
    model = ModelFacts("m", 1, 64, heads, heads, 64, 64, 64)
    broken = rules.heads_not_divided(ParallelLayout(tp=tp), model)
    assert (broken is None) == (heads % tp == 0)
    if broken:
        valid = [int(n) for n in broken.rpartition("valid: ")[2].split(", ")]
        assert valid
        assert all(heads % n == 0 for n in valid)


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16])
def test_kv_heads_are_split_or_copied(tp: int) -> None:
    assert rules.kv_heads_not_shared(ParallelLayout(tp=tp), LLAMA) is None


def test_kv_heads_neither_split_nor_copied() -> None:
    model = ModelFacts("m", 4, 768, 12, 4, 64, 3072, 1000)
    assert rules.kv_heads_not_shared(ParallelLayout(tp=6), model) == (
        "tp=6 neither divides 4 KV heads nor is a multiple of them; valid: 1, 2, 4, 8"
    )
    assert refused(model, layout=ParallelLayout(tp=6)) == rules.kv_heads_not_shared(
        ParallelLayout(tp=6), model
    )


def test_intermediate_size_is_divided() -> None:
    model = ModelFacts("m", 4, 768, 12, 12, 64, 100, 1000)
    message = refused(model, layout=ParallelLayout(tp=3))
    assert message is not None
    assert message.startswith("tp=3 does not divide 100 columns of the MLP")


def test_no_more_stages_than_layers() -> None:
    assert refused(layout=ParallelLayout(pp=80)) is None
    assert refused(layout=ParallelLayout(pp=81)) == "pp=81 exceeds 80 layers; valid: 1 to 80"


@pytest.mark.parametrize(
    ("tokens", "seqs", "valid"),
    [(64, 64, True), (64, 65, False), ("2k", 2000, True), ("2k", 2001, False), ("2K", 2048, True)],
)
def test_every_sequence_gets_a_token(tokens: Json, seqs: int, valid: bool) -> None:
    broken = refused(args={"max-num-batched-tokens": tokens, "max-num-seqs": seqs})
    assert (broken is None) == valid


def test_sequence_message_tells_both_ways_out() -> None:
    assert refused(None, args={"max-num-batched-tokens": 64, "max-num-seqs": 128}) == (
        "max-num-batched-tokens=64 is below max-num-seqs=128; "
        "valid: max-num-batched-tokens ≥ 128 or max-num-seqs ≤ 64"
    )


@pytest.mark.parametrize("args", [{"max-num-seqs": 9999}, {"max-num-batched-tokens": 1}, {}])
def test_sequence_rule_is_silent_when_one_side_is_the_engines(args: Mapping[str, Json]) -> None:
    assert rules.tokens_below_seqs(args) is None


def test_without_chunked_prefill_a_step_holds_the_longest_prompt() -> None:
    args: dict[str, Json] = {"max-num-batched-tokens": 2048, "enable-chunked-prefill": False}
    assert refused(TINY, args=args) == (
        "max-num-batched-tokens=2048 is below max-model-len=4096 while "
        "enable-chunked-prefill is false; valid: max-num-batched-tokens ≥ 4096"
    )
    assert refused(TINY, args={**args, "max-model-len": 2048}) is None
    assert refused(TINY, args={**args, "enable-chunked-prefill": True}) is None


def test_context_within_the_models_positions() -> None:
    long: dict[str, Json] = {"max-model-len": 4097}
    assert refused(TINY, args={"max-model-len": 4096}) is None
    assert refused(TINY, args={"max-model-len": "auto"}) is None
    assert refused(TINY, args=long) == (
        "max-model-len=4097 exceeds the 4096 positions of tiny; valid: up to 4096"
    )
    assert refused(TINY, args=long, env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}) is None
    assert refused(TINY, args={**long, "hf-overrides": {"rope_scaling": {}}}) is None
    assert refused(None, args=long) is None


def test_weights_must_fit_the_fraction_of_memory() -> None:
    message = refused(accelerator="H100")
    assert message is not None
    assert "GiB" in message
    assert "0.92" in message
    assert refused(accelerator="H100", layout=ParallelLayout(tp=2)) is None
    assert (
        refused(
            accelerator="H100",
            layout=ParallelLayout(tp=2),
            args={"gpu-memory-utilization": 0.5},
        )
        is not None
    )


def test_weight_rule_is_silent_when_weights_change() -> None:
    assert refused(accelerator="H100", args={"quantization": "fp8_per_tensor"}) is None
    assert refused(None, accelerator="H100") is None
    assert refused() is None


ORACLE_GRID: list[tuple[dict[str, int], dict[str, Json]]] = [
    ({"tp": 1}, {}),
    ({"tp": 2}, {}),
    ({"tp": 3}, {}),
    ({"tp": 4}, {}),
    ({"tp": 5}, {}),
    ({"pp": 2}, {}),
    ({"tp": 1}, {"max-num-batched-tokens": 128, "max-num-seqs": 128}),
    ({"tp": 1}, {"max-num-batched-tokens": 127, "max-num-seqs": 128}),
    ({"tp": 1}, {"max-model-len": 4096}),
    ({"tp": 1}, {"max-model-len": 4097}),
    ({"tp": 1}, {"max-num-batched-tokens": 4095, "enable-chunked-prefill": False}),
    ({"tp": 1}, {"max-num-batched-tokens": 4096, "enable-chunked-prefill": False}),
]

CONFIGURE = """
def answer(argv):
    namespace = parser.parse_args(argv)
    namespace.model = namespace.model_tag
    try:
        AsyncEngineArgs.from_cli_args(namespace).create_engine_config()
    except (ValueError, AssertionError) as error:
        return str(error)
"""


@pytest.mark.vllm
def test_the_rules_agree_with_vllms_own_configuration(tmp_path: Path) -> None:
    """Our answer beside that of the real `create_engine_config`, on the same commands."""
    examples = Path(__file__).parents[2] / "examples"
    subprocess.run([sys.executable, examples / "tiny_model.py", tmp_path], check=True)
    configs = [
        EngineConfig(
            "vllm",
            str(tmp_path),
            layout=ParallelLayout(**layout),
            args={"load-format": "dummy", "enforce-eager": True, **args},
        )
        for layout, args in ORACLE_GRID
    ]
    argvs = [
        ENGINE.plan(config).processes[0].command(host="127.0.0.1", port=23456)[2:]
        for config in configs
    ]
    theirs = ask_vllm(CONFIGURE, argvs, tmp_path)
    model = find_model(str(tmp_path))
    ours = [ENGINE.refuse(config, model, None) for config in configs]
    for case, our, their in zip(ORACLE_GRID, ours, theirs, strict=True):
        assert (our is None) == (their is None), (case, our, their)
    assert sum(our is not None for our in ours) == 5
