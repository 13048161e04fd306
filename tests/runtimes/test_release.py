"""When a device is free again: decided by memory, waited for with a deadline."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runtimes.telemetry.nvml import BUSY_BYTES, GpuProcess, GpuState, process_of
from runtimes.telemetry.release import DeviceCheck, DirtyGpu, judge, until_returned
from tests.runtimes.standin_nvml import GIB, StandinGpu, StandinNvml

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
FOREIGN = GpuProcess(4711, 40 * GIB, "python train.py", "ada")
HIDDEN = GpuProcess(4712, 40 * GIB)


def gpu(used: int, *processes: GpuProcess, index: str = "2") -> GpuState:
    return GpuState(index, f"GPU-{index}", "H100", 80 * GIB, used, processes=processes)


@pytest.mark.parametrize(
    ("state", "kind", "owner"),
    [
        (gpu(GIB), None, ""),
        (gpu(GIB, FOREIGN), None, ""),
        (gpu(GIB + 1), "dirty", "no process of it can be seen from here"),
        (gpu(40 * GIB, HIDDEN), "dirty", "no process of it can be seen from here"),
        (gpu(40 * GIB, GpuProcess(12, GIB, "engine", "me")), "dirty", "no process of it"),
        (gpu(40 * GIB, HIDDEN, FOREIGN), "foreign", "pid 4711 (python train.py, user ada)"),
        (None, "dirty", "the driver does not list it any more"),
    ],
    ids=["released", "little", "more", "hidden", "ours", "foreign", "lost"],
)
def test_a_device_is_judged_by_its_memory(
    state: GpuState | None, kind: str | None, owner: str
) -> None:
    verdict = judge("2", state, GIB, ours={12})
    if kind is None:
        assert verdict is None
        return
    assert verdict is not None
    assert (verdict.gpu, verdict.kind, verdict.limit_bytes) == ("2", kind, GIB)
    assert verdict.owner.startswith(owner)
    assert verdict.used_bytes == (state.memory_used_bytes if state is not None else 0)


def test_what_is_wrong_is_told_in_words() -> None:
    verdict = judge("2", gpu(40 * GIB, FOREIGN), GIB, ours=())
    assert str(verdict) == "GPU 2 has 40.0 GiB in use: pid 4711 (python train.py, user ada)"


class Node:
    """Devices as they are one question after the other; the last answer stays."""

    def __init__(self, *answers: Sequence[GpuState]) -> None:
        self._answers: Iterator[Sequence[GpuState]] = iter(answers)
        self._last: Sequence[GpuState] = ()
        self.asked = 0

    def read(self) -> Sequence[GpuState]:
        self.asked += 1
        self._last = next(self._answers, self._last)
        return self._last


def check(node: Node, *ids: str, deadline_s: float = 60.0) -> DeviceCheck:
    return DeviceCheck(ids or ("2",), read=node.read, deadline_s=deadline_s, poll_s=0.0)


def before(made: DeviceCheck) -> tuple[tuple[DirtyGpu, ...], list[tuple[DirtyGpu, ...]]]:
    """What is held after all, and what was waited for on the way."""
    told: list[tuple[DirtyGpu, ...]] = []
    return asyncio.run(made.until_free(told.append)), told


def test_a_free_device_is_not_waited_for() -> None:
    assert before(check(Node([gpu(4 * MIB)]))) == ((), [])


def test_a_device_in_use_is_waited_for_and_its_owner_told_once() -> None:
    taken = [gpu(40 * GIB, FOREIGN)]
    node = Node(taken, taken, taken, [gpu(40 * GIB, HIDDEN)], [gpu(4 * MIB)])
    held, told = before(check(node))
    assert held == ()
    assert [[one.owner for one in them] for them in told] == [
        [str(FOREIGN)],
        ["no process of it can be seen from here"],
    ]


def test_a_device_that_stays_in_use_is_given_up_as_foreign() -> None:
    node = Node([gpu(40 * GIB, FOREIGN), gpu(30 * GIB, index="3"), gpu(0, index="4")])
    held, _ = before(check(node, "2", "3", "4", deadline_s=0.0))
    # Nobody is seen to hold device 3; but its memory is not what we left there.
    assert [(one.gpu, one.kind) for one in held] == [("2", "foreign"), ("3", "foreign")]
    assert {one.limit_bytes for one in held} == {BUSY_BYTES}


def test_memory_is_released_when_it_is_what_it_was_before() -> None:
    idle, full = [gpu(600 * MIB)], [gpu(70 * GIB)]
    made = check(Node(idle, idle, idle, full, full, [gpu(601 * MIB)]))
    assert before(made) == ((), [])
    assert asyncio.run(made.until_released()) == ()


def test_a_context_that_stays_behind_is_dirty() -> None:
    idle = [gpu(4 * MIB)]
    made = check(Node(idle, idle, idle, [gpu(530 * MIB)]), deadline_s=0.0)
    before(made)
    (held,) = asyncio.run(made.until_released())
    assert (held.gpu, held.kind, held.used_bytes) == ("2", "dirty", 530 * MIB)


def test_only_devices_that_were_asked_before_are_verified() -> None:
    """A slice of a device is not listed; of a start that was cancelled nothing was started."""
    node = Node([gpu(4 * MIB, index="7")])
    made = check(node, "MIG-1")
    assert before(made) == ((), [])
    asked = node.asked
    assert asyncio.run(made.until_released()) == ()
    assert asyncio.run(check(node).until_released()) == ()
    assert node.asked == asked


def test_a_foreign_device_is_watched_until_it_is_back() -> None:
    taken = DirtyGpu("GPU-2", "foreign", str(FOREIGN), 40 * GIB, GIB)
    node = Node([gpu(40 * GIB, FOREIGN)], [gpu(2 * GIB, FOREIGN)], [gpu(GIB, FOREIGN)])
    asyncio.run(until_returned(taken, read=node.read, poll_s=0.0))
    assert node.asked == 3


_ATTEMPT = """
import asyncio, subprocess, sys
from runtimes.telemetry.release import DeviceCheck

async def attempt():
    check = DeviceCheck(["0", "GPU-b"], deadline_s=float(sys.argv[1]), poll_s=0.02)
    print("waits", [str(gpu) for gpu in await check.until_free(lambda held: None)], flush=True)
    sys.stdin.readline()  # the engine has come and gone
    print("ended", [str(gpu) for gpu in await check.until_released()], flush=True)

asyncio.run(attempt())
"""


class Attempt:
    """A process that checks two devices of the stand-in, as a bundle does."""

    def __init__(self, nvml: StandinNvml, deadline_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ATTEMPT, str(deadline_s)],
            env={**os.environ, **nvml.env},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def engine_is_gone(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def nvml(tmp_path: Path) -> StandinNvml:
    return StandinNvml(tmp_path)


def test_memory_that_comes_back_late_is_waited_for(nvml: StandinNvml) -> None:
    idle = StandinGpu("GPU-a", 4 * MIB), StandinGpu("GPU-b", 4 * MIB)
    nvml.show(*idle)
    with Attempt(nvml, 60.0) as attempt:
        assert attempt.says() == "waits []"
        nvml.show(StandinGpu("GPU-a", 70 * GIB), idle[1])
        attempt.engine_is_gone()
        nvml.show(*idle)
        assert attempt.says() == "ended []"


def test_who_holds_memory_after_the_engine_is_named(nvml: StandinNvml) -> None:
    nvml.show(StandinGpu("GPU-a"), StandinGpu("GPU-b"))
    with Attempt(nvml, 0.3) as attempt:
        assert attempt.says() == "waits []"
        ours = os.getpid()  # not of the attempt's own tree
        nvml.show(
            StandinGpu("GPU-a", 20 * GIB),
            StandinGpu("GPU-b", 30 * GIB, processes=((ours, 29 * GIB),)),
        )
        attempt.engine_is_gone()
        said = attempt.says()
    assert "GPU 0 has 20.0 GiB in use: no process of it can be seen from here" in said
    assert f"GPU GPU-b has 30.0 GiB in use: {process_of(ours)}" in said
