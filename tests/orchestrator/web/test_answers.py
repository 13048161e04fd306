"""What the API's figures add up to, and how its answers hang together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from orchestrator.web.app import create_app
from orchestrator.web.layouts import decoder_kinds
from runtimes.hardware import find_accelerator
from runtimes.model import ModelFacts, find_named_model
from runtimes.node_curves import NodeCurves
from search.perfmodel.layers import layers_of
from tests.orchestrator.web.requests import (
    MIXTURE,
    TINY,
    answer,
    call,
    layer_request,
    layout,
    phase_request,
    phases_request,
    refused,
    system_request,
)

LAYER, SYSTEM, PHASES = "/config/layer-metrics", "/config/system-metrics", "/api/system-metrics"
GB = 1e9


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app()


def facts(model: str) -> ModelFacts:
    found = find_named_model(model)
    assert found is not None
    return found


def kinds(app: FastAPI, model: str) -> list[dict[str, Any]]:
    response = call(app, "GET", "/api/layers", params={"model_id": model})
    assert response.status_code == 200
    layers: list[dict[str, Any]] = response.json()["layers"]
    return layers


def test_layers_of_a_dense_model(app: FastAPI) -> None:
    layers = {layer["type"]: layer for layer in kinds(app, TINY)}
    assert {name: layer["count"] for name, layer in layers.items()} == {
        "attention": 22, "feedforward": 22, "norm": 45, "embedding": 1, "lm_head": 1,
    }  # fmt: skip
    assert layers["attention"]["available_parallelism"] == ["tensor_parallel", "context_parallel"]
    assert layers["attention"]["available_dtypes"] == ["fp32", "fp16", "bf16", "fp8", "int8"]
    assert layers["feedforward"]["available_parallelism"] == [
        "tensor_parallel", "sequence_parallel",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "counts"),
    [
        (MIXTURE, {"attention": 48, "moe": 48, "norm": 97}),
        ("deepseek-ai/DeepSeek-V3", {"attention": 61, "feedforward": 3, "moe": 58}),
        ("google/gemma-3-27b", {"attention": 62, "feedforward": 62}),
    ],
)
def test_all_kinds_of_attention_are_one(app: FastAPI, model: str, counts: dict[str, int]) -> None:
    found = {layer["type"]: layer["count"] for layer in kinds(app, model)}
    assert counts.items() <= found.items()


def test_the_weights_of_a_whole_model_on_one_chip(app: FastAPI) -> None:
    memory = answer(app, SYSTEM, system_request())["memory"]
    assert memory["weight_memory_gb"] * GB == pytest.approx(2 * facts(TINY).parameters, rel=1e-3)
    parts = ("weight_memory_gb", "activation_memory_gb", "kv_cache_gb")
    assert memory["total_memory_gb"] == pytest.approx(sum(memory[part] for part in parts))
    assert memory["memory_per_chip_gb"] == pytest.approx(memory["total_memory_gb"])


def test_the_cache_holds_whole_sequences(app: FastAPI) -> None:
    memory = answer(app, SYSTEM, system_request())["memory"]
    expected = 8 * (512 + 128) * facts(TINY).kv_bytes_per_token()
    assert memory["kv_cache_gb"] * GB == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("model", [TINY, MIXTURE, "google/gemma-3-27b"])
@pytest.mark.parametrize("tp", [1, 4])
def test_the_kinds_of_layers_add_up_to_the_whole(app: FastAPI, model: str, tp: int) -> None:
    names = [layer["type"] for layer in kinds(app, model)]
    layers = {name: layout(tensor_parallel=tp) for name in names}
    whole = answer(app, SYSTEM, system_request(model_id=model, layers=layers))
    each = [
        answer(
            app, LAYER,
            layer_request(model_id=model, layer_type=name, tensor_parallel=tp, context_parallel=1),
        )["memory"]
        for name in names
    ]  # fmt: skip
    weights = sum(memory["total_weights_gb"] for memory in each)
    assert weights == pytest.approx(whole["memory"]["weight_memory_gb"], rel=1e-9)


def test_latencies_hang_together(app: FastAPI) -> None:
    found = answer(app, SYSTEM, system_request())
    total = found["ttft_ms"] + 127 * found["tpot_ms"]
    assert found["total_latency_ms"] == pytest.approx(total)
    assert found["throughput_tokens_s"] == pytest.approx(8 * 128 / (total / 1e3))


def test_one_token_is_all_prefill(app: FastAPI) -> None:
    found = answer(app, SYSTEM, system_request(output_seq=1))
    assert found["total_latency_ms"] == pytest.approx(found["ttft_ms"])
    decode = phase_request(seq_len=1)
    found = answer(app, PHASES, phases_request(decode=decode))
    assert found["decode"]["latency_ms"] == 0
    assert found["decode"]["step_ms"] > 0


def test_shares_of_a_layer_are_a_whole(app: FastAPI) -> None:
    found = answer(app, LAYER, layer_request())
    assert sum(found["bottleneck"].values()) == pytest.approx(100)
    assert found["bottleneck"]["communication_pct"] > 0
    assert found["num_instances"] == 22
    assert found["num_chips"] == 8
    assert found["parallelism"]["context_parallel"] == 2
    compute = found["compute"]
    assert compute["total_flops_tflops"] == pytest.approx(8 * compute["flops_per_chip_tflops"])


def test_tensor_parallelism_splits_memory(app: FastAPI) -> None:
    one = answer(app, LAYER, layer_request(tensor_parallel=1, context_parallel=1))["memory"]
    four = answer(app, LAYER, layer_request(tensor_parallel=4, context_parallel=1))["memory"]
    assert four["weights_per_chip_gb"] == pytest.approx(one["weights_per_chip_gb"] / 4)
    assert four["kv_cache_per_chip_gb"] == pytest.approx(one["kv_cache_per_chip_gb"] / 4)
    assert four["total_weights_gb"] == pytest.approx(one["total_weights_gb"])


def test_more_chips_than_key_value_heads_hold_copies(app: FastAPI) -> None:
    four = answer(app, LAYER, layer_request(tensor_parallel=4, context_parallel=1))["memory"]
    eight = answer(app, LAYER, layer_request(tensor_parallel=8, context_parallel=1))["memory"]
    assert eight["total_kv_cache_gb"] == pytest.approx(2 * four["total_kv_cache_gb"])


def test_narrower_formats_take_less(app: FastAPI) -> None:
    wide = answer(app, LAYER, layer_request())["memory"]
    narrow = answer(app, LAYER, layer_request(dtype="fp8"))["memory"]
    assert narrow["total_weights_gb"] == pytest.approx(wide["total_weights_gb"] / 2)
    assert narrow["total_kv_cache_gb"] == pytest.approx(wide["total_kv_cache_gb"] / 2)


def test_a_mixture_takes_the_layout_of_its_mlps_where_it_has_none(app: FastAPI) -> None:
    said = system_request(model_id=MIXTURE)
    layers = {**said["layers"], "moe": layout(), "lm_head": layout()}
    del layers["feedforward"]
    assert answer(app, SYSTEM, said) == answer(app, SYSTEM, {**said, "layers": layers})


@pytest.mark.parametrize(
    ("hardware", "chips"),
    [("nvidia_gb200_superchip", 2), ("nvidia_nvl72_rack", 72), ("NVIDIA-NVL72-Rack", 72)],
)
def test_a_system_has_the_memory_of_all_its_chips(app: FastAPI, hardware: str, chips: int) -> None:
    found = answer(app, SYSTEM, system_request(hardware_config=hardware))
    one = find_accelerator("GB200").memory_bytes
    assert found["memory"]["hw_capacity_gb"] * GB == pytest.approx(chips * one)
    assert found["system"]["num_chips"] == 1


def test_a_system_has_no_more_chips_than_it_has(app: FastAPI) -> None:
    body = layer_request(context_parallel=1, hardware_config="nvidia_gb200_superchip")
    (error,) = refused(app, LAYER, body)
    assert "has 2 chips and the layout takes 4" in error["message"]
    assert "nvidia_gb200" in error["remedy"]


@pytest.mark.parametrize("hardware", ["nvidia_gb200", "nvidia_gb200_single", "GB200"])
def test_a_single_accelerator_is_taken_as_often_as_the_layout_says(
    app: FastAPI, hardware: str
) -> None:
    layers = dict.fromkeys(system_request()["layers"], layout(tensor_parallel=4))
    found = answer(app, SYSTEM, system_request(hardware_config=hardware, layers=layers))
    one = find_accelerator("GB200").memory_bytes
    assert found["system"]["num_chips"] == 4
    assert found["memory"]["hw_capacity_gb"] * GB == pytest.approx(4 * one)


def test_what_does_not_fit_is_said_and_predicted_all_the_same(app: FastAPI) -> None:
    body = system_request(model_id="meta-llama/Llama-3.1-70B", hardware_config="nvidia_l4")
    found = answer(app, SYSTEM, body)
    assert found["system"]["fits_on_hardware"] is False
    assert found["memory"]["memory_per_chip_gb"] > found["memory"]["hw_capacity_gb"]
    assert answer(app, SYSTEM, system_request())["system"]["fits_on_hardware"] is True


def test_the_servers_own_names_come_first() -> None:
    small = replace(facts(TINY), name="mine", layers=2)
    slow = replace(find_accelerator("H200"), name="slow", memory_bytes_per_s=1e9)
    app = create_app(models={"mine": small}, hardware={"slow": slow})
    assert {layer["type"]: layer["count"] for layer in kinds(app, "mine")}["attention"] == 2
    found = answer(app, SYSTEM, system_request(model_id="mine", hardware_config="slow"))
    usual = answer(app, SYSTEM, system_request(model_id="mine", hardware_config="H200"))
    assert found["tpot_ms"] > 10 * usual["tpot_ms"]


def test_a_nodes_own_curves_count() -> None:
    rate = find_accelerator("H200").memory_bytes_per_s / 100
    slow = NodeCurves(
        accelerator="H200",
        gemm_flops={"bf16": ((1.0, 1e12), (4096.0, 1e13))},
        gemm_bytes_per_s={"bf16": rate},
        copy_bytes_per_s=rate,
    )
    usual, measured = create_app(), create_app(curves=[slow])
    found = [answer(app, SYSTEM, system_request())["tpot_ms"] for app in (usual, measured)]
    assert found[1] > 10 * found[0]


def test_phases_with_equal_layers_are_the_whole_system(app: FastAPI) -> None:
    whole = answer(app, SYSTEM, system_request())
    apart = answer(app, PHASES, phases_request())
    assert apart["prefill"]["latency_ms"] == pytest.approx(whole["ttft_ms"])
    assert apart["decode"]["step_ms"] == pytest.approx(whole["tpot_ms"])
    system = apart["system"]
    assert system["shared_chips"] is True
    assert system["num_chips"] == 1
    assert system["total_time_ms"] == pytest.approx(whole["total_latency_ms"])
    assert system["throughput_tokens_s"] == pytest.approx(whole["throughput_tokens_s"])
    assert system["total_memory_gb"] == pytest.approx(whole["memory"]["total_memory_gb"])
    assert 0 < system["utilization_percent"] < 100


def test_phases_on_different_hardware_have_chips_of_their_own(app: FastAPI) -> None:
    decode = phase_request(tp=4, seq_len=128, batch_size=32, hardware_config="H100")
    found = answer(app, PHASES, phases_request(decode=decode))
    prefill, decode, system = found["prefill"], found["decode"], found["system"]
    assert (prefill["num_chips"], decode["num_chips"], system["num_chips"]) == (1, 4, 5)
    assert system["shared_chips"] is False
    assert system["total_memory_gb"] == pytest.approx(prefill["memory_gb"] + decode["memory_gb"])
    rates = (8 / prefill["latency_ms"], 32 / decode["latency_ms"])
    assert system["throughput_tokens_s"] == pytest.approx(1e3 * 128 * min(rates))


@pytest.mark.parametrize(("wrong", "right"), [("prefill", "decode"), ("decode", "prefill")])
def test_one_phase_fails_with_its_reason_while_the_other_answers(
    app: FastAPI, wrong: str, right: str
) -> None:
    body = phases_request()
    complete = answer(app, PHASES, body)
    body[f"{wrong}_req"]["layer_configs"][5]["tp_degree"] = 3
    found = answer(app, PHASES, body)
    assert found[right] == complete[right]
    assert found["system"] is None
    assert "does not divide the 32 heads" in found[wrong]["error"]
    paths = {error["path"] for error in found[wrong]["errors"]}
    assert paths == {f"{wrong}_req.layer_configs[5].tp_degree"}


def test_both_phases_failing_is_a_refusal(app: FastAPI) -> None:
    body = phases_request(phase_request(hardware_config="H2000"), phase_request(model_config="x/y"))
    errors = refused(app, PHASES, body)
    assert [error["path"] for error in errors] == [
        "prefill_req.hardware_config", "decode_req.model_config",
    ]  # fmt: skip


def test_layers_may_lie_differently(app: FastAPI) -> None:
    layers = phase_request(tp=4)["layer_configs"]
    narrow = answer(app, PHASES, phases_request(phase_request(tp=4)))["prefill"]
    mixed = phase_request(layer_configs=layers[:11] + phase_request()["layer_configs"][11:])
    wide = answer(app, PHASES, phases_request())["prefill"]
    found = answer(app, PHASES, phases_request(mixed))["prefill"]
    assert narrow["latency_ms"] < found["latency_ms"] < wide["latency_ms"]
    assert found["num_chips"] == 4


def test_a_deep_model_whose_layers_all_lie_differently(app: FastAPI) -> None:
    layers = [
        {
            "layer_index": index,
            "tp_degree": 1 << index % 4,
            "cp_degree": 1 + index % 2,
            "sp_degree": 1 << index % 3,
        }
        for index in reversed(range(126))
    ]
    request = phase_request(model_config="meta-llama/Llama-3.1-405B", layer_configs=layers)
    found = answer(app, PHASES, phases_request(request, request | {"seq_len": 64}))
    assert found["system"]["num_chips"] == 16
    assert found["prefill"]["memory_gb"] * GB > 2 * facts("meta-llama/Llama-3.1-405B").parameters


@pytest.mark.parametrize(
    "model",
    [TINY, "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b", "Qwen/Qwen3.5-397B-A17B"],
)
def test_every_decoder_layer_has_one_attention_and_one_mlp(model: str) -> None:
    shape = facts(model)
    placed = [kind for layer in decoder_kinds(shape) for kind in layer]
    counted = layers_of(shape)
    assert len(placed) == 2 * shape.layers
    assert {kind: placed.count(kind) for kind in placed} == {
        kind: count for kind, count in counted.items() if kind in placed
    }
