"""Parameters to engine configuration."""

from __future__ import annotations

import pytest

from runtimes.errors import InternalError
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Quantization
from search.materialize import EngineTemplate, Inexpressible, inexpressible, materialize
from search.trial import Params

TEMPLATE = EngineTemplate(
    engine="vllm",
    model="acme/model",
    revision="abc",
    args={"dtype": "bfloat16", "max-num-seqs": 16},
    env={"FIXED": "1", "BOTH": "fixed"},
    secrets=("HF_TOKEN",),
    environment=Environment("/opt/python"),
    options={"imitates": "vllm"},
    dummy_weights=True,
    layouts={"wide": ParallelLayout(tp=8, ep=8), "odd": "it is odd"},
    precisions={"small": Quantization(kv_cache="fp8"), "tiny": "too tiny"},
)


def test_every_kind_of_parameter_reaches_its_place() -> None:
    params = Params("v", {"tp": 4, "dp": 2, "max-num-seqs": 64, "env.NEW": "x", "env.BOTH": "own"})
    assert materialize(params, {"v": TEMPLATE}) == EngineConfig(
        engine="vllm",
        model="acme/model",
        revision="abc",
        layout=ParallelLayout(tp=4, pp=1, dp=2),
        args={"dtype": "bfloat16", "max-num-seqs": 64},
        env={"FIXED": "1", "BOTH": "own", "NEW": "x"},
        secrets=("HF_TOKEN",),
        environment=Environment("/opt/python"),
        options={"imitates": "vllm"},
        dummy_weights=True,
    )


def test_every_degree_and_part_of_a_precision_reaches_its_place() -> None:
    values: dict[str, Json] = {
        "parallel.preset": None, "tp": 4, "ep": 2, "dcp": 2, "moe_dense_tp": 1,
        "quantization.gemm": "fp8", "quantization.kv_cache": None,
    }  # fmt: skip
    config = materialize(Params("v", values), {"v": TEMPLATE})
    assert config.layout == ParallelLayout(tp=4, ep=2, dcp=2, moe_dense_tp=1)
    assert config.quantization == Quantization(gemm="fp8")
    assert config.args == TEMPLATE.args


def test_presets_stand_for_what_the_template_has_for_them() -> None:
    params = Params("v", {"parallel.preset": "wide", "quantization.preset": "small"})
    config = materialize(params, {"v": TEMPLATE})
    assert config.layout == ParallelLayout(tp=8, ep=8)
    assert config.quantization == Quantization(kv_cache="fp8")
    assert list(inexpressible(params, {"v": TEMPLATE})) == []


def test_what_a_preset_does_not_stand_for_is_told_with_its_reason() -> None:
    params = Params("v", {"parallel.preset": "odd", "quantization.preset": "tiny"})
    assert list(inexpressible(params, {"v": TEMPLATE})) == [
        Inexpressible("odd", "it is odd"),
        Inexpressible("tiny", "too tiny"),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parallel.preset": "odd"}, "vllm has no layout 'odd': it is odd"),
        ({"parallel.preset": "none"}, "vllm has no layout 'none': None"),
        ({"quantization.preset": "tiny"}, "vllm has no precision 'tiny': too tiny"),
        ({"quantization.moe": "fp9"}, "quantization.moe must be one of bf16, .*, got 'fp9'"),
    ],
)
def test_what_checks_let_pass_by_mistake_is_a_bug(values: dict[str, Json], message: str) -> None:
    with pytest.raises(InternalError, match=message):
        materialize(Params("v", values), {"v": TEMPLATE})


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b", "a b"), (True, "1"), (False, "0"), (8, "8"), (0.5, "0.5"), ({"a": 1}, '{"a":1}')],
)
def test_variables_are_text(value: Json, text: str) -> None:
    config = materialize(Params("v", {"env.NAME": value}), {"v": EngineTemplate("vllm", "m")})
    assert config.env == {"NAME": text}


def test_a_null_variable_is_unset_and_a_null_argument_is_left_to_the_engine() -> None:
    config = materialize(Params("v", {"env.FIXED": None, "dtype": None}), {"v": TEMPLATE})
    assert "FIXED" not in config.env
    assert config.args["dtype"] is None


def test_the_template_is_left_as_it_was() -> None:
    materialize(Params("v", {"max-num-seqs": 1, "env.FIXED": None}), {"v": TEMPLATE})
    assert TEMPLATE.args["max-num-seqs"] == 16
    assert TEMPLATE.env["FIXED"] == "1"


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "2", None])
def test_a_degree_is_a_positive_integer(value: Json) -> None:
    with pytest.raises(InternalError, match="tp must be a positive integer"):
        materialize(Params("v", {"tp": value}), {"v": TEMPLATE})


def test_an_engine_without_template_is_a_bug() -> None:
    with pytest.raises(InternalError, match="no template for engine 'sglang'"):
        materialize(Params("sglang"), {"v": TEMPLATE})
