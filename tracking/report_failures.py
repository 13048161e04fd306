"""Failed attempts by kind and by cause: the report lists each with the end of its log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtimes.failure import Failure, FailureKind
from tracking.records import TrialRecord
from tracking.report_params import parameter_pairs
from tracking.words import printable

MAX_ATTEMPTS = 25
"""Attempts listed of one kind."""
MAX_LOG_CHARACTERS = 6_000
"""Of the end of a log; a hundred kinds of failure in full would still be small."""


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One failed attempt."""

    trial: int
    attempt: int
    engine: str
    params: tuple[tuple[str, str], ...]
    message: str
    remedy: str
    exit_words: str
    log_tail: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one kind: how many there are, and the first of them."""

    kind: str
    total: int
    rows: tuple[FailureRow, ...]


def failure_groups(trials: Iterable[TrialRecord]) -> list[FailureGroup]:
    """The most frequent kind first."""
    failed: dict[str, list[tuple[TrialRecord, Failure]]] = {}
    for trial in trials:
        if trial.failure is not None:
            kind = trial.failure.kind.value.replace("_", " ")
            failed.setdefault(kind, []).append((trial, trial.failure))
    groups = [
        FailureGroup(kind, len(found), tuple(_row(*pair) for pair in found[:MAX_ATTEMPTS]))
        for kind, found in failed.items()
    ]
    return sorted(groups, key=lambda group: (-group.total, group.kind))


@dataclass(frozen=True, slots=True)
class FailureCause:
    """Failures that are told and mended alike, and the trials that had them, each once."""

    kind: FailureKind
    message: str
    remedy: str
    trials: tuple[int, ...]


def failure_causes(trials: Iterable[TrialRecord]) -> list[FailureCause]:
    """The cause of most trials first, then in order of the trials."""
    failed: dict[tuple[FailureKind, str, str], dict[int, None]] = {}
    for trial in trials:
        if (failure := trial.failure) is not None:
            cause = (failure.kind, failure.message, failure.remedy)
            failed.setdefault(cause, {})[trial.number] = None
    causes = [FailureCause(*cause, tuple(numbers)) for cause, numbers in failed.items()]
    return sorted(causes, key=lambda cause: -len(cause.trials))


def _row(trial: TrialRecord, failure: Failure) -> FailureRow:
    return FailureRow(
        trial=trial.number,
        attempt=trial.attempt,
        engine=printable(trial.engine),
        params=parameter_pairs(trial.params),
        message=printable(failure.message),
        remedy=printable(failure.remedy),
        exit_words=_exit_words(failure.exit_code),
        log_tail=_end_of(printable(failure.log_tail)),
    )


def _end_of(log: str) -> str:
    if len(log) <= MAX_LOG_CHARACTERS:
        return log
    return f"… {len(log) - MAX_LOG_CHARACTERS:,} characters before\n{log[-MAX_LOG_CHARACTERS:]}"


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return ""
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
