"""What of a study's course becomes metrics, beyond what the exporter is told as it is."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.messages import Phase
from orchestrator.metrics_observer import MetricsObserver
from orchestrator.observer import Status
from orchestrator.scheduler import Waiting
from runtimes.plan import Allocation
from search.trial import Params
from tests.tracking.metric_samples import exporter_of, exposed
from tests.tracking.run_samples import trial_record

_STATUS = Status(0.0, 5, 1, 1, 8, 0, 0, 0.0, 0.0, {}, None)


def test_nothing_waits_for_devices_once_nothing_new_is_started() -> None:
    exporter = exporter_of("vllm")
    observer = MetricsObserver(exporter)

    def queued() -> float:
        return exposed(exporter.text())["servetune_trials_queued"]

    observer.status(_STATUS)
    assert queued() == 5
    observer.stopping("the budget is spent")
    assert queued() == 0
    observer.status(_STATUS)
    assert queued() == 0


def test_an_attempt_counts_once_in_each_phase_however_often_it_was_there() -> None:
    exporter = exporter_of("vllm")
    observer = MetricsObserver(exporter)
    observer.launched(Waiting(3, Params("vllm"), 1), Allocation("bundle", "here", ("0",)))
    warming, measuring = Phase.WARMING, Phase.MEASURING
    for phase in (Phase.STARTING, warming, measuring, warming, measuring, Phase.STOPPING):
        observer.phase(3, 0, phase, 1.0)
    observer.finished(replace(trial_record(3), stop_s=4.0), retry=False)
    found = exposed(exporter.text())
    counts = [value for name, value in found.items() if "trial_duration_seconds_count" in name]
    assert counts == [1, 1, 1, 1]
    assert found['servetune_trial_duration_seconds_sum{phase="stopping"}'] == 4
