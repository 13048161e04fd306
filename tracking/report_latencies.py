"""The latencies of a stage as rows of text, from the send and from the schedule."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.measurement import Distribution
from tracking.records import StageRecord
from tracking.report_stages import shown_stage, shown_trial
from tracking.run_data import RunData
from tracking.words import figure

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")
_LATENCIES = (
    ("TTFT", "ttft_ms"),
    ("TTFT from the schedule", "ttft_scheduled_ms"),
    ("TPOT", "tpot_ms"),
    ("ITL", "itl_ms"),
    ("E2E", "e2e_ms"),
    ("E2E from the schedule", "e2e_scheduled_ms"),
)


@dataclass(frozen=True, slots=True)
class LatenciesView:
    """The latencies of the stage that stands for one trial.

    Attributes:
        rows: name of the latency, then a figure for each of `STATISTICS`.
    """

    trial: int
    stage: int
    open_loop: bool
    rows: tuple[tuple[str, ...], ...]


def latencies_view(data: RunData) -> LatenciesView | None:
    """Of the best trial, or the one that is shown instead; None where no request completed."""
    trial = shown_trial(data)
    stage = shown_stage(data, trial) if trial is not None else None
    if stage is None or not stage.measurement.requests_completed:
        return None
    return LatenciesView(stage.number, stage.stage, is_open(stage), latency_rows(stage))


def latency_rows(stage: StageRecord) -> tuple[tuple[str, ...], ...]:
    """A row a latency, in ms; those from the schedule only where they can differ: open loops."""
    shown = [
        (words, name) for words, name in _LATENCIES if is_open(stage) or "scheduled" not in name
    ]
    return tuple((words, *_figures(getattr(stage.measurement, name))) for words, name in shown)


def is_open(stage: StageRecord) -> bool:
    """Whether the load sent at times of its own; a closed loop says how much of it was held."""
    health, measured = stage.measurement.client, stage.measurement
    held = health is not None and health.held_ratio is not None
    known = measured.ttft_scheduled_ms is not None or measured.e2e_scheduled_ms is not None
    return known and not held and stage.load != ConcurrencyLoad.kind


def _figures(latency: Distribution | None) -> tuple[str, ...]:
    return tuple(
        figure(None if latency is None else getattr(latency, statistic)) for statistic in STATISTICS
    )
