"""Rows of a terminal, in the words that reports use too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtimes.json_types import Json
from search.goals import Goal
from search.trial import LAYOUT_NAMES, LAYOUT_PRESET, PRECISION_PRESET
from tracking.records import TrialRecord
from tracking.words import figure, objective_value, objective_words, parameter


def states(counts: Mapping[str, int], unread: int = 0) -> str:
    """`3 completed, 1 failed, 2 unreadable`: trials by state; empty where there is none."""
    shown = [f"{number} {state}" for state, number in sorted(counts.items())]
    return ", ".join([*shown, f"{unread} unreadable"] if unread else shown)


def parameters(values: Mapping[str, Json]) -> str:
    """`tp=2 max-num-seqs=64`; degrees of 1 and presets that are not taken are left out."""
    shown = [
        f"{name}={parameter(value)}"
        for name, value in values.items()
        if not (name in LAYOUT_NAMES and value == 1)
        and not (name in (LAYOUT_PRESET, PRECISION_PRESET) and value is None)
    ]
    return " ".join(shown) or "defaults"


def objectives(goals: Sequence[Goal], trial: TrialRecord) -> str:
    """The trial's objectives with their units, the deciding one first."""
    return ", ".join(
        f"{objective_words(goal.name)} {objective_value(goal.name, trial.objectives[goal.name])}"
        for goal in goals
        if goal.name in trial.objectives
    )


def latencies(trial: TrialRecord) -> str:
    """`TTFT p99 312 ms, TPOT p99 24.1 ms`, of what was measured."""
    measurement = trial.measurement
    if measurement is None:
        return ""
    measured = (("TTFT", measurement.ttft_ms), ("TPOT", measurement.tpot_ms))
    return ", ".join(
        f"{name} p99 {figure(distribution.p99)} ms"
        for name, distribution in measured
        if distribution is not None
    )


def withheld(why: str) -> str:
    """What becomes of a device that is not free: `foreign` or `dirty`."""
    if why == "foreign":
        return "not used until it is free"
    return "quarantined, not used again in this run"
