"""Where a run stands after its driver is gone, from what it left: the store wins."""

from __future__ import annotations

import pytest

from orchestrator.placement import Room
from orchestrator.scheduler import Restored, Waiting
from orchestrator.spec import Experiment
from orchestrator.standing import Standing, fold
from orchestrator.wiring import Study, wire
from runtimes.failure import Failure, FailureKind
from search.trial import Params, TrialState
from tests.tracking.run_samples import trial_record
from tracking.events import (
    BundleTaken,
    Event,
    Finished,
    Launched,
    PhaseChanged,
    Proposed,
    RunEnded,
    RunStarted,
)
from tracking.records import TrialRecord


def proposed(number: int, tp: int = 1, *, baseline: bool = False) -> Proposed:
    return Proposed(number, "vllm", {"tp": tp}, f"config-{number}", baseline=baseline)


def journal(*events: Event, start_s: float = 1000.0) -> list[tuple[float, Event]]:
    """The events, one a second."""
    return [(start_s + index, event) for index, event in enumerate(events)]


STARTED = RunStarted("run", "0.1.0", resumed=False)


@pytest.fixture
def study() -> Study:
    return wire(
        Experiment.from_dict(
            {
                "name": "n",
                "model": "acme/model",
                "engines": {"vllm": {}},
                "parallel": {"tp": [1, 2, 4]},
                "cluster": {"kind": "local", "simulated_gpus": 4},
            }
        )
    )


def test_a_run_that_left_nothing_starts_from_the_beginning(study: Study) -> None:
    assert fold([], []) == Standing()
    assert fold([], []).restored(study) == Restored()


def test_what_has_a_row_is_finished_whether_or_not_the_journal_says_so(study: Study) -> None:
    done, unsaid = trial_record(0), trial_record(1)
    events = journal(STARTED, proposed(0), proposed(1), Finished(0, 0, "completed"))
    standing = fold(events, [unsaid, done])
    assert standing.finished == {0: done, 1: unsaid}
    assert standing.restored(study).waiting == ()
    assert standing.restored(study).next_number == 2


def test_what_has_no_row_is_not_finished_whatever_the_journal_says(study: Study) -> None:
    events = journal(STARTED, proposed(0, 2), Finished(0, 0, "completed"))
    standing = fold(events, [])
    assert standing.finished == {}
    assert standing.restored(study).waiting == (Waiting(0, Params("vllm", {"tp": 2}), 2, 0),)


def test_an_attempt_that_was_killed_with_its_driver_runs_again_as_a_further_one(
    study: Study,
) -> None:
    events = journal(
        STARTED,
        proposed(0, 1, baseline=True),
        proposed(1, 4),
        proposed(2, 2),
        Launched(1, 0, "bundle-0", "node", ["0", "1", "2", "3"]),
        PhaseChanged(1, 0, "measuring", [7]),
    )
    restored = fold(events, [trial_record(0)]).restored(study)
    assert restored.waiting == (
        Waiting(1, Params("vllm", {"tp": 4}), 4, attempt=1),
        Waiting(2, Params("vllm", {"tp": 2}), 2, attempt=0),
    )
    assert restored.next_number == 3


@pytest.mark.parametrize(
    "state", [TrialState.COMPLETED, TrialState.INFEASIBLE, TrialState.PRUNED, TrialState.FAILED]
)
def test_every_end_but_a_cancellation_stands(state: TrialState) -> None:
    record = trial_record(0, state=state)
    assert fold(journal(STARTED, proposed(0)), [record]).finished == {0: record}


def test_a_cancelled_trial_runs_again_as_a_further_attempt(study: Study) -> None:
    events = journal(STARTED, proposed(0, 2))
    standing = fold(events, [trial_record(0, state=TrialState.CANCELLED, attempt=1)])
    assert standing.finished == {}
    again = Waiting(0, Params("vllm", {"tp": 2}), 2, attempt=2, failures=0)
    assert standing.restored(study).waiting == (again,)


def lost(number: int, attempt: int) -> TrialRecord:
    failure = Failure(FailureKind.NODE_LOST, "its actor died")
    return trial_record(number, state=TrialState.FAILED, attempt=attempt, failure=failure)


@pytest.mark.parametrize("said", [True, False], ids=["journalled", "on-disk-only"])
def test_a_failure_that_another_attempt_may_not_have_is_retried(study: Study, said: bool) -> None:
    events = journal(STARTED, proposed(0))
    if said:
        events += journal(Finished(0, 0, "failed", retry=True), start_s=2000.0)
    standing = fold(events, [lost(0, 0)])
    assert standing.finished == {}
    again = Waiting(0, Params("vllm", {"tp": 1}), 1, attempt=1, failures=1)
    assert standing.restored(study).waiting == (again,)


def test_failures_are_retried_as_often_as_the_study_retries() -> None:
    events, records = journal(STARTED, proposed(0)), [lost(0, 0), lost(0, 1)]
    assert fold(events, records).finished == {0: records[1]}
    assert fold(events, records, retries=2).finished == {}
    assert fold(events, records[:1], retries=0).finished == {0: records[0]}


def test_a_cancellation_between_failures_is_none_of_them() -> None:
    records = [trial_record(0, state=TrialState.CANCELLED), lost(0, 1)]
    standing = fold(journal(STARTED, proposed(0)), records)
    assert standing.finished == {}
    assert (standing.attempts, standing.failures) == ({0: 2}, {0: 1})


def test_the_last_attempt_decides() -> None:
    events = journal(STARTED, proposed(0), Finished(0, 0, "failed", retry=True))
    last = trial_record(0, attempt=1)
    standing = fold(events, [last, lost(0, 0)])
    assert standing.finished == {0: last}
    assert standing.attempts == {0: 2}


def test_proposals_keep_the_order_of_the_samplers_answers() -> None:
    events = journal(STARTED, proposed(0), proposed(2), proposed(1))
    assert [proposal.number for proposal in fold(events, []).proposed] == [0, 2, 1]


def test_gpu_seconds_are_those_of_every_attempt(study: Study) -> None:
    first = lost(0, 0)
    records = [first, trial_record(0, attempt=1), trial_record(1, gpus=2)]
    assert len({record.gpu_seconds for record in records}) > 1
    total = sum(record.gpu_seconds for record in records)
    assert total > 0
    assert fold([], records).restored(study).gpu_seconds == total


def test_gpu_seconds_of_an_attempt_that_was_killed_count_until_its_driver_fell_silent() -> None:
    events = [
        *journal(STARTED, proposed(0), Launched(0, 0, "b", "node", ["0", "1"]), start_s=1000.0),
        *journal(proposed(1), proposed(2), start_s=1010.0),
        *journal(STARTED, start_s=9000.0),
    ]
    assert fold(events, []).gpu_seconds == 2 * (1011.0 - 1002.0)
    assert fold(events, [trial_record(0, gpus=2, seconds=5.0)]).gpu_seconds == 10.0


def test_the_bundles_of_every_driver_are_remembered(study: Study) -> None:
    events = [
        *journal(STARTED, BundleTaken("a", "node", "H100", ["0", "1", "2", "3"])),
        *journal(STARTED, BundleTaken("a", "node", "H100", ["0"], ["slow"]), start_s=5000.0),
    ]
    standing = fold(events, [])
    assert standing.run == "run"
    assert standing.restored(study).rooms == (Room(4), Room(1, frozenset({"slow"})))


def test_elapsed_time_is_that_of_drivers_not_of_the_pauses_between_them() -> None:
    taken = BundleTaken("bundle-0", "node", "H100", ["0"])
    events = [
        *journal(STARTED, taken, proposed(0), start_s=1000.0),
        *journal(STARTED, taken, RunEnded("stopped by SIGINT"), start_s=5000.0),
        *journal(STARTED, start_s=9000.0),
    ]
    assert fold(events, []).elapsed_s == 2.0 + 2.0


def test_a_journal_that_lost_everything_loses_no_row() -> None:
    rows = [trial_record(0), trial_record(3)]
    standing = fold([], rows)
    assert standing.finished == {0: rows[0], 3: rows[1]}
    assert [proposal.number for proposal in standing.proposed] == [0, 3]
    assert standing.attempts == {0: 1, 3: 1}
