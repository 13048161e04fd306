"""Which vLLM configurations are one, and which share their compiled kernels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from runtimes.engines.base import create_engine
from runtimes.engines.simulated import SimulatedEngine
from runtimes.engines.vllm import VllmEngine
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Quantization
from tests.runtimes.vllm_cases import MODEL

ENGINE = VllmEngine()


@pytest.mark.parametrize("nodes", [1, 2])
def test_identity_leaves_ports_out_and_counts_nodes(nodes: int) -> None:
    layout = ParallelLayout(tp=2, dp=2)
    plans = [ENGINE.plan(EngineConfig("vllm", MODEL, layout=layout, nodes=n)) for n in (nodes, 1)]
    assert (plans[0].config_id == plans[1].config_id) == (nodes == 1)
    assert "port" not in json.dumps(plans[0].effective)


SAME: dict[str, tuple[EngineConfig, EngineConfig]] = {
    name: (EngineConfig("vllm", MODEL, **left), EngineConfig("vllm", MODEL, **right))  # type: ignore[arg-type]  # fields by name
    for name, left, right in [
        ("defaults restated", {}, {"args": {"gpu-memory-utilization": 0.92, "seed": 0}}),
        ("defaults that are worked out", {}, {"args": {"enable-prefix-caching": True}}),
        ("scheduling ahead is on", {}, {"args": {"async-scheduling": True}}),
        ("left to the engine", {}, {"args": {"block-size": None}}),
        ("underscores", {"args": {"max_num_seqs": 8}}, {"args": {"max-num-seqs": 8}}),
        ("order", {"args": {"a": 1, "b": 2}}, {"args": {"b": 2, "a": 1}}),
        ("aliases", {"args": {"cc": {"mode": 0}}}, {"args": {"compilation-config": {"mode": 0}}}),
        (
            "negative forms",
            {"args": {"no-enable-prefix-caching": True}},
            {"args": {"enable-prefix-caching": False}},
        ),
        (
            "dotted names",
            {"args": {"compilation-config.mode": 3}},
            {"args": {"compilation-config": {"mode": 3}}},
        ),
        (
            "JSON as text",
            {"args": {"compilation-config": '{"mode": 3}'}},
            {"args": {"compilation-config": {"mode": 3}}},
        ),
        ("numbers as text", {"args": {"max-num-seqs": "64"}}, {"args": {"max-num-seqs": 64}}),
        (
            "counts",
            {"args": {"max-num-batched-tokens": "8K"}},
            {"args": {"max-num-batched-tokens": 8192}},
        ),
        (
            "two words for one value",
            {"args": {"kv-cache-dtype": "fp8_e4m3"}},
            {"quantization": Quantization(kv_cache="fp8")},
        ),
        (
            "precision and argument",
            {"args": {"quantization": "fp8_per_tensor"}},
            {"quantization": Quantization(gemm="fp8")},
        ),
        (
            "layers and experts alike",
            {"quantization": Quantization(gemm="fp8")},
            {"quantization": Quantization(gemm="fp8", moe="fp8")},
        ),
        (
            "context by two names",
            {"layout": ParallelLayout(tp=2, cp=2)},
            {"layout": ParallelLayout(tp=2, pcp=2)},
        ),
        (
            "experts by two names",
            {"layout": ParallelLayout(tp=4, ep=4)},
            {"layout": ParallelLayout(tp=4, moe_ep=4, moe_tp=1)},
        ),
        (
            "attention groups and replicas",
            {"layout": ParallelLayout(tp=8, attention_dp=4, ep=8)},
            {"layout": ParallelLayout(tp=2, dp=4, ep=8)},
        ),
        (
            "the executor it would have",
            {"layout": ParallelLayout(tp=2)},
            {"layout": ParallelLayout(tp=2), "args": {"distributed-executor-backend": "mp"}},
        ),
        ("secrets in any order", {"secrets": ("A", "B")}, {"secrets": ("B", "A")}),
        ("a level left to the engine", {}, {"args": {"optimization-level": None}}),
    ]
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("engine", ["vllm", "simulated"])
def test_one_configuration_has_one_identity(name: str, engine: str) -> None:
    plans = [create_engine(engine).plan(replace(config, engine=engine)) for config in SAME[name]]
    assert plans[0].config_id == plans[1].config_id


DIFFERENT: dict[str, tuple[EngineConfig, EngineConfig]] = {
    name: (EngineConfig("vllm", MODEL, **left), EngineConfig("vllm", MODEL, **right))  # type: ignore[arg-type]  # fields by name
    for name, left, right in [
        ("an argument", {"args": {"max-num-seqs": 8}}, {"args": {"max-num-seqs": 9}}),
        ("no default of it", {}, {"args": {"gpu-memory-utilization": 0.9}}),
        ("prefix caching off", {}, {"args": {"enable-prefix-caching": False}}),
        ("a secret", {}, {"secrets": ("HF_TOKEN",)}),
        ("a variable", {}, {"env": {"VLLM_USE_FLASHINFER_SAMPLER": "1"}}),
        ("a revision", {}, {"revision": "main"}),
        ("an interpreter", {}, {"environment": Environment("/opt/vllm/bin/python")}),
        ("random weights", {}, {"dummy_weights": True}),
        (
            "experts whole or shared",
            {"layout": ParallelLayout(tp=4)},
            {"layout": ParallelLayout(tp=4, ep=4)},
        ),
        (
            "scheduling ahead of a pipeline",
            {"layout": ParallelLayout(pp=2)},
            {"layout": ParallelLayout(pp=2), "args": {"async-scheduling": True}},
        ),
    ]
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_two_configurations_have_two_identities(name: str) -> None:
    plans = [ENGINE.plan(config) for config in DIFFERENT[name]]
    assert plans[0].config_id != plans[1].config_id


def test_settings_of_the_simulator_are_part_of_its_identity() -> None:
    plans = [
        SimulatedEngine().plan(EngineConfig("simulated", MODEL, options=options))
        for options in ({}, {"accelerator": "H100"}, {"accelerator": "H200"}, {"jitter": 0.1})
    ]
    first, same, other, shaky = (plan.config_id for plan in plans)
    assert first == same
    assert len({first, other, shaky}) == 3


def test_a_default_is_that_of_the_version() -> None:
    args: Mapping[str, Json] = {"mamba-cache-mode": "none"}
    restated = {
        version: ENGINE.plan(_of_version(version, args)).config_id
        == ENGINE.plan(_of_version(version, {})).config_id
        for version in ("0.32.0", "0.33.0", None)
    }
    assert restated == {"0.32.0": True, "0.33.0": False, None: False}


def _of_version(version: str | None, args: Mapping[str, Json]) -> EngineConfig:
    return EngineConfig("vllm", MODEL, args=args, environment=Environment(version=version))


def test_what_is_compiled_is_named_alike_where_it_is_shared() -> None:
    def compiled(layout: ParallelLayout | None = None, **args: Json) -> str:
        named = {name.replace("_", "-"): value for name, value in args.items()}
        config = EngineConfig("vllm", MODEL, layout=layout or ParallelLayout(), args=named)
        return ENGINE.plan(config).compiles

    assert compiled()
    assert compiled(max_num_seqs=64) == compiled(gpu_memory_utilization=0.8) == compiled()
    assert compiled(ParallelLayout(tp=2)) != compiled()
    assert compiled(dtype="float16") != compiled()
    assert compiled(enforce_eager=True) == ""
    assert compiled(optimization_level=0) == compiled(compilation_config={"mode": 0}) == ""
