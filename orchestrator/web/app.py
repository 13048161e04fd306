"""The routes of the performance model's API, and an application that has nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import APIRouter, FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException

from orchestrator.web.catalogue import Catalogue
from orchestrator.web.errors import ErrorBody, RefusedRequestError, refusal
from orchestrator.web.phases import phases_metrics
from orchestrator.web.prediction import Predictor
from orchestrator.web.prediction_answers import (
    LayerAnswer,
    LayersAnswer,
    PhasesAnswer,
    SystemAnswer,
)
from orchestrator.web.prediction_models import (
    LayerRequest,
    LayersQuery,
    PhasesRequest,
    SystemRequest,
)
from orchestrator.web.route import PredictionRoute
from runtimes.errors import Problem
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves
from runtimes.version import __version__

T = TypeVar("T")

_ABOUT = """Predicts memory, time and throughput of a model on accelerators. Stateless: every
request carries all it needs. Fields with a unit state it in their description and as `x-unit`;
GB are 10^9 bytes."""
_LAYERS = "GET /api/layers?model_id=…"
_SUCCESSORS = {
    ("POST", "/config/load"): f"{_LAYERS}; then send model_id and hardware_config every time",
    ("POST", "/config/layer-parallelism"): (
        "POST /config/layer-metrics or POST /config/system-metrics, which take the degrees"
    ),
    ("GET", "/config/layers"): _LAYERS,
}
"""Calls of earlier, stateful tools, and what replaces them."""

_Refusals = dict[int | str, dict[str, Any]]
_UNANSWERED: _Refusals = {
    422: {"model": ErrorBody, "description": "The request is wrong: where, and what to send"}
}
_UNREAD: _Refusals = {
    400: {"model": ErrorBody, "description": "The body is no JSON"},
    408: {"model": ErrorBody, "description": "The body did not arrive in time"},
    413: {"model": ErrorBody, "description": "The body is longer than 1 MiB"},
    415: {"model": ErrorBody, "description": "The body is not said to be JSON"},
    **_UNANSWERED,
}
_GONE: _Refusals = {
    410: {"model": ErrorBody, "description": "Gone; the answer names its successor"}
}


def create_app(
    *,
    hardware: Mapping[str, Accelerator] | None = None,
    models: Mapping[str, ModelFacts] | None = None,
    curves: Sequence[NodeCurves] = (),
) -> FastAPI:
    """The API by itself.

    Args:
        hardware: the server's own accelerators by name, found before the built-in ones.
        models: the server's own models by name, found before the built-in ones.
        curves: nodes' own measurements.
    """
    # No pages that load scripts from elsewhere.
    app = FastAPI(
        title="servetune performance model", version=__version__, description=_ABOUT,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.include_router(prediction_router(hardware=hardware, models=models, curves=curves))
    for status in (404, 405):
        app.add_exception_handler(status, _no_such_call)
    return app


def prediction_router(
    *,
    hardware: Mapping[str, Accelerator] | None = None,
    models: Mapping[str, ModelFacts] | None = None,
    curves: Sequence[NodeCurves] = (),
) -> APIRouter:
    """The routes alone, for an application that has others; arguments as of `create_app`.

    Predictions run in a few threads of the router's own, so that they hold up neither the event
    loop nor other routes' threads.
    """
    predictor = Predictor(Catalogue(hardware or {}, models or {}), tuple(curves))
    threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="prediction")
    router = APIRouter(route_class=PredictionRoute)

    async def run(function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    @router.get("/api/layers", responses=_UNANSWERED)
    async def layers(query: Annotated[LayersQuery, Query()]) -> LayersAnswer:
        """Kinds of layers of a model, with the degrees and number formats they take."""
        return await run(predictor.layers, query.model_id)

    @router.post("/config/layer-metrics", responses=_UNREAD)
    async def layer_metrics(request: LayerRequest) -> LayerAnswer:
        """One kind of layer in the prefill of a batch: chips, memory, arithmetic, bottleneck."""
        return await run(predictor.layer_metrics, request)

    @router.post("/config/system-metrics", responses=_UNREAD)
    async def system_metrics(request: SystemRequest) -> SystemAnswer:
        """A whole model: latencies, throughput, memory, and whether it fits."""
        return await run(predictor.system_metrics, request)

    @router.post("/api/system-metrics", responses=_UNREAD)
    async def separate_phases(request: PhasesRequest) -> PhasesAnswer:
        """Prefill and decode apart, layer by layer; one may fail while the other answers."""
        return await run(phases_metrics, predictor, request)

    for (method, path), successor in _SUCCESSORS.items():
        _add_gone(router, method, path, successor)
    return router


def _add_gone(router: APIRouter, method: str, path: str, successor: str) -> None:
    async def gone() -> NoReturn:
        problem = Problem("", "the server keeps no state", None, f"use {successor}")
        raise RefusedRequestError(problem, status=410)

    router.add_api_route(
        path, gone, methods=[method], status_code=410, responses=_GONE, deprecated=True,
        response_model=None, summary=f"Gone: use {successor}",
        operation_id=f"gone_{method}_{path.rpartition('/')[2]}".lower().replace("-", "_"),
    )  # fmt: skip


async def _no_such_call(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    rule = f"{error.detail}: {request.method} on this path"
    problem = Problem("", rule, None, "GET /openapi.json lists every call")
    return refusal(RefusedRequestError(problem, status=error.status_code, headers=error.headers))
