"""The driver's Prometheus metrics, `servetune_…`: base units, and a bounded number of series.

Only gauges of running trials carry a trial's number, and they go when it ends; what a finished
trial showed is in the record. Counts name the trial they come from in an exemplar, which
OpenMetrics has and the plain text does not. Everything counts from the driver's start, so a
resumed run starts again from zero, which `rate` and `increase` allow for.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder

from runtimes.request_counts import RequestCounts
from runtimes.slo import Slo
from tracking.exporter_families import Families, Registry
from tracking.exporter_load import EngineMetrics, RequestMetrics
from tracking.exporter_trials import PHASES, EndedTrials, RunningTrials
from tracking.live import LiveFigures
from tracking.metrics_server import MetricsServer
from tracking.records import StageRecord, TrialRecord
from tracking.run_data import Goal

__all__ = ["PHASES", "Exporter"]

_POLL_S = 0.1
_SUGGEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Exporter:
    """Metrics of one study, and the server they are scraped from.

    Methods may be called from any thread while scrapes go on; none waits for one.

    Args:
        run, name, model, goals, sampler: identify the study in `servetune_study_info`.
        engines: those of the study; their series exist from the start.
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
        sampler: str = "",
        engines: Sequence[str] = (),
    ) -> None:
        self._registry = Registry()
        self._server: MetricsServer | None = None
        self._capacity_gpus = capacity_gpus
        self._held_gpus: dict[int, int] = {}
        self._figures, self._targets = _Page(), _Page()
        # A figure that arrives late must not bring back the series of a trial that ended.
        self._lock = threading.Lock()
        families = Families(self._registry)
        self._ended = EndedTrials(families)
        self._running = RunningTrials(families)
        self._requests = RequestMetrics(families, slo, engines)
        self._engines = EngineMetrics(families, engines)
        self._gpus = _GpuMetrics(families)
        self._study = _StudyMetrics(families, [sampler] if sampler else [])
        _show_limits(families, slo)
        objective = ", ".join(f"{goal.direction} {goal.name}" for goal in goals)
        families.info("build", "Version of servetune.", {"version": version})
        families.info(
            "study",
            "The study this driver runs.",
            {"run": run, "name": name, "model": model, "objective": objective, "sampler": sampler},
        )
        self._held_changed()

    def serve(self, host: str, port: int, *, targets: Callable[[], str] | None = None) -> str:
        """Listen on `host`; port 0 takes any free one. Returns the URL of `/metrics`.

        `targets` gives what `/sd` answers, a document of Prometheus' HTTP service discovery;
        without it there is no such page.

        Raises:
            UserError: nothing can listen there.
        """
        self.close()
        pages = {"/metrics": self._render}
        if targets is not None:
            pages["/sd"] = lambda accept: self._discovered(targets)
        self._server = MetricsServer(host, port, pages)
        return self._server.url

    def linger(self, most_s: float, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Go on serving until whoever scrapes has fetched the last figures and the last targets.

        Who fetched a page within the last `most_s` seconds is taken to come again within as many;
        where nobody did, this returns at once, and soon after `stopped` says so.

        Returns:
            Whether figures were fetched after this was called.
        """
        until_s = time.monotonic() + most_s
        # A list: both are asked before the wait begins. Prometheus keeps its targets when it
        # cannot fetch the list any more, so an engine in its last one would stay for good.
        awaited = [page for page in (self._figures, self._targets) if page.expected(most_s)]
        for page in awaited:
            while not page.fetched.wait(_POLL_S):
                if stopped() or time.monotonic() > until_s:
                    return self._figures.fetched.is_set()
        return self._figures.fetched.is_set()

    def close(self) -> None:
        """Stop serving; the figures stay readable through `text`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def text(self) -> str:
        """All metrics as Prometheus text."""
        return generate_latest(self._registry).decode()

    def planned(self, trials: int | None) -> None:
        """The study is to run so many trials; None where that is not known."""
        self._study.planned.set(trials)

    def capacity(self, gpus: int) -> None:
        """The study holds `gpus` GPUs from now on."""
        with self._lock:
            self._capacity_gpus = gpus
            self._held_changed()

    def queued(self, count: int) -> None:
        """`count` trials are proposed and wait for devices."""
        self._running.queued.set(count)

    def trial_started(self, number: int, engine: str, gpus: int) -> None:
        """An attempt of trial `number` holds `gpus` devices from now on."""
        with self._lock:
            self._held_gpus[number] = gpus
            self._running.start(number, engine, gpus)
            self._held_changed()

    def phase_entered(self, number: int, phase: str) -> None:
        """The attempt of a running trial is in `phase` (one of `PHASES`)."""
        with self._lock:
            self._running.enter(number, phase)

    def live(self, figures: LiveFigures) -> None:
        """Show a running trial; figures that come after its end are passed over."""
        with self._lock:
            engine = self._running.engine(figures.number)
            if engine is not None:
                self._running.show(figures)
                self._engines.show(engine, figures)

    def requests(self, number: int, engine: str, counts: RequestCounts) -> None:
        """Count the measured requests of a stage of trial `number` that ended."""
        self._requests.add(number, engine, counts)
        self._study.progressed()

    def stage_ended(self, engine: str, record: StageRecord) -> None:
        """Count what the engine's own counters say of a stage that was measured."""
        with self._lock:
            self._engines.stage_ended(engine, record)

    def trial_finished(self, record: TrialRecord) -> None:
        """Count an attempt's end and forget its own series."""
        self._ended.add(record)
        self._study.progressed()
        with self._lock:
            self._held_gpus.pop(record.number, None)
            self._running.end(record.number)
            self._engines.forget(record.number)
            self._held_changed()

    def best(self, values: Mapping[str, float]) -> None:
        """Objective values of the best trial so far."""
        for objective, value in values.items():
            self._study.best.labels(objective).set(value)

    def pareto(self, trials: int) -> None:
        """So many trials are beaten by no other one in all objectives."""
        self._study.pareto.set(trials)

    def suggested(self, sampler: str, seconds: float) -> None:
        """`sampler` took `seconds` for one proposal."""
        self._study.suggest.labels(sampler).observe(seconds)

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
        self._gpus.now.labels("busy").set(busy)
        self._gpus.now.labels("idle").set(max(0, self._capacity_gpus - busy))

    def _render(self, accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        body = encode(self._registry)
        self._figures.fetch()
        return body, content_type

    def _discovered(self, targets: Callable[[], str]) -> tuple[bytes, str]:
        body = targets().encode()
        self._targets.fetch()
        return body, "application/json"


class _Page:
    """When a page was last fetched.

    Attributes:
        fetched: set by the first fetch after `expected`.
    """

    def __init__(self) -> None:
        self.fetched = threading.Event()
        self._fetched_s = -math.inf

    def fetch(self) -> None:
        self._fetched_s = time.monotonic()
        self.fetched.set()

    def expected(self, within_s: float) -> bool:
        """Whether it was fetched in the last `within_s` seconds."""
        self.fetched.clear()
        return time.monotonic() - self._fetched_s <= within_s


class _StudyMetrics:
    def __init__(self, families: Families, samplers: Sequence[str]) -> None:
        self.planned = families.known_gauge("trials_planned", "Trials the study is to run.")
        self.best = families.gauge(
            "best_objective_value",
            "Objectives of the best trial so far, each in its own unit.",
            "objective",
        )
        self.pareto = families.gauge(
            "pareto_trials", "Trials that no other one beats in every objective."
        )
        self.suggest = families.histogram(
            "suggest_duration_seconds",
            "Time the sampler took for one proposal.",
            "sampler",
            _SUGGEST_S,
            samplers,
        )
        self._progress = families.gauge(
            "last_progress_timestamp_seconds",
            "When last an attempt ended or a stage was measured, or the driver started.",
        )
        self.progressed()

    def progressed(self) -> None:
        self._progress.set(time.time())


class _GpuMetrics:
    def __init__(self, families: Families) -> None:
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


def _show_limits(families: Families, slo: Slo) -> None:
    gauge = families.gauge(
        "slo_limit_seconds", "Limits of the service-level objectives.", "metric", "statistic"
    )
    for limit in slo.limits:
        metric = limit.metric.removesuffix("_ms")
        gauge.labels(metric, limit.statistic).set(limit.limit_ms / 1e3)
