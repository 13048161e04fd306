"""Devices that others use, on every cluster: waited for, named, withheld, watched."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.base import ClusterSettings, create_cluster
from orchestrator.messages import (
    AttemptDone,
    Broken,
    ClusterEvent,
    FromTrial,
    GpusAwaited,
    Measured,
    PhaseEntered,
    ReturnedGpu,
    TrialOrder,
)
from runtimes.failure import FailureKind
from runtimes.telemetry.nvml import process_of
from runtimes.telemetry.release import DirtyGpu
from tests.contracts.test_cluster_contract import KINDS, Harness
from tests.e2e import studies
from tests.runtimes.standin_nvml import GIB, StandinGpu, StandinNvml

IDLE, FULL = 4, 40_000
NVML_KINDS = [kind for kind in KINDS if kind != "in_process"]


class Tool:
    """A `nvidia-smi` on PATH that lists two devices; memory in use in MiB."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._listing = folder / "listing"
        tool = folder / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\ncat '{self._listing}'\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        self.show(IDLE, IDLE)

    def show(self, *used_mib: int) -> None:
        lines = [
            f"{index}, GPU-{index}, H100, 81559, {used}" for index, used in enumerate(used_mib)
        ]
        draft = self._listing.with_suffix(".draft")
        draft.write_text("\n".join([*lines, ""]))
        draft.replace(self._listing)


@contextmanager
def started(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
    with studies.ray_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        cluster = create_cluster(ClusterSettings(kind, "local"), events.put)
        try:
            cluster.start()
            yield Harness(cluster, events)
        finally:
            cluster.close()


def quick(order: TrialOrder, release_s: float) -> TrialOrder:
    return replace(order, timeouts=replace(order.timeouts, release_s=release_s))


def until_engine(harness: Harness) -> None:
    """Return when the engine of the one running attempt lives."""
    while True:
        event = harness.next()
        assert isinstance(event, FromTrial)
        if isinstance(event.event, PhaseEntered) and event.event.process_ids:
            return


def end_of(harness: Harness, number: int) -> AttemptDone:
    done = harness.until_done()[number][-1]
    assert isinstance(done, AttemptDone)
    return done


@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_stays_is_told_with_the_end_and_a_watch_tells_when_it_goes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = Tool(tmp_path, monkeypatch)
    with started(kind, monkeypatch) as harness:
        assert harness.bundle.gpu_ids == ("0", "1")
        harness.cluster.launch(quick(harness.order(0, "1"), 0.5))
        until_engine(harness)
        tool.show(IDLE, FULL)
        done = end_of(harness, 0)
        assert isinstance(done.result, Measured)
        (dirty,) = done.facts.dirty
        assert (dirty.gpu, dirty.kind, dirty.used_bytes) == ("1", "dirty", FULL << 20)
        assert "gpu_dirty" in done.facts.flags

        harness.cluster.watch(harness.bundle.id, replace(dirty, kind="foreign"))
        harness.cluster.launch(quick(harness.order(1, "1"), 0.5))
        seen = harness.until_done()[1]
        (awaited,) = [event for event in seen if isinstance(event, GpusAwaited)]
        assert [gpu.gpu for gpu in awaited.gpus] == ["1"]
        busy = seen[-1]
        assert isinstance(busy, AttemptDone)
        assert isinstance(busy.result, Broken)
        assert busy.result.failure.kind is FailureKind.GPU_BUSY
        assert busy.result.failure.message.startswith("GPU 1 has 39.1 GiB in use: ")
        assert [gpu.kind for gpu in busy.facts.dirty] == ["foreign"]
        assert busy.facts.process_ids == (), "no engine was started"

        tool.show(IDLE, IDLE)
        assert harness.next() == ReturnedGpu(harness.bundle.id, "1")
        tool.show(FULL, IDLE)
        harness.cluster.watch(harness.bundle.id, DirtyGpu("0", "foreign", "", 0, GIB))
        # Leaving the block closes the cluster, whatever is watched.


@pytest.mark.parametrize("kind", NVML_KINDS)
def test_who_uses_a_device_is_named_and_waited_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle asks a stand-in for NVML; the driver, which began before it was there, a tool."""
    Tool(tmp_path, monkeypatch)
    nvml = StandinNvml(tmp_path)
    free = StandinGpu("GPU-0"), StandinGpu("GPU-1")
    nvml.show(*free)
    for name, value in nvml.env.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen(["sleep", "600"]) as other, started(kind, monkeypatch) as harness:
        taken = StandinGpu("GPU-1", 30 * GIB, processes=((other.pid, 29 * GIB),))
        owner = str(process_of(other.pid))
        assert "sleep 600" in owner

        harness.cluster.launch(quick(harness.order(0, "1"), 0.5))
        until_engine(harness)
        nvml.show(free[0], taken)
        done = end_of(harness, 0)
        (found,) = done.facts.dirty
        assert (found.gpu, found.kind, found.owner) == ("1", "foreign", owner)
        assert "gpu_foreign" in done.facts.flags

        harness.cluster.launch(quick(harness.order(1, "1"), 600.0))
        event = harness.next()
        while not (isinstance(event, FromTrial) and isinstance(event.event, GpusAwaited)):
            event = harness.next()
        assert [str(gpu) for gpu in event.event.gpus] == [f"GPU 1 has 30.0 GiB in use: {owner}"]
        nvml.show(*free)
        done = end_of(harness, 1)
        assert isinstance(done.result, Measured)
        assert done.facts.dirty == ()
        other.kill()
