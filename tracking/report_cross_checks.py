"""What another load generator found beside our own client, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.peers.command import figures_of
from tracking.records import StageRecord
from tracking.words import figure, printable

SHOWN = (
    ("requests/s", "request_throughput"),
    ("output tokens/s", "output_throughput"),
    ("TTFT mean ms", "ttft_mean_ms"),
    ("TTFT p99 ms", "ttft_p99_ms"),
    ("TPOT mean ms", "tpot_mean_ms"),
    ("TPOT p99 ms", "tpot_p99_ms"),
    ("ITL mean ms", "itl_mean_ms"),
    ("E2E mean ms", "e2e_mean_ms"),
)
"""Metrics that are shown: in words, and the name of the figure."""


@dataclass(frozen=True, slots=True)
class CrossCheckView:
    """The cross-check of one stage.

    Attributes:
        trial: its number.
        note: which load generator it was, and what to know of its figures or why there are none.
        rows: metric, our figure, its figure, for each of `SHOWN`; text, a dash where one has
            none. Empty where the other has none at all.
    """

    trial: int
    note: str
    rows: tuple[tuple[str, str, str], ...]


def cross_checks(stages: Sequence[StageRecord]) -> list[CrossCheckView]:
    """One for each stage that another load generator was asked to repeat, in the given order."""
    return [
        CrossCheckView(stage.number, printable(stage.cross_check_note), _rows(stage))
        for stage in stages
        if stage.cross_check_note
    ]


def _rows(stage: StageRecord) -> tuple[tuple[str, str, str], ...]:
    ours, theirs = figures_of(stage.measurement), stage.cross_check
    if not theirs:
        return ()
    return tuple((words, figure(ours.get(name)), figure(theirs.get(name))) for words, name in SHOWN)
