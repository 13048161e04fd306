"""What-if answers as one JSON document, and the figures of an answer with their bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.what_if import Point, WhatIf
from orchestrator.what_if_split import Split
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout

if TYPE_CHECKING:
    from search.perfmodel.answer import Memory, PhaseCost, Prediction
    from search.perfmodel.disaggregated import DisaggregatedPrediction
    from search.perfmodel.question import Load


def document(asked: WhatIf, points: Sequence[Point]) -> dict[str, Json]:
    """The points: times in ms, rates per second, sizes in bytes, null for what has no end."""
    model = asked.model
    return {
        "model": {
            "name": asked.name,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "source": model.source,
        },
        "arguments": dict(asked.args),
        "acceptance": asked.acceptance,
        "points": [_document(point) for point in points],
    }


def _document(point: Point) -> dict[str, Json]:
    load, found = point.load, point.prediction
    row: dict[str, Json] = {
        "engine": point.engine,
        "accelerator": point.accelerator,
        "gpus": point.gpus,
        **_place(point.layout),
        "quantization": point.precision,
        "load": {
            "input_tokens": load.input_tokens,
            "output_tokens": load.output_tokens,
            "prefix_hit": load.prefix_hit,
            "concurrency": load.concurrency,
            "request_rate": load.request_rate,
            "saturated": load.saturated,
        },
        "draft_tokens": point.drafts,
        "arguments_without_effect": list(point.without_effect),
        "refused": None,
        "fits": found is not None and found.memory.fits,
    }
    if point.pools is not None:
        row["pools"] = _pools(point.pools)
    if point.refusal is not None:
        row["refused"] = {"rule": point.refusal.rule, "message": point.refusal.message}
    return row if found is None else {**row, **_predicted(found, load)}


def _place(layout: ParallelLayout | Split) -> dict[str, Json]:
    if isinstance(layout, ParallelLayout):
        return {"layout": dict(layout.used)}
    return {
        name: {
            "layout": dict(pool.layout.used),
            "replicas": pool.engines,
            "accelerator": pool.accelerator.name,
        }
        for name, pool in {"prefill_pool": layout.prefill, "decode_pool": layout.decode}.items()
    }


def _pools(found: DisaggregatedPrediction) -> dict[str, Json]:
    return {
        "prefill_requests_per_s": _finite(found.prefill_rate),
        "decode_requests_per_s": _finite(found.decode_rate),
        "limited_by": "prefill" if found.prefill_limits else "decode",
        "prefill_engines_per_decode_engine": _finite(found.balance),
        "transfer_bytes_per_rank": _finite(found.transfer_bytes),
        "transfer_ms": _finite(found.transfer_ms),
        "prefill_memory_per_gpu": _memory(found.prefill.memory),
        "decode_memory_per_gpu": _memory(found.decode.memory),
    }


def _predicted(found: Prediction, load: Load) -> dict[str, Json]:
    figures: dict[str, Json] = {
        name: {"value": _finite(value), "low": _finite(low), "high": _finite(high)}
        for name, value, low, high in figures_of(found, load)
    }
    return {
        **figures,
        "request_throughput": _finite(found.request_throughput),
        "total_throughput": _finite(found.total_throughput),
        "stable": found.stable,
        "running": _finite(found.running),
        "waiting_ms": _finite(found.waiting_ms),
        "memory_per_gpu": _memory(found.memory),
        "prefill": _phase(found.prefill),
        "decode": _phase(found.decode),
        "extrapolates": list(found.extrapolates),
    }


def _memory(memory: Memory) -> dict[str, Json]:
    sizes = ("weights", "activations", "collectives", "runtime", "kv_cache", "kv_budget")
    return {
        **{f"{name}_bytes": _finite(getattr(memory, name)) for name in sizes},
        "capacity_bytes": _finite(memory.capacity),
        "short_by_bytes": _finite(max(memory.short_by, 0.0)),
        "max_sequences": _finite(memory.max_sequences),
    }


def figures_of(found: Prediction, load: Load) -> Iterator[tuple[str, float, float, float]]:
    """Name, value and bounds of what is predicted with bounds.

    Those of the end-to-end time are the sums of its parts' bounds, as if both erred alike.
    """
    ttft, tpot, rate = found.ttft_interval_ms, found.tpot_interval_ms, found.throughput_interval
    later = max(load.output_tokens - 1, 0)
    yield "ttft_ms", found.ttft_ms, ttft.low, ttft.high
    yield "tpot_ms", found.tpot_ms, tpot.low, tpot.high
    yield "e2e_ms", found.e2e_ms, ttft.low + later * tpot.low, ttft.high + later * tpot.high
    yield "output_throughput", found.output_throughput, rate.low, rate.high
    per_gpu = (found.output_throughput_per_gpu, rate.low / found.gpus, rate.high / found.gpus)
    yield "output_throughput_per_gpu", *per_gpu


def _phase(cost: PhaseCost) -> dict[str, Json]:
    return {
        "bottleneck": cost.bottleneck.value,
        "milliseconds": _finite(cost.seconds * 1e3),
        "shares": {name: _finite(share) for name, share in shares_of(cost).items()},
    }


def shares_of(cost: PhaseCost) -> dict[str, float]:
    """Share of the time by what it goes to, the most first."""
    whole = cost.seconds or 1.0
    parts = {
        "compute": cost.compute_s / whole,
        "memory": cost.memory_s / whole,
        "communication": cost.communication_s / whole,
        "overhead": cost.overhead_s / whole,
    }
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
