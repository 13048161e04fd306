"""Metrics of the load: its requests, the engines' counters, the generator's own lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtimes.request_counts import RequestCounts, bucket_bounds
from runtimes.slo import Slo
from tracking.exporter_families import Families, of_trial
from tracking.live import LiveFigures
from tracking.records import StageRecord

_LAG_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_HISTOGRAMS = {
    "ttft_ms": ("request_time_to_first_token_seconds", "First content chunk minus send."),
    "itl_ms": (
        "request_inter_token_latency_seconds",
        "Gaps between content chunks, of all requests.",
    ),
    "tpot_ms": (
        "request_time_per_output_token_seconds",
        "Last minus first content, over output tokens less one.",
    ),
    "e2e_ms": ("request_duration_seconds", "End of the stream minus send."),
    "input_tokens": ("request_input_tokens", "Prompt tokens, as the engine counts them."),
    "output_tokens": ("request_output_tokens", "Output tokens, as the engine counts them."),
}
_COUNTERS = {
    "prompt_tokens": "Prompt tokens the engines took in measured stages.",
    "generation_tokens": "Tokens the engines generated in measured stages.",
    "preemptions": "Requests the engines put back in measured stages to make room.",
}


class RequestMetrics:
    """Requests of measured stages, counted when their stage ends."""

    def __init__(self, families: Families, slo: Slo, engines: Sequence[str]) -> None:
        self._outcomes = families.counter(
            "requests", "Measured requests, by outcome.", "outcome", ("ok", "error")
        )
        bounds = bucket_bounds(slo)
        self._histograms = {
            name: families.counted_histogram(metric, meaning, "engine", bounds[name], engines)
            for name, (metric, meaning) in _HISTOGRAMS.items()
        }
        limits = [str(limit) for limit in slo.request_limits().values()]
        self._evaluated = families.counter(
            "request_slo_evaluated", "Measured requests held against a limit.", "slo", limits
        )
        self._met = families.counter(
            "request_slo_met", "Measured requests that met the limit.", "slo", limits
        )

    def add(self, number: int, engine: str, counts: RequestCounts) -> None:
        exemplar = of_trial(number)
        for outcome, count in (("ok", counts.completed), ("error", counts.failed)):
            if count:
                self._outcomes.labels(outcome).inc(count, exemplar)
        for name, histogram in self._histograms.items():
            histogram.add(engine, counts.values[name], exemplar)
        for limit in counts.limits:
            self._evaluated.labels(limit.limit).inc(limit.evaluated)
            self._met.labels(limit.limit).inc(limit.met)


@dataclass(slots=True)
class _StageSoFar:
    """What live figures have shown of the stage that a trial is in."""

    attempt: int
    stage: int
    first: dict[str, float] = field(default_factory=dict)
    shown: dict[str, float] = field(default_factory=dict)
    scrape_errors: int = 0


class EngineMetrics:
    """Growth of the engines' counters in measured stages, and how the load generator kept up.

    Live figures show a stage's growth while it runs; its record, when it ends, brings it up to
    `counters_after - counters_before`. So the totals are those of the record, and of a stage whose
    engine did not live to its end, what was shown by then.
    """

    def __init__(self, families: Families, engines: Sequence[str]) -> None:
        self._stages: dict[int, _StageSoFar] = {}
        self._counters = {
            name: families.counter(f"engine_{name}", meaning, "engine", engines)
            for name, meaning in _COUNTERS.items()
        }
        self._lag = families.plain_histogram(
            "load_generator_lag_seconds",
            "The longest that a timer of the load generator ran late in about each second.",
            _LAG_S,
        )
        self._scrape_errors = families.plain_counter(
            "scrape_errors", "Scrapes of engines in measured stages that brought nothing."
        )

    def show(self, engine: str, figures: LiveFigures) -> None:
        if figures.lag_ms is not None:
            self._lag.observe(figures.lag_ms / 1e3, of_trial(figures.number))
        so_far = self._of(figures.number, figures.attempt, figures.stage)
        self._scrape_errors.inc(max(0, figures.scrape_errors - so_far.scrape_errors))
        so_far.scrape_errors = figures.scrape_errors
        for name in _COUNTERS:
            value: float | None = getattr(figures, name)
            if value is not None:
                grown = value - so_far.first.setdefault(name, value)
                self._raise(so_far, name, engine, grown)

    def stage_ended(self, engine: str, record: StageRecord) -> None:
        so_far = self._of(record.number, record.attempt, record.stage)
        before, after = record.counters_before, record.counters_after
        for name in _COUNTERS:
            if grown := _grown(before, after, f"{name}_total"):
                self._raise(so_far, name, engine, grown)

    def forget(self, number: int) -> None:
        self._stages.pop(number, None)

    def _raise(self, so_far: _StageSoFar, name: str, engine: str, grown: float) -> None:
        more = grown - so_far.shown.get(name, 0.0)
        if more > 0:
            so_far.shown[name] = grown
            self._counters[name].labels(engine).inc(more)

    def _of(self, number: int, attempt: int, stage: int) -> _StageSoFar:
        so_far = self._stages.get(number)
        if so_far is None or (so_far.attempt, so_far.stage) != (attempt, stage):
            so_far = self._stages[number] = _StageSoFar(attempt, stage)
        return so_far


def _grown(before: Mapping[str, float], after: Mapping[str, float], counter: str) -> float:
    if counter not in before or counter not in after:
        return 0.0
    return after[counter] - before[counter]
