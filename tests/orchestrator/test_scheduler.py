"""The scheduler as plain code: events in, actions out."""

from __future__ import annotations

import pytest

from orchestrator.placement import Room
from orchestrator.scheduler import (
    Answered,
    Ask,
    BundleGone,
    BundleReady,
    Cancel,
    End,
    Launch,
    Limits,
    Record,
    Restored,
    Scheduler,
    StopAsked,
    Tick,
)
from runtimes.failure import FailureKind
from runtimes.plan import Allocation
from search.trial import Cancelled, Failed, Infeasible
from tests.orchestrator.schedules import (
    DONE,
    STOPPED,
    Study,
    failed,
    launched,
    node,
    recorded,
    trial,
)

# --- asking -------------------------------------------------------------------------------------


def test_nothing_is_asked_before_all_bundles_are_known() -> None:
    scheduler = Scheduler(Limits())
    assert scheduler.handle(Tick(), 0.0) == []
    assert scheduler.handle(BundleReady(node("a", 2)), 0.0) == []
    assert scheduler.handle(BundleReady(node("b", 8)), 0.0) == []
    assert scheduler.handle(Tick(), 0.5) == [Ask(0)]


def test_one_question_at_a_time_and_one_proposal_ahead() -> None:
    study = Study(2)
    assert study.asked == [0]
    assert study.tell(Tick()) == []
    assert study.asked == [0]
    assert launched(study.propose()) == [0]
    assert launched(study.propose()) == [1]
    assert study.scheduler.running == 2
    assert study.propose() == []
    assert (study.scheduler.queued, study.asked) == (1, [])


def test_more_proposals_are_asked_for_only_while_devices_are_free_and_none_fits() -> None:
    study = Study(4, limits=Limits(lookahead=3))
    study.propose_all(3)
    study.propose_all(2, 2, 2)
    assert (study.scheduler.queued, study.asked) == (3, [])


def test_a_launch_holds_the_devices_it_names() -> None:
    study = Study(4)
    (action,) = study.propose(2)
    assert action == Launch(trial(0, 2), Allocation("a", "node-a", ("0", "1")))
    assert study.scheduler.allocation(0) == Allocation("a", "node-a", ("0", "1"))
    assert study.scheduler.allocation(1) is None
    assert study.scheduler.inventory.free == 2


def test_what_is_recorded_says_how_long_devices_were_held() -> None:
    study = Study(2)
    study.now_s = 10.0
    study.propose(2)
    study.now_s = 12.5
    (record,) = study.end(0)
    assert record == Record(
        trial(0, 2), Allocation("a", "node-a", ("0", "1")), DONE, retry=False, held_s=2.5
    )
    assert study.scheduler.gpu_seconds(99.0) == 5.0


# --- small and large trials ---------------------------------------------------------------------


def test_small_trials_fill_the_gap_beside_a_large_one() -> None:
    study = Study(8, limits=Limits(overtakes=100))
    assert study.propose_all(6, 4, 1, 1) == [0, 2, 3]
    assert study.scheduler.inventory.free == 0
    assert launched(study.end(0)) == [1]


def test_a_large_trial_does_not_starve() -> None:
    study = Study(4, limits=Limits(overtakes=2))
    assert study.propose_all(1, 1, 1, 4, 1) == [0, 1, 2, 4]
    assert launched(study.end(0)) == []
    assert study.propose_all(1) == [5]
    # Trial 3 was passed by 4 and 5: from here on devices are kept for it.
    assert launched(study.end(1)) == []
    assert study.propose_all(1) == []
    assert launched(study.end(2)) == []
    assert launched(study.end(4)) == []
    assert launched(study.end(5)) == [3]
    assert launched(study.end(3)) == [6]


def test_while_devices_are_collected_for_a_large_trial_other_nodes_go_on() -> None:
    study = Study(4, 4, limits=Limits(overtakes=1))
    assert study.propose_all(2, 3, 4, 1) == [0, 1, 3]
    # Trial 2 was passed once. Now devices are kept for it, on the node that lacks the fewest:
    # node a at first, node b as soon as trial 1 has left it.
    assert study.propose_all(1) == []
    assert launched(study.end(1)) == [4]
    assert study.propose_all(1) == [5]
    assert {held.bundle for n in (0, 4, 5) if (held := study.devices(n))} == {"a"}
    assert launched(study.end(3)) == [2]
    assert study.devices(2) == Allocation("b", "node-b", ("0", "1", "2", "3"))


def test_a_retry_goes_before_what_waits() -> None:
    study = Study(1)
    assert study.propose_all(1, 1) == [0]
    again = study.end(0, failed(FailureKind.GPU_BUSY))
    assert launched(again) == [0]


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind.retryable])
def test_failures_that_another_attempt_may_not_have_are_retried_once(kind: FailureKind) -> None:
    study = Study(1, limits=Limits(trials=1))
    study.propose()
    outcome = failed(kind)
    actions = study.end(0, outcome)
    assert recorded(actions) == [(0, 0, outcome, True)]
    assert launched(actions) == [0]
    actions = study.end(0, outcome, attempt=1)
    assert recorded(actions) == [(0, 1, outcome, False)]
    assert actions[-1] == End("the only trial was tried")


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if not kind.retryable])
def test_other_failures_are_not(kind: FailureKind) -> None:
    study = Study(1)
    study.propose()
    actions = study.end(0, failed(kind))
    assert [(retry, number) for number, _, _, retry in recorded(actions)] == [(False, 0)]
    assert launched(actions) == []


def test_what_is_infeasible_is_not_retried() -> None:
    study = Study(1, limits=Limits(retries=5))
    study.propose()
    outcome = Infeasible("out of memory", failed(FailureKind.OOM_WEIGHTS).failure)
    assert recorded(study.end(0, outcome)) == [(0, 0, outcome, False)]


def test_the_number_of_retries_is_a_limit() -> None:
    study = Study(1, limits=Limits(retries=2, trials=1))
    study.propose()
    outcome = failed(FailureKind.PORT_IN_USE)
    retries = [recorded(study.end(0, outcome, attempt))[0][3] for attempt in range(3)]
    assert retries == [True, True, False]


def test_attempts_that_were_cancelled_are_no_failures() -> None:
    study = Study(1, restored=Restored(waiting=(trial(0, attempt=3),), next_number=1))
    outcome = failed(FailureKind.GPU_BUSY)
    assert [retry for *_, retry in recorded(study.end(0, outcome, attempt=3))] == [True]
    assert [retry for *_, retry in recorded(study.end(0, outcome, attempt=4))] == [False]


def test_late_events_of_attempts_that_are_over_are_passed_over() -> None:
    study = Study(2)
    study.propose()
    study.end(0, failed(FailureKind.GPU_BUSY))
    assert not study.scheduler.runs(0, 0)
    assert study.scheduler.runs(0, 1)
    assert study.end(0, DONE, attempt=0) == []
    assert study.end(7, DONE) == []
    assert study.scheduler.running == 1
    assert recorded(study.end(0, DONE, attempt=1)) == [(0, 1, DONE, False)]
    assert study.end(0, DONE, attempt=1) == []


# --- budgets ------------------------------------------------------------------------------------


def test_the_budget_of_trials() -> None:
    study = Study(1, limits=Limits(trials=2))
    assert study.propose_all(1, 1) == [0]
    assert study.asked == []
    assert launched(study.end(0)) == [1]
    assert study.end(1)[-1] == End("all 2 trials were tried")


def test_an_exhausted_sampler_ends_the_study() -> None:
    study = Study(2)
    study.propose()
    assert study.tell(Answered(1, None)) == []
    assert study.asked == [1]
    assert study.end(0) == [
        Record(trial(0), Allocation("a", "node-a", ("0",)), DONE, retry=False),
        End("every combination was tried"),
    ]


def test_the_budget_of_gpu_hours_counts_what_runs_and_lets_it_finish() -> None:
    study = Study(4, limits=Limits(gpu_seconds=7200.0))
    study.propose_all(2, 1, 3)
    study.tell(Answered(study.asked.pop(), None))
    study.now_s = 2399.0
    assert study.tell(Tick()) == []
    assert study.scheduler.stopping == ""
    assert study.scheduler.gpu_seconds(study.now_s) == 3 * 2399.0
    study.now_s = 2400.0
    assert study.tell(Tick()) == []
    assert study.scheduler.stopping == "the budget of 2 GPU hours is spent"
    assert launched(study.end(0)) == []
    study.now_s = 2500.0
    assert study.end(1)[-1] == End("the budget of 2 GPU hours is spent")
    assert study.scheduler.queued == 1
    assert study.scheduler.gpu_seconds(9999.0) == 2 * 2400.0 + 2500.0


def test_the_budget_of_wall_clock_counts_what_earlier_drivers_took() -> None:
    study = Study(1, limits=Limits(wall_clock_s=100.0), restored=Restored(elapsed_s=60.0))
    study.propose()
    study.now_s = 39.0
    assert study.tell(Tick()) == []
    assert study.scheduler.stopping == ""
    study.now_s = 40.0
    study.tell(Tick())
    assert study.scheduler.stopping == "the budget of 100 s wall clock is spent"
    assert len(study.end(0)) == 1
    assert study.propose() == [End("the budget of 100 s wall clock is spent")]


def test_a_failure_is_not_retried_once_the_budget_is_spent() -> None:
    study = Study(1, limits=Limits(wall_clock_s=10.0))
    study.propose()
    study.now_s = 10.0
    outcome = failed(FailureKind.GPU_BUSY)
    study.tell(Tick())
    assert recorded(study.end(0, outcome)) == [(0, 0, outcome, False)]


# --- stopping -----------------------------------------------------------------------------------


def test_a_stop_cancels_what_runs_once_and_starts_nothing() -> None:
    study = Study(2)
    study.propose_all(1, 1, 1)
    assert study.tell(StopAsked("SIGINT")) == [Cancel(0, 0, "SIGINT"), Cancel(1, 0, "SIGINT")]
    assert study.tell(StopAsked("SIGTERM")) == []
    assert study.scheduler.stopping == "SIGINT"
    actions = study.end(0, STOPPED)
    assert actions == [Record(trial(0), Allocation("a", "node-a", ("0",)), STOPPED, retry=False)]
    assert study.end(1, STOPPED)[-1] == End("SIGINT")


def test_a_stop_waits_for_the_samplers_answer_and_does_not_launch_it() -> None:
    study = Study(1)
    assert study.tell(StopAsked("SIGINT")) == []
    assert study.propose() == [End("SIGINT")]


def test_a_stop_before_there_is_anything_ends_at_once() -> None:
    scheduler = Scheduler(Limits())
    assert scheduler.handle(StopAsked("SIGTERM"), 0.0) == [End("SIGTERM")]
    assert scheduler.handle(Tick(), 1.0) == []


def test_a_stop_after_the_budget_is_spent_cancels_what_was_left_to_finish() -> None:
    study = Study(1, limits=Limits(wall_clock_s=1.0))
    study.propose()
    study.now_s = 2.0
    study.tell(Tick())
    assert study.tell(StopAsked("SIGINT")) == [Cancel(0, 0, "SIGINT")]


# --- nodes that are lost, or too small ---------------------------------------------------------


def test_trials_of_a_lost_bundle_run_elsewhere() -> None:
    study = Study(2, 2)
    assert study.propose_all(2, 1) == [0, 1]
    actions = study.tell(BundleGone("a", "its actor died"))
    ((number, attempt, outcome, retry),) = recorded(actions)
    assert (number, attempt, retry) == (0, 0, True)
    assert isinstance(outcome, Failed)
    assert outcome.failure.kind is FailureKind.NODE_LOST
    assert outcome.failure.message == "its actor died"
    assert launched(actions) == []
    (launch,) = [a for a in study.end(1) if isinstance(a, Launch)]
    again = trial(0, 2, attempt=1, failures=1)
    assert launch == Launch(again, Allocation("b", "node-b", ("0", "1")))
    assert study.end(0, DONE, attempt=0) == []


def test_trials_that_fit_no_node_that_is_left_are_cancelled_and_may_be_resumed() -> None:
    study = Study(8, 2)
    study.propose_all(8, 1)
    actions = study.tell(BundleGone("a", "gone"))
    reason = "needs 8 GPUs, the cluster has 2: a node is lost"
    assert recorded(actions)[1] == (0, 1, Cancelled(reason), False)
    assert recorded(actions)[0][3] is True
    assert study.scheduler.running == 1


def test_a_trial_that_never_fitted_is_infeasible() -> None:
    restored = Restored(waiting=(trial(0, 8), trial(1, 2)), next_number=2)
    study = Study(4, 4, restored=restored, limits=Limits(trials=2))
    reason = "needs 8 GPUs on one node, the largest has 4 (8 in all)"
    assert recorded(study.first) == [(0, 0, Infeasible(reason), False)]
    assert study.scheduler.running == 1


def test_a_trial_that_fitted_before_the_study_was_resumed_is_no_infeasible_one() -> None:
    restored = Restored(waiting=(trial(0, 8),), next_number=1, rooms=(Room(8),))
    study = Study(4, restored=restored)
    reason = "needs 8 GPUs, the cluster has 4: a node is lost"
    assert recorded(study.first) == [(0, 0, Cancelled(reason), False)]


def test_a_large_trial_is_not_refused_because_small_nodes_are_found_first() -> None:
    restored = Restored(waiting=(trial(0, 8),), next_number=1)
    study = Study(2, 8, restored=restored)
    assert study.first == []
    assert study.scheduler.running == 1


def test_a_study_ends_with_its_last_node_and_keeps_what_waits_for_a_resume() -> None:
    study = Study(2)
    study.propose_all(1, 1, 1)
    actions = study.tell(BundleGone("a", "gone"))
    assert [(number, retry) for number, _, _, retry in recorded(actions)] == [(0, True), (1, True)]
    assert actions[-1] == End("every node of the study is lost")


def test_a_bundle_that_is_lost_while_its_trials_are_cancelled_leaves_them_cancelled() -> None:
    study = Study(1, limits=Limits(trials=1))
    study.propose()
    study.tell(StopAsked("SIGINT"))
    actions = study.tell(BundleGone("a", "gone"))
    assert recorded(actions) == [(0, 0, Cancelled("SIGINT"), False)]
    assert actions[-1] == End("SIGINT")


def test_an_unknown_bundle_may_be_lost() -> None:
    study = Study(1)
    study.propose()
    assert study.tell(BundleGone("z", "gone")) == []
    assert study.scheduler.running == 1


def test_bundles_that_come_later_are_used() -> None:
    study = Study(1)
    study.propose_all(1, 1)
    assert launched(study.tell(BundleReady(node("z", 1)))) == [1]
    study.tell(Tick())
    assert study.asked == [2]


# --- going on -----------------------------------------------------------------------------------


def test_a_restored_study_runs_what_waited_first_and_goes_on_counting() -> None:
    restored = Restored(waiting=(trial(3, 1, attempt=1), trial(5)), next_number=9, gpu_seconds=50.0)
    study = Study(3, restored=restored, limits=Limits(gpu_seconds=60.0))
    assert study.scheduler.running == 2
    assert study.asked == [9]
    assert study.scheduler.allocation(3) is not None
    study.now_s = 5.0
    study.tell(Tick())
    assert study.scheduler.stopping == "the budget of 0.0166667 GPU hours is spent"


def test_a_restored_study_with_nothing_left_ends_at_once() -> None:
    scheduler = Scheduler(Limits(trials=4), Restored(next_number=4))
    assert scheduler.handle(BundleReady(node("a", 1)), 0.0) == [End("all 4 trials were tried")]


def test_it_ends_once() -> None:
    study = Study(1, limits=Limits(trials=1))
    study.propose()
    assert study.end(0)[-1] == End("the only trial was tried")
    assert study.tell(Tick(), StopAsked("SIGINT"), Tick()) == []
