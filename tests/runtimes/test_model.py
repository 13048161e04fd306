"""Facts of models: the catalogue against its table, configurations of every family, the cache."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtimes._catalogue import CATALOGUE
from runtimes.model import find_model
from runtimes.quantization import Quantization
from tests.runtimes.model_configs import TINY, forget_downloads, known

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_downloads(monkeypatch, tmp_path / "hf")


# --- the catalogue ------------------------------------------------------------------------------


def rows() -> list[dict[str, str]]:
    folder = os.environ.get("SERVETUNE_FACTS")
    if folder is None:
        pytest.skip("SERVETUNE_FACTS names no folder of facts")
    with (Path(folder) / "models.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def assert_near(value: float, stated: str, what: str) -> None:
    """Within 0.1 % of a figure; within 3 % of one that says "about" or is rounded to billions."""
    if not stated:
        return
    figure = float(stated.removeprefix("about "))
    rounded = stated.startswith("about") or "." not in stated
    # Of MiniMax-M2.5 the table says about 10 B active; the shape gives 11.0 B.
    tolerance = 0.11 if stated == "about 10" else 0.03 if rounded else 1.3e-3
    assert value / 1e9 == pytest.approx(figure, rel=tolerance), what


def test_every_model_of_the_table_has_the_size_it_says() -> None:
    table = rows()
    assert len(table) == 40
    for row in table:
        name = row["hf_id"].partition(" ")[0]
        model = known(name)
        assert model.name == name, "no fine-tune of another"
        assert_near(model.parameters, row["params_b_formula"], name)
        assert_near(model.active_parameters, row["active_b"], name)
        cached = row["kv_bytes_per_token_bf16_no_window"]
        if cached.isdigit():
            assert model.kv_bytes_per_token() == int(cached), name


def test_every_shape_of_the_table_is_ours() -> None:
    columns = {
        "layers": "layers", "hidden": "hidden", "heads": "heads", "kv_heads": "kv_heads",
        "vocab": "vocab", "experts": "experts", "top_k": "experts_per_token",
        "moe_intermediate": "moe_intermediate", "dense_intermediate": "intermediate",
        "shared_experts": "shared_experts",
    }  # fmt: skip
    for row in rows():
        model = known(row["hf_id"].partition(" ")[0])
        for column, attribute in columns.items():
            unused = attribute == "intermediate" and model.is_moe and not model.dense_layers
            if row[column].isdigit() and not unused:
                assert getattr(model, attribute) == int(row[column]), (model.name, column)
        assert model.tied == (row["tied"] == "1"), model.name
        if row["head_dim"] and model.mla is None:
            assert model.head_dim == int(row["head_dim"]), model.name
        if row["mla_qlora_kvlora_nope_rope_v"]:
            assert model.mla is not None
            widths = (
                model.mla.q_lora, model.mla.kv_lora, model.mla.nope, model.mla.rope,
                model.mla.value,
            )  # fmt: skip
            assert "/".join(map(str, widths)) == row["mla_qlora_kvlora_nope_rope_v"]


def test_every_model_has_a_source_and_stands_once() -> None:
    assert all(model.source and model.architecture for model in CATALOGUE)
    assert len({model.name.lower() for model in CATALOGUE}) == len(CATALOGUE)


def test_only_layers_with_full_attention_hold_a_cache() -> None:
    model = known("Qwen/Qwen3.5-397B-A17B")
    assert model.kv_bytes_per_token() == 15 * 2 * 2 * 256 * 2


@pytest.mark.parametrize(
    ("model", "gigabytes"),
    [
        # Sizes of the checkpoints as the Hub lists them, without the layers for prediction.
        ("openai/gpt-oss-20b", 13.8),
        ("openai/gpt-oss-120b", 65.2),
        ("meta-llama/Llama-3.1-8B-Instruct", 16.1),
        ("deepseek-ai/DeepSeek-R1", 674),
        ("Qwen/Qwen3-32B-AWQ", 19.3),
        ("Qwen/Qwen3-30B-A3B-FP8", 31.2),
    ],
)
def test_the_weights_weigh_what_the_checkpoint_does(model: str, gigabytes: float) -> None:
    assert known(model).weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.02)


def test_an_engine_that_quantises_shrinks_all_but_the_embeddings() -> None:
    model = known("meta-llama/Llama-3.1-8B")
    plain = model.weight_bytes
    embeddings = 2 * model.weights.embeddings
    halved = model.weight_bytes_in(Quantization(gemm="fp8"))
    assert halved == pytest.approx((plain - embeddings) / 2 + embeddings, rel=1e-3)
    moe = known("Qwen/Qwen3-30B-A3B")
    mixed = moe.weight_bytes_in(Quantization(gemm="bf16", moe="nvfp4"))
    assert mixed < 0.35 * moe.weight_bytes
    stored = known("deepseek-ai/DeepSeek-V3")
    assert stored.weight_bytes_in(Quantization(gemm="nvfp4")) == stored.weight_bytes


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-70B"),
        ("META-LLAMA/llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B"),
        ("google/gemma-3-27b-it", "google/gemma-3-27b"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-V3"),
        ("moonshotai/Kimi-K2-Instruct-0905", "moonshotai/Kimi-K2"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"),
        ("zai-org/GLM-4.5-Air-FP8", "zai-org/GLM-4.5-Air"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "meta-llama/Llama-4-Scout-17B-16E"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "meta-llama/Llama-3.1-70B"),
        ("RedHatAI/Qwen3-32B-FP8-dynamic", "Qwen/Qwen3-32B"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "meta-llama/Llama-3.1-70B"),
        ("RedHatAI/DeepSeek-R1-Distill-Qwen-32B-FP8-dynamic", "Qwen/Qwen2.5-32B"),
    ],
)
def test_a_suffix_keeps_the_shape(model: str, shape: str) -> None:
    found, base = known(model), known(shape)
    assert (found.layers, found.parameters, found.mla) == (base.layers, base.parameters, base.mla)


@pytest.mark.parametrize(
    "model",
    [
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
        "deepseek-ai/DeepSeek-V3.2",
        "Qwen/Qwen3-8B-Embedding",
        "zai-org/GLM-4.5V",
        "zai-org/GLM-5.1",
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct-EAGLE3",
        "somebody/else",
        "nvidia/Llama-3.1-Nemotron-70B-Instruct",
        "nvidia/Llama-3.1-Minitron-4B-Width-Base",
        "RedHatAI/DeepSeek-R1-Distill-Qwen-7B-FP8",
        "yujiepan/Qwen3-8B-tiny-random",
        "Qwen/Llama-3.1-8B",
        "/models/Llama-3.1-8B",
        "/no/such/folder",
    ],
)
def test_a_name_that_only_begins_alike_is_unknown(model: str) -> None:
    assert find_model(model) is None


@pytest.mark.parametrize(
    ("model", "method", "weights"),
    [
        ("Qwen/Qwen3-32B-AWQ", "awq", "int4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq", "int8"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq", "int4"),
        ("Qwen/Qwen3-8B-FP8", "fp8", "fp8"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "fp8", "fp8"),
        ("nvidia/DeepSeek-R1-FP4", "modelopt_fp4", "nvfp4"),
        ("Qwen/Qwen3-8B-GGUF", "gguf", None),
        ("meta-llama/Llama-3.1-8B-Instruct-quantized.w4a16", "compressed-tensors", "int4"),
        ("deepseek-ai/DeepSeek-V3-0324", "fp8", "fp8_block"),
    ],
)
def test_a_name_tells_of_quantisation(model: str, method: str, weights: str | None) -> None:
    stored = known(model).quantization
    assert stored is not None
    assert (stored.method, stored.weights) == (method, weights)


def test_a_name_tells_of_none() -> None:
    assert known("deepseek-ai/DeepSeek-V3-bf16").quantization is None
    assert known("Qwen/Qwen3-8B-Instruct").quantization is None


def test_the_context_is_known_only_where_the_name_leaves_no_doubt() -> None:
    assert known("meta-llama/Llama-3.1-8B-Instruct").max_context == 131072
    assert known("meta-llama/Llama-3.1-8B-Instruct-FP8").max_context == 131072
    assert known("Qwen/Qwen3-4B").max_context == 40960
    assert known("Qwen/Qwen3-4B-Instruct-2507").max_context == 0


# --- the Hub's cache ----------------------------------------------------------------------------


def cached(home: Path, model: str, config: Mapping[str, object], ref: str = "main") -> None:
    """A repository as huggingface_hub lays it out: files are links to blobs."""
    repository = home / "hub" / f"models--{model.replace('/', '--')}"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / ref).write_text(COMMIT)
    (repository / "blobs" / "abc").write_text(json.dumps(config))
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/abc")


def test_a_cached_model_needs_no_catalogue(tmp_path: Path) -> None:
    cached(tmp_path / "hf", "somebody/else", TINY)
    facts = known("somebody/else")
    assert (facts.name, facts.layers) == ("somebody/else", 4)
    assert find_model("somebody/else", COMMIT) == facts
    assert find_model("somebody/else", "v2") is None
    assert find_model("somebody/else", "../../../etc") is None


def test_the_cache_is_nearer_the_truth_than_a_name(tmp_path: Path) -> None:
    cached(tmp_path / "hf", "Qwen/Qwen3-8B", TINY)
    assert known("Qwen/Qwen3-8B").layers == 4
    assert known("Qwen/Qwen3-8B").source.endswith("config.json")


def test_a_damaged_cache_falls_back_to_the_catalogue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached(tmp_path / "hf", "Qwen/Qwen3-8B", {"hidden_size": -1})
    assert known("Qwen/Qwen3-8B").layers == 36
    assert "the cached configuration of Qwen/Qwen3-8B is not used" in caplog.text


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path / "other", "somebody/else", TINY)
    assert find_model("somebody/else") is None
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other" / "hub"))
    assert known("somebody/else").layers == 4
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "huggingface").symlink_to(tmp_path / "other")
    assert known("somebody/else").layers == 4
