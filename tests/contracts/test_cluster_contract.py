"""What every cluster promises the driver."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.base import Cluster, ClusterSettings, create_cluster
from orchestrator.messages import (
    AttemptDone,
    Broken,
    ClusterEvent,
    FoundBundle,
    FromTrial,
    Measured,
    PhaseEntered,
    StageDone,
    Stopped,
    TrialOrder,
)
from orchestrator.placement import Bundle
from orchestrator.scheduler import Waiting
from orchestrator.spec import Experiment
from orchestrator.wiring import wire
from runtimes.errors import ClusterError
from runtimes.failure import FailureKind
from runtimes.guard import Process
from runtimes.plan import Allocation
from runtimes.workloads.base import Workload
from search.trial import Params
from tests.contracts.broken_workload import BrokenWorkload, UnpackableWorkload
from tests.e2e import studies

KINDS = [
    "in_process",
    "local",
    pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.timeout(180)]),
]


class Harness:
    """A started cluster with two pretended devices and the events it sent."""

    def __init__(self, cluster: Cluster, events: queue.SimpleQueue[ClusterEvent]) -> None:
        self.cluster = cluster
        self._events = events
        found = self.next()
        assert isinstance(found, FoundBundle)
        self.bundle: Bundle = found.bundle

    def next(self) -> ClusterEvent:
        return self._events.get(timeout=90)

    def order(self, number: int, gpu: str, *, requests: int = 8) -> TrialOrder:
        """An order for one trial on one device."""
        workload = {
            "input_tokens": 16,
            "output_tokens": 16,
            "load": {"kind": "concurrency", "value": 2, "requests": requests},
        }
        study = wire(Experiment.from_dict(studies.experiment(workload=workload)))
        params = Params("simulated", {"tp": 1, "pp": 1, "dp": 1, "max-num-seqs": 4})
        plan = study.admission.plan(params)
        allocation = Allocation(self.bundle.id, self.bundle.node, (gpu,), self.bundle.visible)
        return study.order("run", Waiting(number, params, 1), plan, allocation)

    def until_done(self, count: int = 1) -> dict[int, list[object]]:
        """Events by trial until `count` attempts are done."""
        seen: dict[int, list[object]] = {}
        while count:
            event = self.next()
            assert isinstance(event, FromTrial), event
            seen.setdefault(event.number, []).append(event.event)
            count -= isinstance(event.event, AttemptDone)
        return seen


@pytest.fixture(params=KINDS)
def harness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
    settings = ClusterSettings(request.param, "local", simulated_gpus=2, accelerator="H100")
    with studies.ray_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        cluster = create_cluster(settings, events.put)
        try:
            cluster.start()
            yield Harness(cluster, events)
        finally:
            cluster.close()
            cluster.close()


class TestCluster:
    def test_runs_cancels_and_leaves_nothing(self, harness: Harness) -> None:
        assert harness.bundle.gpu_ids == ("0", "1")
        assert harness.bundle.visible is False
        assert harness.bundle.gpu_model == "H100"
        assert harness.bundle.accelerator == ""

        harness.cluster.launch(harness.order(0, "0"))
        harness.cluster.launch(harness.order(1, "1"))
        seen = harness.until_done(2)
        for number in (0, 1):
            events = seen[number]
            assert isinstance(events[0], PhaseEntered)
            done = events[-1]
            assert isinstance(done, AttemptDone)
            assert isinstance(done.result, Measured)
            assert sum(isinstance(event, StageDone) for event in events) == 1
            assert done.result.measurement.requests_completed == 8
            assert done.log
            assert len(done.facts.process_ids) == 3

        harness.cluster.launch(harness.order(2, "0", requests=10_000))
        pids: tuple[int, ...] = ()
        while not pids:
            event = harness.next()
            assert isinstance(event, FromTrial)
            if isinstance(event.event, PhaseEntered):
                pids = event.event.process_ids
        processes = [Process.of(pid) for pid in pids]
        harness.cluster.cancel(harness.bundle.id, 2, 0)
        harness.cluster.cancel(harness.bundle.id, 2, 0)
        harness.cluster.cancel(harness.bundle.id, 77, 0)
        last = harness.until_done()[2][-1]
        assert isinstance(last, AttemptDone)
        assert isinstance(last.result, Stopped)
        assert not any(process.alive() for process in processes)

    def test_a_cancel_that_comes_with_the_order_is_heard(self, harness: Harness) -> None:
        for number in range(3):
            harness.cluster.launch(harness.order(number, "0", requests=10_000))
            harness.cluster.cancel(harness.bundle.id, number, 0)
            done = harness.until_done()[number][-1]
            assert isinstance(done, AttemptDone)
            assert isinstance(done.result, Stopped)

    @pytest.mark.parametrize(
        ("workload", "words"),
        [
            (BrokenWorkload(), "no prompts today"),
            (UnpackableWorkload(), "cannot be unpacked here"),
        ],
        ids=["raises", "unpackable"],
    )
    def test_a_bug_ends_one_attempt_and_nothing_else(
        self, harness: Harness, workload: Workload, words: str
    ) -> None:
        sound = harness.order(0, "0")
        harness.cluster.launch(replace(sound, number=1, workload=workload))
        harness.cluster.launch(sound)
        seen = harness.until_done(2)
        broken, measured = seen[1][-1], seen[0][-1]
        assert isinstance(broken, AttemptDone)
        assert isinstance(broken.result, Broken)
        assert broken.result.failure.kind is FailureKind.INTERNAL
        failure = broken.result.failure
        assert words in failure.message + failure.log_tail
        assert isinstance(measured, AttemptDone)
        assert isinstance(measured.result, Measured)

    def test_close_ends_what_runs(self, harness: Harness) -> None:
        harness.cluster.launch(harness.order(0, "0", requests=10_000))
        pids: tuple[int, ...] = ()
        while not pids:
            event = harness.next()
            assert isinstance(event, FromTrial)
            if isinstance(event.event, PhaseEntered):
                pids = event.event.process_ids
        processes = [Process.of(pid) for pid in pids]
        harness.cluster.close()
        assert not any(process.alive() for process in processes)


@pytest.mark.parametrize("kind", ["in_process", "local"])
def test_a_machine_without_gpus_says_what_to_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    cluster = create_cluster(ClusterSettings(kind), lambda event: None)
    with pytest.raises(ClusterError, match="simulated_gpus"):
        cluster.start()
    cluster.close()


@pytest.mark.ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_nobody_answers_at_is_told_at_once(address: str) -> None:
    cluster = create_cluster(ClusterSettings("ray", address), lambda event: None)
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at cluster\.address"):
        cluster.start()
    cluster.close()


SMI = """#!/bin/sh
cat <<'END'
0, GPU-a, NVIDIA H100 80GB HBM3, 81559, 40000
1, GPU-b, NVIDIA H100 80GB HBM3, 81559, 4
2, GPU-c, NVIDIA H100 80GB HBM3, 81559, 4
END
"""


@pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_an_engine_sees_its_own_device_and_none_that_others_use(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing is made up; leases, the variable and the engine's environment are real."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
    with studies.ray_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        cluster = create_cluster(ClusterSettings(kind, "local"), events.put)
        try:
            cluster.start()
            harness = Harness(cluster, events)
            assert harness.bundle.gpu_ids == ("1", "2")
            assert harness.bundle.gpu_model == "NVIDIA H100 80GB HBM3"
            assert harness.bundle.accelerator == "H100"
            cluster.launch(harness.order(0, "2"))
            event = harness.next()
            while not (isinstance(event, FromTrial) and isinstance(event.event, StageDone)):
                assert isinstance(event, FromTrial)
                if isinstance(event.event, PhaseEntered) and event.event.process_ids:
                    environ = Path(f"/proc/{event.event.process_ids[-1]}/environ").read_bytes()
                event = harness.next()
        finally:
            cluster.close()
    assert b"CUDA_VISIBLE_DEVICES=2" in environ.split(b"\0")
    assert b"CUDA_DEVICE_ORDER=PCI_BUS_ID" in environ.split(b"\0")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
