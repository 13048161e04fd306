"""Requests that are right, and calls of the API without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

TINY = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
TINY_LAYERS = 22
MIXTURE = "Qwen/Qwen3-30B-A3B"

Body = dict[str, Any]


def layer_request(**changes: object) -> Body:
    """One kind of layer, as users of earlier tools send it."""
    return {
        "model_id": TINY, "hardware_config": "nvidia_gb200_single", "layer_type": "attention",
        "batch_size": 1, "seq_length": 2048, "dtype": "bf16", "tensor_parallel": 4,
        "context_parallel": 2, "sequence_parallel": 1, **changes,
    }  # fmt: skip


def layout(**changes: object) -> Body:
    return {
        "tensor_parallel": 1, "context_parallel": 1, "sequence_parallel": 1, "dtype": "bf16",
        **changes,
    }  # fmt: skip


def system_request(**changes: object) -> Body:
    kinds = ("attention", "feedforward", "norm", "embedding")
    return {
        "model_id": TINY, "hardware_config": "nvidia_h200_141gb", "batch_size": 8,
        "input_seq": 512, "output_seq": 128, "layers": {kind: layout() for kind in kinds},
        **changes,
    }  # fmt: skip


def phase_request(tp: int = 1, **changes: object) -> Body:
    layers = [
        {"layer_index": index, "tp_degree": tp, "cp_degree": 1, "sp_degree": 1}
        for index in range(TINY_LAYERS)
    ]
    return {
        "model_config": TINY, "hardware_config": "H200", "seq_len": 512, "batch_size": 8,
        "dtype": "bf16", "layer_configs": layers, **changes,
    }  # fmt: skip


def phases_request(prefill: Body | None = None, decode: Body | None = None) -> Body:
    return {
        "prefill_req": prefill or phase_request(),
        "decode_req": decode or phase_request(seq_len=128),
    }


def call(app: FastAPI, method: str, path: str, **arguments: Any) -> httpx.Response:
    """One request to `app`; a bug in it raises here."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(send())


def answer(app: FastAPI, path: str, body: Body) -> Body:
    """What `app` answers to a request that is right."""
    response = call(app, "POST", path, json=body)
    assert response.status_code == 200, response.text
    answered: Body = response.json()
    return answered


def refused(app: FastAPI, path: str, body: object, status: int = 422) -> list[dict[str, Any]]:
    """The errors that `app` answers with."""
    response = call(app, "POST", path, json=body)
    assert response.status_code == status, response.text
    errors: list[dict[str, Any]] = response.json()["errors"]
    assert errors
    assert all(set(error) == {"path", "message", "value", "remedy"} for error in errors)
    assert all(error["remedy"] for error in errors)
    return errors
