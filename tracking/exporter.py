"""The driver's Prometheus metrics, `servetune_…`: base units, and a bounded number of series.

Only gauges of running trials carry a trial's number, and they go when it ends; what a finished
trial showed is in the record. Everything counts from the driver's start, so a resumed run starts
again from zero, which `rate` and `increase` allow for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from runtimes.failure import FailureKind
from runtimes.slo import Slo
from search.trial import TrialState
from tracking.live import LiveFigures
from tracking.metrics_server import MetricsServer
from tracking.records import TrialRecord
from tracking.run_data import Goal

PHASES = ("starting", "warming", "measuring", "stopping")
"""Phases of an attempt; their series exist from the start."""

RequestLatency: TypeAlias = tuple[float | None, float | None, float | None, bool]
"""One request: ttft, tpot and e2e in ms (None where it has none), and whether it succeeded."""

# vLLM's own boundaries where they are fine enough, finer ones where they are not.
_TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160),
)
_TPOT_S = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5),
)
_E2E_S = (
    *(0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2.5, 5, 10, 20, 30),
    *(60, 120, 240, 480, 960),
)
_PHASE_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600)
_SUGGEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Exporter:
    """Metrics of one study, and the server they are scraped from.

    Methods may be called from any thread while scrapes go on; none waits for one.

    Args:
        run, name, model, goals: identify the study in `servetune_study_info`.
        slo: its limits become histogram boundaries, so that attainment is exact.
        capacity_gpus: GPUs the study holds.
        version: servetune's own.
    """

    def __init__(
        self,
        *,
        run: str,
        name: str,
        model: str,
        goals: Sequence[Goal],
        slo: Slo,
        capacity_gpus: int,
        version: str,
    ) -> None:
        self._registry = _Registry()
        self._server: MetricsServer | None = None
        self._capacity_gpus = capacity_gpus
        self._held_gpus: dict[int, int] = {}
        # A figure that arrives late must not bring back the series of a trial that ended.
        self._lock = threading.Lock()
        families = _Families(self._registry)
        self._trials = _TrialMetrics(families)
        self._live = _LiveGauges(families)
        self._requests = _RequestMetrics(families, slo)
        self._gpus = _GpuMetrics(families)
        self._best = families.gauge(
            "best_objective_value",
            "Objectives of the best trial so far, each in its own unit.",
            "objective",
        )
        self._suggest = families.histogram(
            "suggest_duration", "Time the sampler took for one proposal.", "sampler", _SUGGEST_S
        )
        _show_limits(families, slo)
        objective = ", ".join(f"{goal.direction} {goal.name}" for goal in goals)
        families.info("build", "Version of servetune.", {"version": version})
        families.info(
            "study",
            "The study this driver runs.",
            {"run": run, "name": name, "model": model, "objective": objective},
        )
        self._held_changed()

    def serve(self, host: str, port: int) -> str:
        """Listen on `host`; port 0 takes any free one. Returns the URL of `/metrics`.

        Raises:
            UserError: nothing can listen there.
        """
        self.close()
        self._server = MetricsServer(host, port, self._render)
        return self._server.url

    def close(self) -> None:
        """Stop serving; the figures stay readable through `text`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def text(self) -> str:
        """All metrics as Prometheus text."""
        return generate_latest(self._registry).decode()

    def capacity(self, gpus: int) -> None:
        """The study holds `gpus` GPUs from now on."""
        with self._lock:
            self._capacity_gpus = gpus
            self._held_changed()

    def queued(self, count: int) -> None:
        """`count` trials are proposed and wait for devices."""
        self._trials.queued.set(count)

    def trial_started(self, number: int, engine: str, gpus: int) -> None:
        """An attempt of trial `number` holds `gpus` devices from now on."""
        with self._lock:
            self._held_gpus[number] = gpus
            self._live.gpus.labels(str(number), engine).set(gpus)
            self._held_changed()

    def phase_ended(self, phase: str, seconds: float) -> None:
        """An attempt spent `seconds` in `phase` (one of `PHASES`)."""
        self._trials.duration.labels(phase).observe(seconds)

    def live(self, figures: LiveFigures) -> None:
        """Show a running trial; figures that come after its end are passed over."""
        with self._lock:
            if figures.number in self._held_gpus:
                self._live.show(figures)

    def requests(self, engine: str, latencies: Iterable[RequestLatency]) -> None:
        """Count the measured requests of a stage that ended; about 10 µs each."""
        for latency in latencies:
            self._requests.observe(engine, latency)

    def trial_finished(self, record: TrialRecord) -> None:
        """Count an attempt's end and forget its own series."""
        self._trials.ended.labels(record.state.value).inc()
        if record.failure is not None:
            self._trials.failures.labels(record.failure.kind.value).inc()
        with self._lock:
            self._held_gpus.pop(record.number, None)
            self._live.forget(record.number)
            self._held_changed()

    def best(self, values: Mapping[str, float]) -> None:
        """Objective values of the best trial so far."""
        for objective, value in values.items():
            self._best.labels(objective).set(value)

    def suggested(self, sampler: str, seconds: float) -> None:
        """`sampler` took `seconds` for one proposal."""
        self._suggest.labels(sampler).observe(seconds)

    def withheld(self, *, foreign: int, quarantined: int) -> None:
        """GPUs that are not given to trials: others use them, or their memory stays in use."""
        self._gpus.now.labels("foreign").set(foreign)
        self._gpus.now.labels("quarantined").set(quarantined)

    def gpu_seconds(self, *, busy: float, idle: float) -> None:
        """Totals so far. A total below the last one is passed over: counters never fall."""
        with self._lock:
            self._gpus.raise_to("busy", busy)
            self._gpus.raise_to("idle", idle)

    def _held_changed(self) -> None:
        busy = sum(self._held_gpus.values())
        self._trials.running.set(len(self._held_gpus))
        self._gpus.now.labels("busy").set(busy)
        self._gpus.now.labels("idle").set(max(0, self._capacity_gpus - busy))

    def _render(self, accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Registry(CollectorRegistry):
    """A registry without `_created` series: nobody reads them and they double the counters."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [item for item in metric.samples if not item.name.endswith("_created")]
            yield metric


class _Families:
    """Makes metric families in one registry, each with its known series at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"servetune_{name}", meaning, labels, registry=self._registry)

    def counter(self, name: str, meaning: str, label: str, values: Iterable[str]) -> Counter:
        counter = Counter(f"servetune_{name}", meaning, [label], registry=self._registry)
        for value in values:
            counter.labels(value)
        return counter

    def histogram(
        self, name: str, meaning: str, label: str, bounds_s: Iterable[float]
    ) -> Histogram:
        return Histogram(
            f"servetune_{name}_seconds",
            meaning,
            [label],
            buckets=sorted({float(bound) for bound in bounds_s}),
            registry=self._registry,
        )

    def info(self, name: str, meaning: str, labels: Mapping[str, str]) -> None:
        self.gauge(f"{name}_info", meaning, *labels).labels(*labels.values()).set(1)


class _TrialMetrics:
    def __init__(self, families: _Families) -> None:
        finished = [state.value for state in TrialState if state.is_finished]
        kinds = [kind.value for kind in FailureKind]
        self.ended = families.counter(
            "trials", "Attempts of trials that ended, by state.", "state", finished
        )
        self.failures = families.counter(
            "trial_failures", "Attempts that ended with a failure, by its kind.", "kind", kinds
        )
        self.running = families.gauge("trials_running", "Trials that hold devices.")
        self.queued = families.gauge("trials_queued", "Trials that wait for devices.")
        self.duration = families.histogram(
            "trial_duration", "Time attempts spent in each phase.", "phase", _PHASE_S
        )
        for phase in PHASES:
            self.duration.labels(phase)


class _LiveGauges:
    """Series of running trials: the only ones that name a trial."""

    def __init__(self, families: _Families) -> None:
        self.gpus = families.gauge("trial_gpus", "GPUs a running trial holds.", "trial", "engine")
        self.progress = families.gauge(
            "trial_progress_ratio", "Requests done over requests planned of the stage.", "trial"
        )
        self.output_rate = families.gauge(
            "trial_output_tokens_per_second_per_gpu",
            "Output tokens per second and GPU over about the last second.",
            "trial",
        )
        self.running = families.gauge(
            "engine_requests_running", "Requests the engine works on.", "trial"
        )
        self.waiting = families.gauge(
            "engine_requests_waiting", "Requests that wait in the engine.", "trial"
        )
        self.kv_usage = families.gauge(
            "engine_kv_cache_usage_ratio", "Share of the KV cache in use.", "trial"
        )

    def show(self, figures: LiveFigures) -> None:
        trial = str(figures.number)
        if figures.planned:
            done = figures.completed + figures.failed
            self.progress.labels(trial).set(done / figures.planned)
        self.output_rate.labels(trial).set(figures.output_tokens_per_s_per_gpu)
        for gauge, value in (
            (self.running, figures.requests_running),
            (self.waiting, figures.requests_waiting),
            (self.kv_usage, figures.kv_cache_usage_ratio),
        ):
            if value is not None:
                gauge.labels(trial).set(value)

    def forget(self, number: int) -> None:
        for gauge in (
            *(self.gpus, self.progress, self.output_rate),
            *(self.running, self.waiting, self.kv_usage),
        ):
            gauge.remove_by_labels({"trial": str(number)})


class _RequestMetrics:
    def __init__(self, families: _Families, slo: Slo) -> None:
        def bounds_s(metric: str, usual_s: Sequence[float]) -> list[float]:
            limits = (limit for limit in slo.limits if limit.metric == metric)
            return [*usual_s, *(limit.limit_ms / 1e3 for limit in limits)]

        self.outcomes = families.counter(
            "requests", "Measured requests, by outcome.", "outcome", ("ok", "error")
        )
        self.ttft = families.histogram(
            "request_time_to_first_token",
            "First content chunk minus send.",
            "engine",
            bounds_s("ttft_ms", _TTFT_S),
        )
        self.tpot = families.histogram(
            "request_time_per_output_token",
            "Last minus first content, over output tokens less one.",
            "engine",
            bounds_s("tpot_ms", _TPOT_S),
        )
        self.e2e = families.histogram(
            "request_duration",
            "End of the stream minus send.",
            "engine",
            bounds_s("e2e_ms", _E2E_S),
        )

    def observe(self, engine: str, latency: RequestLatency) -> None:
        """Count one request; the times of a failed one say nothing about latency."""
        ttft_ms, tpot_ms, e2e_ms, ok = latency
        self.outcomes.labels("ok" if ok else "error").inc()
        if not ok:
            return
        for histogram, value_ms in (
            (self.ttft, ttft_ms),
            (self.tpot, tpot_ms),
            (self.e2e, e2e_ms),
        ):
            if value_ms is not None:
                histogram.labels(engine).observe(value_ms / 1e3)


class _GpuMetrics:
    def __init__(self, families: _Families) -> None:
        self._totals_s = {"busy": 0.0, "idle": 0.0}
        self.now = families.gauge("gpus", "GPUs the study holds, by what they do.", "state")
        for state in ("foreign", "quarantined"):
            self.now.labels(state)
        self._seconds = families.counter(
            "gpu_seconds",
            "GPU-seconds spent with a trial on the GPU (busy) and without (idle).",
            "state",
            self._totals_s,
        )

    def raise_to(self, state: str, total_s: float) -> None:
        grown_s = total_s - self._totals_s[state]
        if grown_s > 0:
            self._totals_s[state] = total_s
            self._seconds.labels(state).inc(grown_s)


def _show_limits(families: _Families, slo: Slo) -> None:
    gauge = families.gauge(
        "slo_limit_seconds", "Limits of the service-level objectives.", "metric", "statistic"
    )
    for limit in slo.limits:
        metric = limit.metric.removesuffix("_ms")
        gauge.labels(metric, limit.statistic).set(limit.limit_ms / 1e3)
