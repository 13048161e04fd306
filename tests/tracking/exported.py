"""What an exporter exports once everything has happened to it, and what else dashboards ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtimes.measurement import RequestRecord
from runtimes.request_counts import RequestCounts
from runtimes.slo import Slo, SloLimit
from search.perfmodel.expected import Estimate, Expected
from search.trial import TrialState
from tests.tracking.run_samples import out_of_memory, trial_record
from tracking.exporter import Exporter
from tracking.live import LiveFigures
from tracking.run_data import Goal

SLO = Slo((SloLimit("ttft_ms", "p99", 500), SloLimit("tpot_ms", "p99", 40)))
_PREDICTED = Expected(
    ttft_ms=Estimate(180, 150, 220),
    tpot_ms=Estimate(22, 18, 26),
    output_throughput=Estimate(1900, 1500, 2300),
    running=32,
)
TARGET_LABELS = frozenset({"instance", "job", "run", "study"})
"""Labels that service discovery gives every target."""
ENGINE_TARGET_LABELS = TARGET_LABELS | {"engine", "trial"}
GOLDEN = Path(__file__).resolve().parents[1] / "golden"

_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_SAMPLE = re.compile(r"^(\w[\w:]*)(?:\{(.*)\})? \S+$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="')
_SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class Known:
    """A name that can be asked for: whether it only grows, and the labels of its series."""

    grows: bool
    labels: frozenset[str]


def exporter() -> Exporter:
    """One that nothing has happened to."""
    return Exporter(
        run="demo-20260101T000000Z-abcd",
        name="demo",
        model="meta-llama/Llama-3.1-8B",
        goals=[Goal("goodput_per_gpu", "maximize")],
        slo=SLO,
        capacity_gpus=8,
        version="0.1.0",
        sampler="tpe",
        engines=["vllm"],
    )


def feed(exporter: Exporter, step: int) -> None:
    """One moment of a study: a trial completes first, one runs throughout, one fails each time."""
    if step == 0:
        exporter.planned(100)
        exporter.trial_finished(replace(trial_record(500), predicted=_PREDICTED))
        exporter.trial_started(0, "vllm", 4)
        exporter.phase_entered(0, "measuring")
        exporter.best({"goodput_per_gpu": 3.5})
        exporter.pareto(2)
    exporter.queued(2)
    exporter.live(figures(step))
    exporter.requests(0, "vllm", RequestCounts.of([request(150 + step, 18)], SLO))
    exporter.suggested("tpe", 0.02)
    exporter.gpu_seconds(busy=4.0 * step, idle=4.0 * step)
    exporter.trial_finished(
        trial_record(
            step + 1,
            state=TrialState.INFEASIBLE,
            failure=out_of_memory(),
            flags=["client_limited"],
        )
    )


def request(ttft_ms: int, tpot_ms: int, output_tokens: int = 5) -> RequestRecord:
    """A request that succeeded, its chunks one token each."""
    chunk_ns = [(ttft_ms + tpot_ms * chunk) * 1_000_000 for chunk in range(output_tokens)]
    return RequestRecord(0, 0, 0, chunk_ns, chunk_ns[-1], 1024, output_tokens, output_tokens)


def figures(step: int) -> LiveFigures:
    """Figures of trial 0 with every one there is."""
    return LiveFigures(
        number=0,
        attempt=0,
        gpus=4,
        completed=step,
        failed=0,
        planned=1000,
        output_tokens_per_s=4000.0 + step,
        requests_running=32.0,
        requests_waiting=float(step),
        kv_cache_usage_ratio=0.5,
        in_flight=32,
        lag_ms=1.5,
        ttft_mean_ms=150.0,
        tpot_mean_ms=18.0,
        prefix_cache_hit_ratio=0.25,
        prompt_tokens=1000.0 * step,
        generation_tokens=4000.0 * step,
        preemptions=float(step),
    )


def known_metrics() -> dict[str, Known]:
    """Every name a dashboard may ask for, from what really exports it."""
    used = exporter()
    feed(used, 0)
    feed(used, 1)
    engines = {
        name: Known(known.grows, known.labels - {"engine"} | ENGINE_TARGET_LABELS)
        for golden in ("vllm_metrics.txt", "sglang_metrics.txt")
        for name, known in _read((GOLDEN / golden).read_text(encoding="utf-8")).items()
    }
    ours = {
        name: Known(known.grows, known.labels | TARGET_LABELS)
        for name, known in _read(used.text()).items()
    }
    up = {"up": Known(False, ENGINE_TARGET_LABELS)}
    return {**engines, **RAY_METRICS, **ours, **up}


_NODE = TARGET_LABELS | {"SessionName", "ip"}
_GPU = _NODE | {"GpuIndex", "GpuDeviceName"}
RAY_METRICS: Mapping[str, Known] = {
    "ray_node_gpus_utilization": Known(False, _GPU),
    "ray_node_gram_used": Known(False, _GPU),
    "ray_node_cpu_utilization": Known(False, _NODE),
    "ray_node_mem_used": Known(False, _NODE),
    "ray_node_mem_total": Known(False, _NODE),
}
"""As Ray's node agent exports them (`ray/dashboard/modules/reporter/reporter_agent.py`)."""


def _read(text: str) -> dict[str, Known]:
    kinds = dict(_TYPE.findall(text))
    labels: dict[str, set[str]] = {}
    for name, written in _SAMPLE.findall(text):
        labels.setdefault(name, set()).update(_LABEL.findall(written))
    return {name: Known(_grows(name, kinds), frozenset(found)) for name, found in labels.items()}


def _grows(name: str, kinds: Mapping[str, str]) -> bool:
    for suffix in _SUFFIXES:
        if kinds.get(name.removesuffix(suffix)) in ("histogram", "summary"):
            return True
    return kinds.get(name) == "counter"
