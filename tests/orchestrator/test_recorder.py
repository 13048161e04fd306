"""What the sampler is told of stored rows: the same at the end of a trial and on every resume."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.recorder import told_outcome
from runtimes.failure import Failure, FailureKind
from search.trial import Cancelled, Completed, Failed, Infeasible, TrialState
from tests.tracking import run_samples
from tracking.records import DISQUALIFYING, TrialRecord


@pytest.fixture
def completed() -> TrialRecord:
    return next(row for row in run_samples.study().trials if row.state is TrialState.COMPLETED)


def test_a_measurement_is_told_with_its_objectives_and_violations(completed: TrialRecord) -> None:
    outcome = told_outcome(completed)
    assert isinstance(outcome, Completed)
    assert outcome.objectives == completed.objectives
    assert completed.measurement is not None
    assert list(outcome.violations.values()) == [v.violation for v in completed.measurement.slo]


@pytest.mark.parametrize("flag", sorted(DISQUALIFYING))
def test_a_measurement_that_is_not_comparable_teaches_nothing(
    completed: TrialRecord, flag: str
) -> None:
    outcome = told_outcome(replace(completed, flags=(flag,)))
    assert outcome == Cancelled(f"not comparable: {flag}")


def test_a_flag_that_only_informs_changes_nothing(completed: TrialRecord) -> None:
    assert isinstance(told_outcome(replace(completed, flags=("simulator_late",))), Completed)


def test_failures_and_infeasible_rows_are_told_as_such(completed: TrialRecord) -> None:
    failure = Failure(FailureKind.CRASHED, "it died")
    failed = replace(completed, state=TrialState.FAILED, failure=failure)
    assert told_outcome(failed) == Failed(failure)
    oom = Failure(FailureKind.OUT_OF_MEMORY, "too big")
    infeasible = replace(completed, state=TrialState.INFEASIBLE, failure=oom, reason="too big")
    assert told_outcome(infeasible) == Infeasible("too big", oom)
    cancelled = replace(completed, state=TrialState.CANCELLED, reason="SIGINT")
    assert told_outcome(cancelled) == Cancelled("SIGINT")
