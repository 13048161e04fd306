"""The API's own description: every field with its unit, and an API that does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from orchestrator.web.app import create_app
from tests.orchestrator.web.requests import MIXTURE, TINY, call, phase_request

APP = create_app()
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
MODELS = [TINY, MIXTURE, "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b", "openai/gpt-oss-20b"]
PREDICTIONS = ["/config/layer-metrics", "/config/system-metrics", "/api/system-metrics"]
HARDWARE = ["H200", "nvidia_l4", "nvidia_nvl72_rack", "nvidia_gb200_superchip", "amd_mi300x"]


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every object that the API takes or answers with."""
    document = call(APP, "GET", "/openapi.json").json()
    for name, model in document["components"]["schemas"].items():
        for field, schema in model["properties"].items():
            yield f"{name}.{field}", schema


def test_every_field_is_described() -> None:
    described = dict(fields())
    assert {"SystemAnswer.ttft_ms", "PrefillRequest.model_config"} <= set(described)
    assert not [name for name, field in described.items() if not field.get("description")]


def test_every_number_has_a_unit_in_words_and_as_a_key() -> None:
    numbers = {
        name: field for name, field in fields() if field.get("type") in ("number", "integer")
    }
    assert len(numbers) > 40
    for name, field in numbers.items():
        assert field["description"].endswith(f" [{field['x-unit']}]"), name
    assert numbers["SystemAnswer.tpot_ms"]["x-unit"] == "ms"
    assert numbers["LayerMemory.weights_per_chip_gb"]["x-unit"] == "GB"
    assert numbers["LayerCompute.total_flops_tflops"]["x-unit"] == "TFLOP"


def test_calls_of_stateful_tools_are_marked() -> None:
    paths = call(APP, "GET", "/openapi.json").json()["paths"]
    deprecated = {
        path for path, methods in paths.items() for call_ in methods.values()
        if call_.get("deprecated")
    }  # fmt: skip
    assert deprecated == {"/config/load", "/config/layer-parallelism", "/config/layers"}


@SCHEMA.parametrize()
@BOUNDED
def test_any_request_is_answered_as_described(case: Case[Any]) -> None:
    case.call_and_validate(checks=[*CHECKS, negative_data_rejection])


@BOUNDED
@given(
    case=st.one_of(*(SCHEMA[path]["POST"].as_strategy() for path in PREDICTIONS)),
    model=st.sampled_from(MODELS),
    hardware=st.sampled_from(HARDWARE),
    tp=st.sampled_from([1, 2, 4, 8]),
)
def test_any_request_for_known_names_is_answered_as_described(
    case: Case[Any], model: str, hardware: str, tp: int
) -> None:
    """With names that exist and layers that are there, requests reach the model behind them."""
    body: Any = case.body
    if "prefill_req" in body:
        for phase in body.values():
            layers = phase_request(tp)["layer_configs"]
            phase |= {"model_config": TINY, "hardware_config": hardware, "layer_configs": layers}
    else:
        body |= {"model_id": model, "hardware_config": hardware}
        parts = body["layers"].values() if "layers" in body else [body]
        for part in filter(None, parts):
            part |= {"tensor_parallel": tp, "expert_parallel": 1}
    case.call_and_validate(checks=CHECKS)
