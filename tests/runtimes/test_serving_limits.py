"""What engines say of their batches and memory: arguments first, then their own defaults."""

from __future__ import annotations

from typing import ClassVar

import pytest

from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal, create_engine
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig, Environment
from runtimes.serving_limits import ServingLimits

LLAMA = "meta-llama/Llama-3.1-8B"
WINDOWED = "openai/gpt-oss-120b"


def limits(
    engine: str,
    args: dict[str, Json] | None = None,
    *,
    accelerator: str | None = "H100",
    model: str | None = LLAMA,
    version: str | None = None,
    **layout: int,
) -> ServingLimits:
    config = EngineConfig(
        engine,
        model or LLAMA,
        layout=ParallelLayout(**layout),
        args=args or {},
        environment=Environment(version=version),
        options=ENGINES.get(engine).required_options,
    )
    facts = find_model(model) if model is not None else None
    device = find_accelerator(accelerator) if accelerator is not None else None
    return create_engine(engine).serving_limits(config, facts, device)


@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize("accelerator", [None, "L4", "B200", "MI300X"])
@pytest.mark.parametrize("model", [None, LLAMA, WINDOWED])
def test_every_engine_has_some(engine: str, accelerator: str | None, model: str | None) -> None:
    found = limits(engine, accelerator=accelerator, model=model)
    assert found.max_num_seqs >= 1
    assert found.max_num_batched_tokens >= 1
    assert 0 < found.memory_fraction < 1
    assert found.max_model_len == (131_072 if model is not None else 0)


class Plugin(Engine):
    """An engine of one file that says nothing of limits."""

    name = "plugin"
    metrics: ClassVar[dict[str, str]] = {}
    request_fields: ClassVar[dict[str, Json]] = {}

    def gpus(self, layout: ParallelLayout) -> int:
        return layout.tp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        return DeploymentPlan(self.name, (), ())

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        return None

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return EngineReport()


def test_an_engine_need_not_say_any() -> None:
    found = Plugin().serving_limits(EngineConfig("plugin", LLAMA), find_model(LLAMA), None)
    assert found == ServingLimits(max_model_len=131_072)


class TestVllm:
    @pytest.mark.parametrize(
        ("accelerator", "tokens", "seqs"),
        [("L4", 2048, 256), ("A100-80GB", 2048, 256), ("H100", 8192, 1024), ("B200", 16384, 1024)],
    )
    def test_batch_goes_by_memory(self, accelerator: str, tokens: int, seqs: int) -> None:
        found = limits("vllm", accelerator=accelerator)
        assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, seqs)

    def test_earlier_versions_have_other_defaults(self) -> None:
        old = limits("vllm", accelerator="B200", version="0.19.0")
        assert (old.max_num_batched_tokens, old.memory_fraction) == (8192, 0.9)
        new = limits("vllm", accelerator="B200", version="0.33.0")
        assert (new.max_num_batched_tokens, new.memory_fraction) == (16384, 0.92)

    def test_arguments_win_however_they_are_spelt(self) -> None:
        args: dict[str, Json] = {
            "max_num_seqs": 64, "max-num-batched-tokens": "4K", "gpu-memory-utilization": 0.85,
            "max-model-len": "16k", "block-size": 32, "enable-prefix-caching": False,
            "enforce-eager": True, "kv-cache-memory-bytes": "10G", "num-gpu-blocks-override": 100,
        }  # fmt: skip
        assert limits("vllm", args) == ServingLimits(
            max_num_seqs=64, max_num_batched_tokens=4096, memory_fraction=0.85,
            max_model_len=16_000, reserves_longest=True, block_size=32, prefix_caching=False,
            compiled_graphs=False, kv_cache_bytes=10 << 30, kv_cache_tokens=3200,
        )  # fmt: skip

    def test_whole_prompts_need_steps_as_long(self) -> None:
        found = limits("vllm", {"enable-chunked-prefill": False, "max-model-len": 32_768})
        assert (found.chunked_prefill, found.max_num_batched_tokens) == (False, 32_768)

    def test_sequences_stay_within_the_tokens_of_a_step(self) -> None:
        assert limits("vllm", {"max-num-batched-tokens": 512}).max_num_seqs == 512

    def test_throughput_doubles_what_is_not_set(self) -> None:
        found = limits("vllm", {"performance-mode": "throughput", "max-num-seqs": 100})
        assert (found.max_num_batched_tokens, found.max_num_seqs) == (16384, 100)

    def test_a_length_to_be_found_out_needs_no_room(self) -> None:
        assert limits("vllm").reserves_longest
        assert not limits("vllm", {"max-model-len": "auto"}).reserves_longest

    @pytest.mark.parametrize(
        "args",
        [
            {"speculative-config": {"method": "ngram", "num_speculative_tokens": 4}},
            {"speculative-config.num_speculative_tokens": 4},
            {"speculative-config": '{"method": "mtp", "num_speculative_tokens": 4}'},
            {"spec-method": "mtp", "spec-tokens": 4},
        ],
    )
    def test_drafts_are_counted(self, args: dict[str, Json]) -> None:
        assert limits("vllm", args).draft_tokens == 4

    def test_a_drafter_drafts_at_least_one(self) -> None:
        assert limits("vllm", {"speculative-config": {"method": "mtp"}}).draft_tokens == 1
        assert limits("vllm").draft_tokens == 0

    def test_graphs_are_off_in_more_than_one_way(self) -> None:
        assert limits("vllm").compiled_graphs
        assert not limits("vllm", {"optimization-level": 0}).compiled_graphs
        mode: dict[str, Json] = {"compilation-config.cudagraph_mode": "NONE"}
        assert not limits("vllm", mode).compiled_graphs


class TestSglang:
    @pytest.mark.parametrize(
        ("accelerator", "chunk", "fraction"),
        [
            ("L4", 2048, (23034 - 512 - 3072 - 48 - 128) / 23034),
            ("L40S", 4096, (46067.7 - 512 - 6144 - 64 - 128) / 46067.7),
            ("H100", 8192, (81559 - 512 - 12288 - 512 - 128) / 81559),
            ("B200", 16384, (183359 - 512 - 24576 - 1024 - 128) / 183359),
        ],
    )
    def test_chunk_and_share_go_by_memory(
        self, accelerator: str, chunk: int, fraction: float
    ) -> None:
        found = limits("sglang", accelerator=accelerator)
        assert found.max_num_batched_tokens == chunk
        assert found.memory_fraction == pytest.approx(fraction, abs=6e-4)
        assert found.fraction_of == "static"

    def test_large_devices_keep_ten_gib_at_least(self) -> None:
        found = limits("sglang", {"chunked-prefill-size": 2048})
        assert found.memory_fraction == pytest.approx(1 - 10240 / 81559, abs=6e-4)

    def test_drafters_with_weights_are_given_room(self) -> None:
        without = limits("sglang").memory_fraction
        drafting = limits("sglang", {"speculative-algorithm": "EAGLE"})
        assert without - drafting.memory_fraction == pytest.approx(2048 / 81559, abs=1.1e-3)
        assert drafting.draft_tokens == 3
        guided: dict[str, Json] = {
            "speculative-algorithm": "NGRAM", "speculative-num-draft-tokens": 8,
        }  # fmt: skip
        assert limits("sglang", guided).memory_fraction == without
        assert limits("sglang", guided).draft_tokens == 7

    def test_groups_share_the_chunk_and_the_requests(self) -> None:
        args: dict[str, Json] = {"max-running-requests": 512}
        found = limits("sglang", args, tp=8, attention_dp=4)
        assert (found.max_num_batched_tokens, found.max_num_seqs) == (2048, 128)

    def test_arguments_win(self) -> None:
        args: dict[str, Json] = {
            "mem-fraction-static": 0.8, "chunked-prefill-size": -1, "max-prefill-tokens": "8Ki",
            "page-size": 64, "disable-radix-cache": True, "max-total-tokens": 100_000,
            "context-length": 4096, "cuda-graph-backend-decode": "disabled",
            "max-running-requests": 100,
        }  # fmt: skip
        assert limits("sglang", args) == ServingLimits(
            max_num_seqs=100, max_num_batched_tokens=8192, memory_fraction=0.8,
            fraction_of="static", max_model_len=4096, chunked_prefill=False, prefix_caching=False,
            block_size=64, compiled_graphs=False, kv_cache_tokens=100_000,
        )  # fmt: skip

    def test_windowed_layers_have_a_pool(self) -> None:
        assert limits("sglang").window_pool == 0
        assert limits("sglang", model=WINDOWED).window_pool == 0.8
        args: dict[str, Json] = {"swa-full-tokens-ratio": 0.5}
        assert limits("sglang", args, model=WINDOWED).window_pool == 0.5


class TestTensorRtLlm:
    def test_defaults(self) -> None:
        assert limits("tensorrt_llm") == ServingLimits(
            max_num_seqs=2048, max_num_batched_tokens=8192, memory_fraction=0.9,
            fraction_of="free", max_model_len=131_072, reserves_answers=True, chunked_prefill=False,
            block_size=32,
        )  # fmt: skip

    def test_options_and_keys_win(self) -> None:
        args: dict[str, Json] = {
            "max_batch_size": 256, "max-num-tokens": 4096, "max_seq_len": 8192,
            "enable_chunked_prefill": True,
            "kv_cache_config": {"free_gpu_memory_fraction": 0.8, "tokens_per_block": 64},
            "kv_cache_config.enable_block_reuse": False, "kv_cache_config.max_tokens": 65_536,
            "speculative_config": {"decoding_type": "NGram", "max_draft_len": 4},
        }  # fmt: skip
        assert limits("tensorrt_llm", args) == ServingLimits(
            max_num_seqs=256, max_num_batched_tokens=4096, memory_fraction=0.8,
            fraction_of="free", max_model_len=8192, prefix_caching=False, block_size=64,
            reserves_answers=True, kv_cache_tokens=65_536, draft_tokens=4,
        )  # fmt: skip

    def test_evicting_sequences_reserves_nothing(self) -> None:
        args: dict[str, Json] = {"scheduler_config.capacity_scheduler_policy": "MAX_UTILIZATION"}
        assert not limits("tensorrt_llm", args).reserves_answers

    def test_the_option_of_the_command_counts_too(self) -> None:
        args: dict[str, Json] = {"free_gpu_memory_fraction": 0.7}
        assert limits("tensorrt_llm", args).memory_fraction == 0.7


def test_a_simulation_is_limited_as_what_it_imitates() -> None:
    args: dict[str, Json] = {"max-num-seqs": 32}
    assert limits("simulated", args) == limits("vllm", args, version="0.33.0")
