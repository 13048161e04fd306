from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.engines._flags import load_table
from runtimes.engines._sglang_search import DEFAULT_SEARCH
from runtimes.engines.sglang import SglangEngine
from runtimes.hardware import find_accelerator
from runtimes.json_types import Json
from runtimes.model import find_model
from runtimes.plan import EngineConfig
from runtimes.quantization import CheckpointQuantization
from search.constraints import Condition
from tests.runtimes.sglang_cases import VERSION

ENGINE = SglangEngine()
TABLE = load_table("sglang", VERSION)
MODELS = [None, "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-120b"]


def values(domain: Json) -> list[Json]:
    """Values of a domain: all of a list, the ends of a range."""
    if isinstance(domain, list):
        return domain
    assert isinstance(domain, dict)
    ends = domain.get("int") or domain.get("float")
    assert isinstance(ends, list)
    return ends


@pytest.mark.parametrize("accelerator", [None, "A100-80GB", "H100", "B200"])
@pytest.mark.parametrize("model", MODELS)
def test_every_value_is_one_the_engine_takes(model: str | None, accelerator: str | None) -> None:
    facts = find_model(model) if model else None
    device = find_accelerator(accelerator) if accelerator else None
    hints = ENGINE.search_hints(facts, device)
    names = [hint.name for hint in hints]
    assert len(set(names)) == len(names)
    for hint in hints:
        assert hint.why.endswith(".")
        if hint.when:
            assert Condition.parse(hint.when).names
        for value in values(hint.values):
            assert ENGINE.argument_problems({hint.name: value}, VERSION) == {}
            config = EngineConfig("sglang", "m/x", args={hint.name: value})
            refusal = ENGINE.refuse(config, None, device)
            # Conditions keep these from layouts that the argument does not go with.
            assert refusal is None or hint.when, refusal


def test_nothing_fixed_by_the_engine_is_searched() -> None:
    searched = {hint.name for hint in DEFAULT_SEARCH}
    assert not searched & ENGINE.reserved_args
    assert all(TABLE.find(name) for name in searched)
    assert sum(not hint.advanced for hint in DEFAULT_SEARCH) <= 6


def test_hints_follow_model_and_accelerator() -> None:
    def backends(accelerator: str, model: str = "Qwen/Qwen3-8B") -> Json:
        hints = ENGINE.search_hints(find_model(model), find_accelerator(accelerator))
        return {hint.name: hint.values for hint in hints}["attention-backend"]

    assert backends("H100") == ["fa3", "flashinfer", "triton"]
    assert backends("B200") == ["trtllm_mha", "flashinfer", "triton"]
    assert backends("B200", "deepseek-ai/DeepSeek-V3") == backends("A100-80GB")

    def names(model: str, accelerator: str) -> set[str]:
        found = ENGINE.search_hints(find_model(model), find_accelerator(accelerator))
        return {hint.name for hint in found}

    assert "moe-a2a-backend" in names("deepseek-ai/DeepSeek-V3", "H100")
    assert "moe-a2a-backend" not in names("Qwen/Qwen3-8B", "H100")
    assert "swa-full-tokens-ratio" in names("openai/gpt-oss-120b", "H100")
    assert "kv-cache-dtype" not in names("Qwen/Qwen3-8B", "A100-80GB")


def test_a_checkpoint_with_an_fp8_cache_leaves_nothing_to_search_there() -> None:
    model = find_model("Qwen/Qwen3-8B")
    assert model is not None
    scaled = CheckpointQuantization("modelopt", "fp8", kv_cache="fp8")
    names = {hint.name for hint in ENGINE.search_hints(replace(model, quantization=scaled), None)}
    assert "kv-cache-dtype" not in names
