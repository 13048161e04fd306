"""What TensorRT-LLM refuses: each rule with a configuration on either side of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.engines.base import Refusal
from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.model import ModelFacts, find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.quantization import CheckpointQuantization, Quantization
from tests.runtimes.trtllm_cases import ENGINE, MODEL, MOE, config, mixture


def facts(name: str) -> ModelFacts:
    found = find_model(name)
    assert found is not None
    return found


DENSE, MIXTURE = facts(MODEL), facts(MOE)
H100, A100, B200 = (ACCELERATORS[name] for name in ("H100", "A100-80GB", "B200"))


def refusal(case: EngineConfig, model: ModelFacts | None, gpu: str | None = None) -> Refusal | None:
    return ENGINE.refuse(case, model, ACCELERATORS[gpu] if gpu else None)


def layout(**degrees: int) -> ParallelLayout:
    return ParallelLayout(**degrees)


REFUSED = {
    "no degree for dense MLPs": (
        mixture(layout=layout(tp=8, moe_dense_tp=2)), MIXTURE,
        "degree_supported", "TensorRT-LLM has no moe_dense_tp (got moe_dense_tp=2)",
    ),
    "two context degrees": (
        config(layout=layout(cp=2, pcp=4)), DENSE,
        "one_context_degree", "got cp=2 pcp=4; valid: one of them",
    ),
    "prefill and decode": (
        mixture(layout=layout(tp=2, cp=2, dcp=2)), MIXTURE, "one_context_degree", "cp=2 dcp=2",
    ),
    "two expert degrees": (
        mixture(layout=layout(tp=8, ep=4, moe_ep=2)), MIXTURE,
        "one_expert_degree", "ep=4 and moe_ep=2 name one thing",
    ),
    "T5: attention on some ranks": (
        mixture(layout=layout(tp=8, attention_dp=4)), MIXTURE,
        "attention_dp_is_tp", "attention_dp=4 is neither 1 nor tp=8",
    ),
    "T2: product too large": (
        mixture(layout=layout(tp=8, ep=8, moe_tp=2)), MIXTURE,
        "experts_fill_the_group", "is 16, which must equal tp=8; valid: a product of 8",
    ),
    "T2: product too small": (
        mixture(layout=layout(tp=8, moe_tp=2, moe_ep=1)), MIXTURE,
        "experts_fill_the_group", "moe_tp=2 * ep=1 is 2, which must equal tp=8",
    ),
    "T2: not a divisor": (
        mixture(layout=layout(tp=8, ep=3)), MIXTURE,
        "experts_fill_the_group", "ep=3 must divide tp=8; valid: 1, 2, 4",
    ),
    "T2: by an argument": (
        mixture(layout=layout(tp=8), args={"ep_size": 16}), MIXTURE,
        "experts_fill_the_group", "ep=16 must divide tp=8",
    ),
    "T2: no shards": (
        mixture(layout=layout(tp=8), args={"moe_tensor_parallel_size": 0}), MIXTURE,
        "experts_fill_the_group", "moe_tp=0 must divide tp=8; valid: 1, 2, 4",
    ),
    "T3: clusters beside expert ranks": (
        mixture(layout=layout(tp=8, ep=2, moe_cluster=2)), MIXTURE,
        "clusters_exclude_expert_ranks", "moe_cluster=2 needs ep=1, got ep=2",
    ),
    "T3: clusters beside derived expert ranks": (
        mixture(layout=layout(tp=8, moe_tp=2, moe_cluster=2)), MIXTURE,
        "clusters_exclude_expert_ranks", "moe_cluster=2 needs ep=1, got ep=2",
    ),
    "T3: expert ranks beside context parallelism": (
        mixture(layout=layout(tp=4, cp=2, ep=4)), MIXTURE,
        "ulysses_excludes_expert_ranks", "cp=2 with ep=4",
    ),
    "T4: context ranks share heads": (
        config(layout=layout(tp=8, cp=16)), DENSE,
        "heads_divided", "tp * cp=128 does not divide 64 attention heads; valid: 8, 16, 32, 64",
    ),
    "T5: heads without attention data parallelism": (
        config(layout=layout(tp=3)), DENSE,
        "heads_divided", "tp=3 does not divide 64 attention heads; valid: 1, 2, 4, 8",
    ),
    "T7: Helix outside a decode worker": (
        mixture(layout=layout(tp=4, dcp=2)), MIXTURE, "helix_decodes", "valid here: dcp=1",
    ),
    "T7: Helix without latent attention": (
        config(layout=layout(tp=4, dcp=2), args={"server_role": "GENERATION"}), DENSE,
        "helix_needs_latent_attention", "which meta-llama/Llama-3.3-70B-Instruct does not have",
    ),
    "T8: a stage without a layer": (
        config(layout=layout(pp=81)), DENSE,
        "more_stages_than_layers", "pp=81 exceeds 80 layers; valid: 1 to 80",
    ),
    "experts of a dense model": (
        config(layout=layout(tp=8, ep=8)), DENSE,
        "experts_needed", "ep=8 is for models with experts",
    ),
    "context": (
        config(args={"max_seq_len": 200_000}), DENSE,
        "context_too_long", "max_seq_len=200000 exceeds the 131072 positions",
    ),
    "several nodes": (
        config(layout=layout(tp=8, pp=2), nodes=2), DENSE, "one_node", "valid: 1 node",
    ),
    "weights quantised at start": (
        config(quantization=Quantization(gemm="fp8")), DENSE,
        "weights_as_checkpoint", "quantises no weights at start; valid: bf16, fp16",
    ),
    "quantised weights in 16 bits": (
        mixture(quantization=Quantization(gemm="bf16")), MIXTURE,
        "weights_as_checkpoint", "the weights are quantised already (fp8 by config.json)",
    ),
    "experts by themselves": (
        mixture(quantization=Quantization(moe="nvfp4")), MIXTURE,
        "experts_as_the_rest", "no setting for the experts' format",
    ),
    "attention by itself": (
        config(quantization=Quantization(attention="fp8")), DENSE,
        "attention_not_settable", "the KV cache (as the checkpoint) decides",
    ),
    "a KV cache of no format of its": (
        config(quantization=Quantization(kv_cache="int8")), DENSE,
        "kv_format", "kv_cache=int8 is none of TensorRT-LLM's",
    ),
    "a KV cache without calibration": (
        config(quantization=Quantization(kv_cache="nvfp4")), DENSE,
        "kv_of_checkpoint", "needs a checkpoint calibrated for it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name: str) -> None:
    case, model, rule, words = REFUSED[name]
    found = refusal(case, model)
    assert found is not None
    assert (found.rule, words in found.message) == (rule, True), found
    assert ENGINE.plan(case).deploy, "what is refused has a command to show"


ACCEPTED = {
    "the defaults": (config(), DENSE),
    "heads divided": (config(layout=layout(tp=8, pp=2)), DENSE),
    "uneven layers": (config(layout=layout(pp=3)), DENSE),
    "context parallel": (config(layout=layout(tp=2, cp=2)), DENSE),
    "context parallel by both its names": (config(layout=layout(tp=2, cp=2, pcp=2)), DENSE),
    "replicas": (config(layout=layout(tp=4, dp=3)), DENSE),
    "heads that attention data parallelism need not divide": (
        mixture(layout=layout(tp=6, attention_dp=6)), MIXTURE,
    ),
    "experts spread": (mixture(layout=layout(tp=8, ep=8)), MIXTURE),
    "experts sharded and spread": (mixture(layout=layout(tp=8, ep=4, moe_tp=2)), MIXTURE),
    "clusters": (mixture(layout=layout(tp=8, moe_cluster=2)), MIXTURE),
    "Helix on a decode worker": (
        mixture(layout=layout(tp=4, dcp=2, ep=8), args={"server_role": "generation"}), MIXTURE,
    ),
    "KV cache in fp8": (config(quantization=Quantization(kv_cache="fp8")), DENSE),
    "attention as the KV cache": (
        config(quantization=Quantization(kv_cache="fp8", attention="fp8")), DENSE,
    ),
    "what the checkpoint is": (
        mixture(quantization=Quantization(gemm="fp8_block", moe="fp8_block")), MIXTURE,
    ),
    "16 bits": (config(quantization=Quantization("fp16", "fp16", "fp16", "fp16")), DENSE),
    "a model that is not known": (config(layout=layout(tp=3, ep=3, pp=99)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ACCEPTED))
def test_accepted(name: str) -> None:
    case, model = ACCEPTED[name]
    assert refusal(case, model) is None


# --- hardware -----------------------------------------------------------------------------------


def checkpoint(method: str, weights: str | None, kv_cache: str | None = None) -> ModelFacts:
    held = CheckpointQuantization(method, weights, kv_cache)  # type: ignore[arg-type]  # any of them
    return replace(DENSE, quantization=held)


@pytest.mark.parametrize(
    ("case", "model", "gpu", "rule"),
    [
        (config(), DENSE, "MI300X", "nvidia_only"),
        (config(quantization=Quantization(kv_cache="fp8")), None, "A100-80GB", "kv_on_hardware"),
        (config(quantization=Quantization(kv_cache="nvfp4")), None, "H100", "kv_on_hardware"),
        (config(), checkpoint("modelopt", "fp8"), "A100-80GB", "checkpoint_on_hardware"),
        (config(), checkpoint("modelopt_fp4", "nvfp4"), "H200", "checkpoint_on_hardware"),
        (config(), DENSE, "H100", "weights_do_not_fit"),
        (config(layout=layout(tp=2)), DENSE, "L4", "weights_do_not_fit"),
        (config(), checkpoint("awq", "int4"), "H100", "checkpoint_read"),
        (config(), checkpoint("gguf", None), "H100", "checkpoint_read"),
        (
            config(quantization=Quantization(kv_cache="bf16")),
            checkpoint("modelopt", "fp8", "fp8"), "H100", "kv_of_checkpoint",
        ),
    ],
)  # fmt: skip
def test_refused_on_hardware(
    case: EngineConfig, model: ModelFacts | None, gpu: str, rule: str
) -> None:
    found = refusal(case, model, gpu)
    assert found is not None
    assert found.rule == rule


@pytest.mark.parametrize(
    ("case", "model", "gpu"),
    [
        (config(layout=layout(tp=2)), DENSE, "H100"),
        (config(quantization=Quantization(kv_cache="fp8")), None, "L4"),
        (config(), checkpoint("modelopt", "fp8"), "H100"),
        (config(), checkpoint("modelopt_fp4", "nvfp4", "nvfp4"), "B200"),
        (
            config(quantization=Quantization(kv_cache="nvfp4")),
            checkpoint("modelopt_fp4", "nvfp4", "nvfp4"), "B200",
        ),
        (mixture(layout=layout(tp=8, ep=8)), MIXTURE, "H200"),
    ],
)  # fmt: skip
def test_accepted_on_hardware(case: EngineConfig, model: ModelFacts | None, gpu: str) -> None:
    assert refusal(case, model, gpu) is None


def test_the_weights_are_told_with_their_size() -> None:
    found = refusal(config(), DENSE, "H100")
    assert found is not None
    assert found.message == (
        "weights take 131.4 GiB per GPU at tp=1 pp=1, but H100 has "
        f"{H100.memory_bytes / (1 << 30):.1f} GiB"
    )


# --- what is lossy ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "lossy"),
    [
        (config(), ()),
        (config(quantization=Quantization(gemm="bf16", kv_cache="bf16")), ()),
        (config(quantization=Quantization(kv_cache="fp8")), ("KV cache in fp8",)),
        (config(args={"kv_cache_config": {"dtype": "nvfp4"}}), ("KV cache in nvfp4",)),
        (
            config(args={"force_dynamic_quantization": True}),
            ("activations quantised as they come",),
        ),
    ],
)
def test_what_may_cost_accuracy_is_said(case: EngineConfig, lossy: tuple[str, ...]) -> None:
    assert ENGINE.plan(case).lossy == lossy


# --- what is searched ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, DENSE, MIXTURE], ids=["unknown", "dense", "mixture"])
@pytest.mark.parametrize("gpu", [None, A100, H100, B200], ids=["any", "A100", "H100", "B200"])
def test_hints_are_arguments_it_takes(model: ModelFacts | None, gpu: Accelerator | None) -> None:
    hints = ENGINE.search_hints(model, gpu)
    assert hints[0].name == "max_batch_size"
    assert len({hint.name for hint in hints}) == len(hints)
    for hint in hints:
        assert hint.why.endswith(".")
        values = hint.values["float"] if isinstance(hint.values, dict) else hint.values
        assert isinstance(values, list)
        for value in values:
            assert ENGINE.argument_problems({hint.name: value}, None) == {}, hint
            if not hint.when:
                case = config(args={hint.name: value})
                found = ENGINE.refuse(case, None, gpu)
                assert found is None, found


def test_hints_follow_model_and_gpu() -> None:
    names = {
        (model is MIXTURE, gpu.name): {hint.name for hint in ENGINE.search_hints(model, gpu)}
        for model in (DENSE, MIXTURE)
        for gpu in (A100, H100)
    }
    assert "kv_cache_config.dtype" not in names[False, "A100-80GB"]
    assert "kv_cache_config.dtype" in names[False, "H100"]
    assert "moe_config.backend" in names[True, "H100"] - names[False, "H100"]
