"""Configurations of every family, those that leave something out and those that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimes.errors import UserError
from runtimes.model import ModelFacts, find_model, read_config
from runtimes.quantization import CheckpointQuantization
from tests.runtimes.model_configs import CONFIGS, TINY, forget_downloads, known, written


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_downloads(monkeypatch, tmp_path / "hf")


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_configuration_gives_the_facts_of_the_catalogue(tmp_path: Path, name: str) -> None:
    read = read_config(written(tmp_path / "m", CONFIGS[name]) / "config.json")
    base = known(name)
    # What a configuration does not tell, or the catalogue not for every variant.
    skipped = {"name", "source", "quantization", "max_context"}
    for field in ModelFacts.__slots__:
        if field not in skipped:
            assert getattr(read, field) == getattr(base, field), field
    assert read.max_context == base.max_context or 0 in (read.max_context, base.max_context)
    assert (read.quantization is None) == (base.quantization is None)
    assert read.parameters == base.parameters


def test_families_without_a_gate_and_with_tied_embeddings(tmp_path: Path) -> None:
    """OPT-125m and GPT-2: 125 and 124 million weights, learned positions left out."""
    opt = {
        "model_type": "opt", "num_hidden_layers": 12, "hidden_size": 768, "ffn_dim": 3072,
        "num_attention_heads": 12, "vocab_size": 50272, "max_position_embeddings": 2048,
    }  # fmt: skip
    gpt2 = {
        "model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257,
        "n_positions": 1024, "n_inner": None,
    }  # fmt: skip
    for config in (opt, gpt2):
        facts = known(str(written(tmp_path / str(config["model_type"]), config)))
        assert facts.tied
        assert not facts.gated_mlp
        assert facts.parameters == pytest.approx(123.6e6, rel=2e-3)
        assert facts.kv_heads == 12


@pytest.mark.parametrize(
    ("extra", "dense"),
    [
        ({"first_k_dense_replace": 1}, 1),
        ({"decoder_sparse_step": 2}, 2),
        ({"mlp_only_layers": [0, 3]}, 2),
        ({"moe_layer_freq": [0, 1, 1, 1]}, 1),
        ({"moe_layer_freq": 2, "first_k_dense_replace": 1}, 3),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}, 1),
        ({"interleave_moe_layer_step": 2}, 2),
        ({}, 0),
    ],
)
def test_layers_without_experts(tmp_path: Path, extra: dict[str, object], dense: int) -> None:
    config = {**TINY, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    facts = known(str(written(tmp_path, {**config, **extra})))
    assert (facts.experts, facts.moe_intermediate, facts.dense_layers) == (8, 64, dense)
    assert facts.weights.dense == dense * 3 * 128 * 256


@pytest.mark.parametrize(
    ("extra", "window", "layers"),
    [
        ({"sliding_window": 512}, 512, 4),
        ({"sliding_window": None}, 0, 0),
        ({"sliding_window": 512, "use_sliding_window": False}, 0, 0),
        ({"sliding_window": 512, "use_sliding_window": True, "max_window_layers": 3}, 512, 1),
        ({"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"] * 2}, 9, 2),
        ({"sliding_window": 512, "sliding_window_pattern": "LLLG"}, 512, 3),
        ({"sliding_window": 512, "sliding_window_pattern": 2}, 512, 2),
        ({"sliding_window": 512, "model_type": "gemma2"}, 512, 2),
    ],
)  # fmt: skip
def test_windows(tmp_path: Path, extra: dict[str, object], window: int, layers: int) -> None:
    facts = known(str(written(tmp_path, {**TINY, **extra})))
    assert (facts.sliding_window, facts.windowed_layers) == (window, layers)


@pytest.mark.parametrize(
    "extra",
    [
        {"layer_types": ["linear_attention"] * 3 + ["full_attention"]},
        {"attn_type_list": [0, 0, 0, 1]},
        {"full_attention_interval": 4},
        {"linear_attn_config": {"kda_layers": [1, 2, 3], "full_attn_layers": [4]}},
    ],
)
def test_linear_layers_hold_no_cache(tmp_path: Path, extra: dict[str, object]) -> None:
    facts = known(str(written(tmp_path, {**TINY, **extra})))
    assert facts.linear_layers == 3
    assert facts.kv_bytes_per_token() == 2 * 2 * 32 * 2


def test_a_shape_of_another_kind_is_unknown(tmp_path: Path) -> None:
    assert find_model(str(written(tmp_path, {**TINY, "model_type": "nemotron_h"}))) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"num_hidden_layers": NaN}', "cannot be read as JSON: NaN is no JSON value"),
        ('{"num_hidden_layers": -Infinity}', "-Infinity is no JSON value"),
        ("[]", "holds [], not a mapping"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ({**TINY, "hidden_size": -128}, "hidden_size is -128; it has to be a whole number from 0"),
        ({**TINY, "hidden_size": 0}, "hidden_size is 0; it has to be at least 1"),
        ({**TINY, "hidden_size": True}, "hidden_size is true; it has to be a whole number"),
        ({**TINY, "hidden_size": "128"}, 'hidden_size is "128"; it has to be a whole number'),
        ({**TINY, "hidden_size": 12.5}, "hidden_size is 12.5; it has to be a whole number"),
        ({**TINY, "vocab_size": 10**40}, "vocab_size is a number beyond any size"),
        ({**TINY, "vocab_size": 1e300}, "vocab_size is a number beyond any size"),
        ({**TINY, "layer_types": 3}, "layer_types is 3; it has to be a list of text"),
        ({**TINY, "num_experts": 4}, "lacks 'num_experts_per_tok', needed to size the model"),
        ({**TINY, "num_experts": 4, "num_experts_per_tok": 9}, "9 experts for each token"),
        ({**TINY, "quantization_config": "fp8"}, "quantization_config is 'fp8'; it has to be"),
        ({"text_config": {"hidden_size": 1}}, "lacks 'num_hidden_layers'"),
    ],
)
def test_a_configuration_that_makes_no_sense(
    tmp_path: Path, config: dict[str, object] | str, message: str
) -> None:
    folder = written(tmp_path, config)
    with pytest.raises(UserError) as caught:
        find_model(str(folder))
    assert str(folder / "config.json") in str(caught.value)
    assert message in str(caught.value)


def test_whole_floats_and_nulls_are_what_they_mean(tmp_path: Path) -> None:
    facts = known(str(written(tmp_path, {**TINY, "hidden_size": 128.0, "head_dim": None})))
    assert (facts.hidden, facts.head_dim, facts.dtype) == (128, 32, "bfloat16")


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        find_model(str(tmp_path))


def test_a_checkpoint_says_what_it_is_quantised_with(tmp_path: Path) -> None:
    config = {**TINY, "quantization_config": {"quant_method": "awq", "bits": 4}}
    folder = written(tmp_path, config)
    facts = known(str(folder))
    assert facts.quantization == CheckpointQuantization(
        "awq", "int4", source=f"{folder / 'config.json'} quantization_config"
    )
    assert facts.weight_bytes < known(str(written(tmp_path / "b", TINY))).weight_bytes
