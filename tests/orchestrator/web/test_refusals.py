"""What the API refuses: always with path, value and remedy, never as a fault of the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from orchestrator.web import route
from orchestrator.web.app import create_app, prediction_router
from orchestrator.web.route import MAX_BODY_BYTES
from tests.orchestrator.web.requests import (
    MIXTURE,
    TINY,
    TINY_LAYERS,
    call,
    layer_request,
    layout,
    phase_request,
    phases_request,
    refused,
    system_request,
)

LAYER, SYSTEM, PHASES = "/config/layer-metrics", "/config/system-metrics", "/api/system-metrics"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app()


@pytest.mark.parametrize(
    ("method", "path", "successor"),
    [
        ("POST", "/config/load", "GET /api/layers"),
        ("POST", "/config/layer-parallelism", "POST /config/layer-metrics"),
        ("GET", "/config/layers", "GET /api/layers"),
    ],
)
def test_calls_of_stateful_tools_are_gone_and_name_their_successor(
    app: FastAPI, method: str, path: str, successor: str
) -> None:
    response = call(app, method, path, content=b"whatever")
    assert response.status_code == 410
    (error,) = response.json()["errors"]
    assert successor in error["remedy"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"\xff\xfe{}", JSON, 400),
        (b'{"batch_size": NaN}', JSON, 400),
        (b'{"batch_size": -Infinity}', JSON, 400),
        (b'{"batch_size": ' + b"9" * 5000 + b"}", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, JSON, 400),
        (b"", JSON, 422),
        (b"null", JSON, 422),
        (b"[]", JSON, 422),
        (b'"text"', JSON, 422),
        (b'{"\\ud800": 1}', JSON, 422),
        (b'{"model_id": "\\ud800"}', JSON, 422),
        (b'{"batch_size": 1e999}', JSON, 422),
        (b'{"batch_size": 1, "batch_size": 2}', JSON, 422),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b" " * (MAX_BODY_BYTES + 1), JSON, 413),
    ],
)
@pytest.mark.parametrize("path", [LAYER, SYSTEM, PHASES])
def test_a_body_that_is_no_request(
    app: FastAPI, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = call(app, "POST", path, content=body, headers=headers)
    assert response.status_code == status, response.text
    for error in response.json()["errors"]:
        assert error["message"]
        assert error["remedy"]


def test_keys_that_cannot_be_meant_are_named(app: FastAPI) -> None:
    for body, words, value in (
        (b'{"a": {"b": 1, "b": 1}}', "stands twice", "'b'"),
        (b'{"\\ud800": 1}', "half of a character", "'\\ud800'"),
    ):
        (error,) = call(app, "POST", LAYER, content=body, headers=JSON).json()["errors"]
        assert words in error["message"]
        assert error["value"] == value


def statuses(app: FastAPI, *headers: tuple[bytes, bytes]) -> list[int]:
    """What is answered to a request whose body never arrives."""
    answers: list[int] = []

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def answered(message: Message) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": LAYER, "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }  # fmt: skip
    asyncio.run(app(scope, never, answered))
    return answers


def test_a_body_that_is_said_to_be_too_long_is_not_awaited(app: FastAPI) -> None:
    assert statuses(app, (b"content-length", str(MAX_BODY_BYTES + 1).encode())) == [413]


def test_a_body_that_does_not_arrive_is_not_awaited_for_ever(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "BODY_DEADLINE_S", 0.01)
    assert statuses(app, (b"content-length", b"99")) == [408]


def test_lengths_beyond_the_context_of_the_model_are_refused(app: FastAPI) -> None:
    for path, body, where in (
        (LAYER, layer_request(seq_length=2049), "seq_length"),
        (SYSTEM, system_request(input_seq=2049), "input_seq"),
        (SYSTEM, system_request(output_seq=2049), "output_seq"),
    ):
        (error,) = refused(app, path, body)
        assert (error["path"], error["remedy"]) == (where, "send 1 to 2,048")
    response = call(app, "POST", PHASES, json=phases_request(phase_request(seq_len=2049)))
    failed = response.json()["prefill"]
    assert failed["errors"][0]["path"] == "prefill_req.seq_len"
    assert "\n" not in failed["error"]


def test_entries_that_are_no_objects_and_too_many_entries(app: FastAPI) -> None:
    layers = phase_request()["layer_configs"]
    (error,) = refused(app, PHASES, phases_request(phase_request(layer_configs=[*layers[1:], 7])))
    assert error["remedy"] == "send an object with layer_index, tp_degree, cp_degree, sp_degree"
    (error,) = refused(app, PHASES, phases_request(phase_request(layer_configs=layers * 50)))
    assert error["remedy"] == "send 1 to 1,024 entries"
    (error,) = refused(app, LAYER, layer_request(model_id="x" * 201))
    assert error["remedy"] == "send 1 to 200 characters"


def test_a_body_of_exactly_the_limit_is_read(app: FastAPI) -> None:
    body = json.dumps(layer_request(batch_size=0)).encode()
    response = call(app, "POST", LAYER, content=body.ljust(MAX_BODY_BYTES), headers=JSON)
    assert response.status_code == 422


def test_unknown_paths_and_methods_are_refused_alike(app: FastAPI) -> None:
    assert call(app, "GET", "/api/layer").json()["errors"][0]["remedy"]
    response = call(app, "GET", LAYER)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["errors"]


@pytest.mark.parametrize("phase", ["prefill_req", "decode_req"])
@pytest.mark.parametrize("field", sorted(phase_request()))
def test_every_missing_field_of_a_phase_is_named(app: FastAPI, phase: str, field: str) -> None:
    body = phases_request()
    del body[phase][field]
    (error,) = refused(app, PHASES, body)
    assert error["path"] == f"{phase}.{field}"
    assert error["message"] == "is required and missing"


@pytest.mark.parametrize("phase", ["prefill_req", "decode_req"])
@pytest.mark.parametrize("field", ["layer_index", "tp_degree", "cp_degree", "sp_degree"])
def test_every_missing_field_of_a_layer_is_named(app: FastAPI, phase: str, field: str) -> None:
    body = phases_request()
    del body[phase]["layer_configs"][3][field]
    (error,) = refused(app, PHASES, body)
    assert error["path"] == f"{phase}.layer_configs[3].{field}"


@pytest.mark.parametrize("phase", ["prefill_req", "decode_req"])
def test_a_missing_phase_is_named(app: FastAPI, phase: str) -> None:
    body = phases_request()
    del body[phase]
    assert [error["path"] for error in refused(app, PHASES, body)] == [phase]


def test_all_missing_fields_are_named_at_once(app: FastAPI) -> None:
    errors = refused(app, SYSTEM, {})
    assert {error["path"] for error in errors} == set(system_request())


@pytest.mark.parametrize(
    ("body", "path", "remedy"),
    [
        (layer_request(model_id="TinyLlama/TinyLlama-1.1B-Chat"), "model_id", f"'{TINY}'"),
        (layer_request(hardware_config="nvidia_nvl72"), "hardware_config", "'nvidia_nvl72_rack'"),
        (layer_request(hardware_config="H2000"), "hardware_config", "'H200'"),
        (layer_request(layer_type="moe"), "layer_type", "feedforward"),
        (layer_request(layer_type="atention"), "layer_type", "'attention'"),
        (layer_request(dtype="int4"), "dtype", "int8"),
        (layer_request(dtype="bfloat16"), "dtype", "'bf16'"),
        (layer_request(tensor_paralel=2), "tensor_paralel", "did you mean 'tensor_parallel'"),
        (layer_request(tensor_parallel=3), "tensor_parallel", "1, 2, 4, 8, 16, 32"),
        (layer_request(tensor_parallel=0), "tensor_parallel", "send 1 to 1,024"),
        (layer_request(tensor_parallel=10**30), "tensor_parallel", "send 1 to 1,024"),
        (layer_request(tensor_parallel=True), "tensor_parallel", "chips"),
        (layer_request(tensor_parallel="4"), "tensor_parallel", "chips"),
        (layer_request(tensor_parallel=None), "tensor_parallel", "chips"),
        (layer_request(batch_size=1.5), "batch_size", "sequences"),
        (layer_request(seq_length=-1), "seq_length", "send 1 to 16,777,216"),
        (layer_request(expert_parallel=2), "expert_parallel", "only `moe` takes it"),
        (
            layer_request(model_id=MIXTURE, layer_type="moe", expert_parallel=48),
            "expert_parallel",
            "128",
        ),
    ],
)  # fmt: skip
def test_wrong_values_say_where_and_what_to_send(
    app: FastAPI, body: dict[str, Any], path: str, remedy: str
) -> None:
    errors = [error for error in refused(app, LAYER, body) if error["path"] == path]
    assert errors
    assert remedy in errors[0]["remedy"]


def test_a_misspelt_field_is_not_called_missing_as_well(app: FastAPI) -> None:
    body = layer_request(seq_lenght=5)
    del body["seq_length"]
    (error,) = refused(app, LAYER, body)
    assert "did you mean 'seq_length'" in error["remedy"]


def test_key_value_heads_are_split_or_held_by_equally_many(app: FastAPI) -> None:
    # Qwen2.5-7B has 28 heads and 4 of keys and values: 7 divides the first alone.
    body = layer_request(model_id="Qwen/Qwen2.5-7B", tensor_parallel=7)
    (error,) = refused(app, LAYER, body)
    assert "4 key-value heads" in error["message"]


def test_kinds_of_layers_that_a_model_has_not_are_refused(app: FastAPI) -> None:
    layers = {**system_request()["layers"], "moe": layout()}
    (error,) = refused(app, SYSTEM, system_request(layers=layers))
    assert (error["path"], error["remedy"]) == ("layers.moe", "leave it out")


def test_kinds_of_layers_that_a_model_has_are_required(app: FastAPI) -> None:
    layers = {**system_request()["layers"], "feedforward": None}
    errors = refused(app, SYSTEM, system_request(layers=layers, model_id=MIXTURE))
    assert [error["path"] for error in errors] == ["layers.moe"]


def test_layers_named_twice_missing_and_not_there(app: FastAPI) -> None:
    layers = phase_request()["layer_configs"]
    layers[1] = {**layers[1], "layer_index": 0}
    layers[2] = {**layers[2], "layer_index": TINY_LAYERS}
    wrong = phase_request(layer_configs=layers)
    errors = refused(app, PHASES, phases_request(wrong, wrong))
    where = [error["path"] for error in errors]
    assert where[:3] == [
        "prefill_req.layer_configs[1].layer_index",
        "prefill_req.layer_configs[2].layer_index",
        "prefill_req.layer_configs",
    ]
    assert where[3] == "decode_req.layer_configs[1].layer_index"
    assert errors[2]["remedy"] == "add 1, 2"


def test_so_many_errors_that_nobody_reads_them_are_cut(app: FastAPI) -> None:
    assert len(refused(app, LAYER, {f"key{number}": 1 for number in range(50_000)})) == 50


def test_no_path_of_the_server_is_opened(app: FastAPI, tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for name in (str(tmp_path), "/etc", "../..", "tests/orchestrator"):
        response = call(app, "GET", "/api/layers", params={"model_id": name})
        assert response.status_code == 422
        assert response.json()["errors"][0]["message"] == "unknown model"


def test_the_routes_refuse_alike_in_another_application() -> None:
    other = FastAPI()
    other.include_router(prediction_router(), prefix="/predict")
    (error,) = refused(other, f"/predict{LAYER}", layer_request(batch_size=0))
    assert error["path"] == "batch_size"
    assert call(other, "POST", "/predict/config/load").json()["errors"]


_JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(sorted(layer_request())), value=_JSON_VALUES)
def test_any_value_in_any_field_is_answered_or_refused(field: str, value: object) -> None:
    body = json.dumps(layer_request(**{field: value}))
    response = call(_APP, "POST", LAYER, content=body, headers=JSON)
    assert response.status_code in (200, 422)


_APP = create_app()
