"""What checkpoints say of their quantisation, as their makers write it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtimes.checkpoint import detect
from runtimes.errors import UserError

GROUP = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}


def groups(**weights: object) -> dict[str, object]:
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": weights}},
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("awq", "int4", None)),
        ({"quant_method": "gptq", "bits": 4}, ("gptq", "int4", None)),
        ({"quant_method": "gptq", "bits": 8}, ("gptq", "int8", None)),
        ({"quant_method": "gptq", "bits": 3}, ("gptq", None, None)),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, ("fp8", "fp8", None)),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8", "fp8_block", None)),
        ({"quant_method": "fbgemm_fp8"}, ("fbgemm_fp8", "fp8_channel", None)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("bitsandbytes", "int4", None)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bitsandbytes", "int8", None)),
        ({"quant_method": "mxfp4"}, ("mxfp4", "mxfp4", None)),
        ({"quant_method": "w4afp8"}, ("w4afp8", "int4", None)),
        ({"quant_method": "auto-round", "bits": 4}, ("auto-round", "int4", None)),
        ({"quant_method": "torchao"}, ("torchao", None, None)),
        (groups(num_bits=8, type="float", strategy="tensor"), ("compressed-tensors", "fp8", None)),
        (
            groups(num_bits=8, type="float", strategy="channel"),
            ("compressed-tensors", "fp8_channel", None),
        ),
        (
            groups(num_bits=8, type="float", strategy="block"),
            ("compressed-tensors", "fp8_block", None),
        ),
        (
            groups(num_bits=4, type="int", strategy="group", group_size=128),
            ("compressed-tensors", "int4", None),
        ),
        (
            groups(num_bits=4, type="float", strategy="tensor_group", group_size=16),
            ("compressed-tensors", "nvfp4", None),
        ),
        (
            groups(num_bits=4, type="float", strategy="group", group_size=32),
            ("compressed-tensors", "mxfp4", None),
        ),
        (
            groups(num_bits=8, type="int", strategy="channel")
            | {"kv_cache_scheme": {"num_bits": 8, "type": "float"}},
            ("compressed-tensors", "int8", "fp8"),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "a": GROUP,
                    "b": {"weights": {"num_bits": 4, "type": "int"}},
                },
            },
            ("compressed-tensors", None, None),
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"},
            ("modelopt_fp4", "nvfp4", "fp8"),
        ),
        ({"quant_algo": "FP8"}, ("modelopt", "fp8", None)),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "FP8",
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
            },
            ("modelopt", "fp8", "fp8"),
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
            ("w4afp8", "int4", None),
        ),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}},
            },
            ("modelopt_mixed", None, None),
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            ("quark", "fp8", None),
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_channel"}},
            },
            ("quark", "fp8_channel", None),
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": [{"dtype": "fp4"}]}},
            ("quark", "mxfp4", None),
        ),
        ({"bits": 4}, ("unknown", "int4", None)),
    ],
)
def test_every_method(
    part: dict[str, object], expected: tuple[str, str | None, str | None]
) -> None:
    found = detect({"quantization_config": part})
    assert found is not None
    assert (found.method, found.weights, found.kv_cache) == expected


def test_the_places_in_order() -> None:
    awq, gptq, fp8 = ({"quant_method": name} for name in ("awq", "gptq", "fp8"))
    nested = {"text_config": {"quantization_config": gptq}, "compression_config": fp8}
    places: list[tuple[dict[str, object], str, str]] = [
        ({"quantization_config": awq, **nested}, "awq", "config.json quantization_config"),
        (nested, "gptq", "config.json text_config.quantization_config"),
        (
            {"quantization_config": None, "compression_config": fp8},
            "fp8",
            "config.json compression_config",
        ),
    ]
    for config, method, place in places:
        found = detect(config)
        assert found is not None
        assert (found.method, found.source) == (method, place)


def test_an_unquantised_checkpoint(tmp_path: Path) -> None:
    assert detect({}) is None
    assert detect({"quantization_config": {}}) is None
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    assert detect(tmp_path) is None
    assert detect(tmp_path / "absent") is None


def test_modelopt_writes_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    quantized = {
        "producer": {"name": "modelopt", "version": "0.33.0"},
        "quantization": {
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": "FP8",
            "group_size": 16,
            "exclude_modules": ["model.layers.0.mlp.gate", "lm_head"],
        },
    }
    path = tmp_path / "hf_quant_config.json"
    path.write_text(json.dumps(quantized))
    found = detect(tmp_path)
    assert found is not None
    assert (found.method, found.weights, found.kv_cache) == ("modelopt_fp4", "nvfp4", "fp8")
    assert found.source == str(path)
    assert not found.experts_only
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    assert str(getattr(detect(tmp_path), "method", "")) == "awq", "the configuration goes first"


@pytest.mark.parametrize(
    ("ignored", "experts_only"),
    [
        (["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"], True),
        (["*self_attn*"], True),
        (["lm_head"], False),
        (["model.layers.0.self_attn.q_proj"], False),
    ],
)
def test_what_is_left_out_tells_whether_only_experts_are_small(
    ignored: list[str], experts_only: bool
) -> None:
    part = groups(num_bits=4, type="int", strategy="group") | {"ignore": ignored}
    found = detect({"quantization_config": part})
    assert found is not None
    assert found.experts_only is experts_only


def test_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"quantization_config is \['awq'\]; it has to be a mapping"
    ):
        detect({"quantization_config": ["awq"]})
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": 4}')
    with pytest.raises(UserError, match="lacks the mapping 'quantization' that ModelOpt writes"):
        detect(tmp_path)
