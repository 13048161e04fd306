"""What one scrape of the driver takes, in a study with many finished and many running trials.

    python -m benchmarks.metrics_scrape [--finished 500] [--running 64] [--repeats 50]

Prints as JSON how long it takes to make the exposition and to read it over HTTP, in each of the two
formats that Prometheus asks for, beside the goal: 50 ms.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import urllib.request
from collections.abc import Callable

from runtimes.failure import Failure, FailureKind
from runtimes.measurement import RequestRecord
from runtimes.parallel import ParallelLayout
from runtimes.request_counts import RequestCounts
from runtimes.slo import Slo, SloLimit
from search.trial import TrialState
from tracking.exporter import Exporter
from tracking.live import LiveFigures
from tracking.records import DISQUALIFYING, TrialRecord
from tracking.run_data import Goal

GOAL_MS = 50.0
_ENGINES = ("sglang", "tensorrt_llm", "vllm")
_SLO = Slo((SloLimit("ttft_ms", "p99", 500.0), SloLimit("tpot_ms", "p99", 40.0)))
_FORMATS = {
    "text": "text/plain;version=0.0.4",
    "openmetrics": "application/openmetrics-text;version=1.0.0",
}


def study(finished: int, running: int) -> Exporter:
    """An exporter that has seen `finished` trials end, every series of it in use."""
    exporter = Exporter(
        run="benchmark-20260101T000000Z-abcd",
        name="benchmark",
        model="meta-llama/Llama-3.1-8B",
        goals=[Goal("goodput_per_gpu", "maximize"), Goal("ttft_p99_ms", "minimize")],
        slo=_SLO,
        capacity_gpus=8 * running,
        version="0",
        sampler="tpe",
        engines=_ENGINES,
    )
    exporter.planned(finished + running)
    exporter.best({"goodput_per_gpu": 4.5, "ttft_p99_ms": 312.0})
    counts = RequestCounts.of([_request(index) for index in range(200)], _SLO)
    for number in range(finished + running):
        engine = _ENGINES[number % len(_ENGINES)]
        exporter.suggested("tpe", 0.01)
        exporter.trial_started(number, engine, 8)
        exporter.phase_entered(number, "measuring")
        exporter.live(_figures(number))
        exporter.requests(number, engine, counts)
        if number < finished:
            exporter.trial_finished(_record(number, engine))
    return exporter


def _request(index: int) -> RequestRecord:
    chunks = [index * 1_000_000 + step * 10_000_000 for step in range(1, 40)]
    return RequestRecord(index, 0, 0, chunks, chunks[-1], 512, len(chunks), len(chunks))


def _figures(number: int) -> LiveFigures:
    return LiveFigures(
        number=number,
        attempt=0,
        gpus=8,
        completed=number,
        failed=1,
        planned=1000,
        output_tokens_per_s=5123.4,
        requests_running=61.0,
        requests_waiting=3.0,
        kv_cache_usage_ratio=0.4321,
        in_flight=64,
        lag_ms=0.7,
        ttft_mean_ms=123.4,
        tpot_mean_ms=12.3,
        prefix_cache_hit_ratio=0.25,
        prompt_tokens=1e6,
        generation_tokens=1e6,
        preemptions=3.0,
    )


def _record(number: int, engine: str) -> TrialRecord:
    failure = Failure(FailureKind.CRASHED, "it crashed") if number % 7 == 0 else None
    return TrialRecord(
        run="r",
        number=number,
        attempt=0,
        state=TrialState.COMPLETED if failure is None else TrialState.FAILED,
        engine=engine,
        params={},
        config_id="",
        command=(),
        deploy_command=(),
        simulated=True,
        model="m",
        model_revision=None,
        seed=0,
        gpus=8,
        layout=ParallelLayout(),
        failure=failure,
        startup_s=60.0,
        warmup_s=10.0,
        measure_s=120.0,
        stop_s=5.0,
        flags=tuple(sorted(DISQUALIFYING)) if number % 5 == 0 else (),
    )


def timed_ms(work: Callable[[], bytes], repeats: int) -> dict[str, float]:
    """Median and longest of `repeats` runs."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1e3)
    return {"median_ms": round(statistics.median(found), 2), "longest_ms": round(max(found), 2)}


def read(url: str, accept: str) -> bytes:
    """One scrape."""
    asked = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        body: bytes = answer.read()
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=500)
    parser.add_argument("--running", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    exporter = study(options.finished, options.running)
    url = exporter.serve("127.0.0.1", 0)
    figures: dict[str, object] = {}
    medians = []
    for name, accept in _FORMATS.items():
        body = read(url, accept)
        took = timed_ms(lambda accept=accept: read(url, accept), options.repeats)  # type: ignore[misc]  # bound early
        medians.append(took["median_ms"])
        series = sum(not line.startswith(b"#") for line in body.splitlines())
        figures[name] = {**took, "series": series, "kilobytes": round(len(body) / 1e3, 1)}
    exporter.close()
    result = {
        "machine": platform.machine(),
        "finished_trials": options.finished,
        "running_trials": options.running,
        "repeats": options.repeats,
        "scrapes": figures,
        "goal_ms": GOAL_MS,
        "met": max(medians) < GOAL_MS,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
