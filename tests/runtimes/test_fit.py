"""Whether weights fit, with the arithmetic shown."""

from __future__ import annotations

import pytest

from runtimes.fit import does_not_fit, model_weights_per_gpu
from runtimes.hardware import find_accelerator
from runtimes.model import find_model
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization


def _verdict(accelerator: str, **layout: int) -> str | None:
    model = find_model("meta-llama/Llama-3.3-70B-Instruct")
    assert model is not None
    return does_not_fit(
        model,
        find_accelerator(accelerator),
        layout=ParallelLayout(**layout),
        memory_fraction=0.92,
    )


def test_70b_does_not_fit_one_h200() -> None:
    assert _verdict("H200") == (
        "weights take 131.4 GiB per GPU at tp=1 pp=1, but 0.92 of an H200's 140.4 GiB is 129.2 GiB"
    )


def test_the_article_follows_the_name() -> None:
    assert "of an L40S's" in str(_verdict("L40S"))
    model = find_model("meta-llama/Llama-3.1-405B")
    assert model is not None
    verdict = does_not_fit(
        model, find_accelerator("B200"), layout=ParallelLayout(), memory_fraction=0.9
    )
    assert "of a B200's" in str(verdict)


def test_tensor_and_pipeline_degrees_share_the_weights_and_replicas_do_not() -> None:
    assert _verdict("H200", tp=2) is None
    assert _verdict("H200", pp=2) is None
    assert _verdict("H200", dp=8) is not None


# --- what one GPU holds -------------------------------------------------------------------------


def _share(name: str, quantization: Quantization | None = None, **layout: int) -> float:
    """Bytes on one GPU over the bytes of the whole."""
    model = find_model(name)
    assert model is not None
    held = model_weights_per_gpu(model, ParallelLayout(**layout), quantization)
    return held / model.weight_bytes


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("pp", [1, 2])
def test_a_dense_model_is_shared_evenly(tp: int, pp: int) -> None:
    assert _share("meta-llama/Llama-3.1-70B", tp=tp, pp=pp) == pytest.approx(
        1 / (tp * pp), rel=1e-3
    )


def test_keys_and_values_are_copied_beyond_their_heads() -> None:
    model = find_model("meta-llama/Llama-3.1-70B")
    assert model is not None
    sixteen = model_weights_per_gpu(model, ParallelLayout(tp=16))
    even = model.weight_bytes / 16
    assert sixteen - even == pytest.approx(2 * model.weights.key_value / 16, rel=0.02)


def test_replicas_and_context_groups_hold_all_of_it() -> None:
    whole = _share("Qwen/Qwen3-32B", tp=2)
    for degree in ("dp", "dcp", "pcp", "cp"):
        assert _share("Qwen/Qwen3-32B", None, tp=2, **{degree: 2}) == whole


def test_attention_groups_copy_attention_and_leave_experts_spread() -> None:
    model = find_model("deepseek-ai/DeepSeek-V3")
    assert model is not None
    sharded = model_weights_per_gpu(model, ParallelLayout(tp=8, ep=8))
    grouped = model_weights_per_gpu(model, ParallelLayout(tp=8, ep=8, attention_dp=8))
    copied = model.weights.attention * (1 - 1 / 8)
    assert grouped - sharded == pytest.approx(copied, rel=1e-3)


def test_experts_are_whole_where_they_are_spread() -> None:
    model = find_model("Qwen/Qwen3-Coder-480B-A35B")
    assert model is not None
    assert model.experts == 160
    even = model_weights_per_gpu(model, ParallelLayout(tp=8, ep=8))
    assert even == model_weights_per_gpu(model, ParallelLayout(tp=8))
    # 160 experts over 48 ranks: 4 on the fullest, not 3.33.
    uneven = model_weights_per_gpu(model, ParallelLayout(tp=8, ep=48))
    expert = 2 * model.weights.experts / model.experts
    others = model_weights_per_gpu(model, ParallelLayout(tp=8)) - 160 / 8 * expert
    assert uneven - others == pytest.approx(4 * expert)


def test_an_engine_that_spreads_experts_over_replicas() -> None:
    model = find_model("deepseek-ai/DeepSeek-V3")
    assert model is not None
    layout = ParallelLayout(tp=1, dp=8)
    assert model_weights_per_gpu(model, layout) == pytest.approx(model.weight_bytes, rel=1e-3)
    spread = model_weights_per_gpu(model, layout, expert_ranks=8)
    assert spread < 0.16 * model.weight_bytes
    verdict = does_not_fit(
        model, find_accelerator("H200"), layout=layout, memory_fraction=0.92, expert_ranks=8
    )
    assert verdict is None


@pytest.mark.parametrize(
    ("quantization", "share"),
    [(Quantization(gemm="fp8"), 0.51), (Quantization(kv_cache="fp8"), 1.0)],
)
def test_an_engine_that_quantises_as_it_loads(quantization: Quantization, share: float) -> None:
    assert _share("Qwen/Qwen3-32B", quantization) == pytest.approx(share, abs=0.02)
    model = find_model("meta-llama/Llama-3.3-70B-Instruct")
    assert model is not None
    verdict = does_not_fit(
        model,
        find_accelerator("H200"),
        layout=ParallelLayout(),
        memory_fraction=0.92,
        quantization=quantization,
    )
    assert (verdict is None) == (share < 0.9)


def test_a_checkpoint_whose_size_is_open_is_not_refused() -> None:
    model = find_model("Qwen/Qwen3-32B-GGUF")
    assert model is not None
    assert (
        does_not_fit(model, find_accelerator("L4"), layout=ParallelLayout(), memory_fraction=0.1)
        is None
    )


def test_the_message_names_the_degrees_that_count() -> None:
    model = find_model("deepseek-ai/DeepSeek-V3")
    assert model is not None
    layout = ParallelLayout(tp=4, ep=4, attention_dp=4, dcp=2)
    verdict = does_not_fit(model, find_accelerator("H100"), layout=layout, memory_fraction=0.9)
    assert str(verdict).startswith("weights take ")
    assert "per GPU at tp=4 pp=1 ep=4 attention_dp=4, but 0.9 of an H100's" in str(verdict)
