"""Devices that are not free after a trial, and nodes that not every engine is on."""

from __future__ import annotations

from orchestrator.scheduler import (
    Answered,
    BundleGone,
    BundleReady,
    End,
    GpusReleased,
    Launch,
    Limits,
    Record,
    Restored,
    Tick,
    Watch,
)
from runtimes.failure import FailureKind
from runtimes.plan import Allocation
from search.trial import Cancelled, Infeasible
from tests.orchestrator.schedules import (
    DONE,
    Study,
    dirty,
    failed,
    foreign,
    launched,
    node,
    recorded,
    trial,
)


def test_a_dirty_device_is_not_given_to_the_next_trial() -> None:
    study = Study(2)
    assert study.propose_all(2, 1) == [0]
    assert launched(study.end(0, DONE, 0, dirty("0"))) == [1]
    assert study.devices(1) == Allocation("a", "node-a", ("1",))
    assert study.propose_all(1) == []
    assert study.scheduler.inventory.quarantined == 1
    assert launched(study.end(1)) == [2]
    assert study.devices(2) == Allocation("a", "node-a", ("1",))


def test_a_trial_that_needed_the_dirty_device_is_cancelled_with_the_reason() -> None:
    study = Study(2, limits=Limits(trials=2))
    study.propose_all(2, 2)
    actions = study.end(0, DONE, 0, dirty("1"))
    reason = "needs 2 GPUs, the cluster has 1: a GPU is quarantined"
    assert recorded(actions) == [(0, 0, DONE, False), (1, 0, Cancelled(reason), False)]
    assert actions[-1] == End("all 2 trials were tried")


def test_a_trial_that_never_fitted_stays_infeasible_beside_a_dirty_device() -> None:
    study = Study(2, limits=Limits(trials=2))
    study.propose_all(1)
    study.end(0, DONE, 0, dirty("1"))
    (record,) = recorded(study.propose(3))
    assert record == (1, 0, Infeasible("needs 3 GPUs, the cluster has 1"), False)


def test_a_study_ends_with_its_last_clean_device_and_keeps_what_waits() -> None:
    study = Study(1)
    study.propose_all(1, 1)
    actions = study.end(0, DONE, 0, dirty("0"))
    assert recorded(actions) == [(0, 0, DONE, False)]
    assert actions[-1] == End("every GPU of the study is quarantined")
    assert study.scheduler.queued == 1


def test_a_foreign_device_is_watched_and_given_on_when_it_is_free() -> None:
    study = Study(1)
    study.propose_all(1, 1)
    actions = study.end(0, DONE, 0, foreign("0"))
    assert actions == [
        Watch("a", foreign("0")),
        Record(trial(0), Allocation("a", "node-a", ("0",)), DONE),
    ]
    assert study.tell(Tick()) == [], "nothing is cancelled, nothing ends"
    assert (study.scheduler.inventory.capacity, study.scheduler.queued) == (0, 1)
    assert launched(study.tell(GpusReleased("a", ("0",)))) == [1]


def test_an_attempt_that_found_its_device_in_use_is_tried_on_another() -> None:
    study = Study(2)
    study.propose_all(1)
    actions = study.end(0, failed(FailureKind.GPU_BUSY), 0, foreign("0"))
    assert [retry for *_, retry in recorded(actions)] == [True]
    assert launched(actions) == [0]
    assert study.devices(0) == Allocation("a", "node-a", ("1",))


def test_devices_are_not_collected_where_somebody_else_has_to_leave_first() -> None:
    study = Study(2, limits=Limits(overtakes=0, trials=5))
    study.propose_all(1)
    study.end(0, DONE, 0, foreign("0"))
    # Trial 1 needs both devices and was passed often enough; device 1 works on all the same.
    assert study.propose_all(2, 1) == [2]
    assert launched(study.end(2)) == []
    assert study.propose_all(1) == [3]
    assert launched(study.tell(GpusReleased("a", ("0",)))) == []
    assert launched(study.end(3)) == [1]


def test_a_foreign_device_of_a_lost_bundle_may_be_told_free() -> None:
    study = Study(1, 1)
    study.propose_all(1)
    study.end(0, DONE, 0, foreign("0"))
    study.tell(BundleGone("a", "gone"))
    assert study.tell(GpusReleased("a", ("0",))) == []
    assert study.scheduler.inventory.capacity == 1


# --- labels -------------------------------------------------------------------------------------


def test_an_engine_runs_on_nodes_that_have_it() -> None:
    study = Study(4)
    study.tell(BundleReady(node("z", 4, "engine-sglang")))
    labelled = trial(0, 2, label="engine-sglang")
    (launch,) = study.tell(Answered(study.asked.pop(0), labelled))
    assert launch == Launch(labelled, Allocation("z", "node-z", ("0", "1")))


def test_devices_are_kept_for_a_labelled_trial_on_its_own_nodes() -> None:
    study = Study(2, limits=Limits(overtakes=0))
    study.tell(BundleReady(node("z", 2, "engine-sglang")))
    study.tell(Answered(study.asked.pop(0), trial(0, 1, label="engine-sglang")))
    study.tell(Answered(study.asked.pop(0), trial(1, 2, label="engine-sglang")))
    assert study.propose_all(1, 1) == [2, 3]
    assert {held.bundle for n in (2, 3) if (held := study.devices(n))} == {"a"}
    assert launched(study.end(0)) == [1]


def test_an_engine_that_no_node_has_is_infeasible() -> None:
    study = Study(4)
    (record,) = study.tell(Answered(study.asked.pop(0), trial(0, 2, label="engine-sglang")))
    reason = "needs 2 GPUs on a node labelled engine-sglang; no node is"
    assert record == Record(
        trial(0, 2, label="engine-sglang"), None, Infeasible(reason), retry=False
    )


def test_an_engine_whose_nodes_are_lost_may_run_on_resume() -> None:
    study = Study(4)
    study.tell(BundleReady(node("z", 2, "engine-sglang")), BundleGone("z", "gone"))
    (record,) = recorded(
        study.tell(Answered(study.asked.pop(0), trial(0, 2, label="engine-sglang")))
    )
    reason = "needs 2 GPUs on a node labelled engine-sglang; no node is: a node is lost"
    assert record == (0, 0, Cancelled(reason), False)


def test_labels_of_earlier_drivers_are_remembered() -> None:
    rooms = (node("z", 2, "engine-sglang").room,)
    waiting = (trial(0, 2, label="engine-sglang"), trial(1, 2, label="engine-vllm"))
    study = Study(4, restored=Restored(waiting, next_number=2, rooms=rooms))
    outcomes = [outcome for _, _, outcome, _ in recorded(study.first)]
    assert [type(outcome) for outcome in outcomes] == [Cancelled, Infeasible]
