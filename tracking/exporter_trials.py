"""Metrics of trials: what became of them, and the gauges of those that run."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable

from runtimes.failure import FailureKind
from search.perfmodel.expected import FIGURES, measured_figures
from search.trial import TrialState
from tracking.exporter_families import Families, of_trial
from tracking.live import LiveFigures
from tracking.records import FLAGS, TrialRecord

PHASES = ("starting", "warming", "measuring", "stopping")
"""Phases of an attempt, in their order; series of them exist from the start."""

_SERVES = {"starting": 0, "warming": 1, "measuring": 1, "stopping": 0}
_PHASE_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600)
_ERROR_RATIO = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
_LIVE: tuple[tuple[str, str, Callable[[LiveFigures], float | None]], ...] = (
    (
        "trial_progress_ratio",
        "Requests done over requests planned of the stage.",
        lambda live: (live.completed + live.failed) / live.planned if live.planned else None,
    ),
    (
        "trial_output_tokens_per_second_per_gpu",
        "Output tokens per second and GPU over about the last second.",
        lambda live: live.output_tokens_per_s_per_gpu,
    ),
    (
        "trial_requests_in_flight",
        "Requests that were sent and have not ended.",
        lambda live: live.in_flight,
    ),
    (
        "trial_time_to_first_token_seconds",
        "Mean of the requests that ended over about the last second.",
        lambda live: _seconds(live.ttft_mean_ms),
    ),
    (
        "trial_time_per_output_token_seconds",
        "Mean of the requests that ended over about the last second.",
        lambda live: _seconds(live.tpot_mean_ms),
    ),
    (
        "engine_requests_running",
        "Requests the engine works on.",
        lambda live: live.requests_running,
    ),
    (
        "engine_requests_waiting",
        "Requests that wait in the engine.",
        lambda live: live.requests_waiting,
    ),
    (
        "engine_kv_cache_usage_ratio",
        "Share of the KV cache in use.",
        lambda live: live.kv_cache_usage_ratio,
    ),
    (
        "engine_prefix_cache_hit_ratio",
        "Tokens found in the prefix cache over those looked up, since the stage began.",
        lambda live: live.prefix_cache_hit_ratio,
    ),
)


class EndedTrials:
    """What became of trials, and how far their predictions were off."""

    def __init__(self, families: Families) -> None:
        finished = [state.value for state in TrialState if state.is_finished]
        kinds = [kind.value for kind in FailureKind]
        self._ended = families.counter(
            "trials", "Attempts of trials that ended, by state.", "state", finished
        )
        self._failures = families.counter(
            "trial_failures", "Attempts that ended with a failure, by its kind.", "kind", kinds
        )
        self._flagged = families.counter(
            "trials_flagged", "Attempts that ended with a flag, by flag.", "flag", sorted(FLAGS)
        )
        self._duration = families.histogram(
            "trial_duration_seconds",
            "Time in each phase of attempts that ended.",
            "phase",
            _PHASE_S,
            PHASES,
        )
        self._error = families.histogram(
            "prediction_error_ratio",
            "How far what was predicted of a completed trial was off what was measured.",
            "figure",
            _ERROR_RATIO,
            [_figure(name) for name in FIGURES],
        )

    def add(self, record: TrialRecord) -> None:
        exemplar = of_trial(record.number)
        self._ended.labels(record.state.value).inc(exemplar=exemplar)
        if record.failure is not None:
            self._failures.labels(record.failure.kind.value).inc(exemplar=exemplar)
        for flag in set(record.flags):
            self._flagged.labels(flag).inc(exemplar=exemplar)
        spent_s = (record.startup_s, record.warmup_s, record.measure_s, record.stop_s)
        for phase, seconds in zip(PHASES, spent_s, strict=True):
            if seconds is not None:
                self._duration.labels(phase).observe(seconds)
        if record.state is TrialState.COMPLETED and record.measurement and record.predicted:
            predicted = record.predicted.finite()
            for name, measured in measured_figures(record.measurement).items():
                if name in predicted:
                    error = abs(predicted[name] / measured - 1)
                    self._error.labels(_figure(name)).observe(error, exemplar)


class RunningTrials:
    """Series of running trials: the only ones that name a trial."""

    def __init__(self, families: Families) -> None:
        self._phases: dict[int, tuple[str, str]] = {}
        self.running = families.gauge("trials_running", "Trials that hold devices.")
        self.queued = families.gauge("trials_queued", "Trials that wait for devices.")
        self._by_phase = families.gauge(
            "trials_by_phase", "Running trials, by the phase they are in.", "phase"
        )
        self._phase = families.gauge(
            "trial_phase", "1 for the phase a running trial is in.", "trial", "phase"
        )
        self._up = families.gauge(
            "engine_up",
            "1 while the trial's engine is ready, 0 before and after.",
            "trial",
            "engine",
        )
        self._gpus = families.gauge("trial_gpus", "GPUs a running trial holds.", "trial", "engine")
        self._live = [
            (families.gauge(name, meaning, "trial"), value) for name, meaning, value in _LIVE
        ]
        self._count()

    def engine(self, number: int) -> str | None:
        """The engine of a running trial; None of one that does not run."""
        known = self._phases.get(number)
        return None if known is None else known[0]

    def start(self, number: int, engine: str, gpus: int) -> None:
        self._gpus.labels(str(number), engine).set(gpus)
        self._phases[number] = (engine, "")
        self.enter(number, PHASES[0])

    def enter(self, number: int, phase: str) -> None:
        """Show the phase of a running trial; its load's figures go when it measures no more."""
        known = self._phases.get(number)
        if known is None:
            return
        engine, before = known
        trial = str(number)
        if phase != before:
            self._forget_figures(trial)
            self._phase.remove_by_labels({"trial": trial})
        self._phases[number] = (engine, phase)
        self._phase.labels(trial, phase).set(1)
        self._up.labels(trial, engine).set(_SERVES[phase])
        self._count()

    def show(self, figures: LiveFigures) -> None:
        trial = str(figures.number)
        for gauge, get in self._live:
            value = get(figures)
            if value is None:
                gauge.remove_by_labels({"trial": trial})
            else:
                gauge.labels(trial).set(value)

    def end(self, number: int) -> None:
        self._phases.pop(number, None)
        trial = str(number)
        self._forget_figures(trial)
        for gauge in (self._phase, self._up, self._gpus):
            gauge.remove_by_labels({"trial": trial})
        self._count()

    def _forget_figures(self, trial: str) -> None:
        for gauge, _ in self._live:
            gauge.remove_by_labels({"trial": trial})

    def _count(self) -> None:
        self.running.set(len(self._phases))
        now = Count(phase for _, phase in self._phases.values())
        for phase in PHASES:
            self._by_phase.labels(phase).set(now[phase])


def _figure(name: str) -> str:
    return name.removesuffix("_ms")


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1e3
