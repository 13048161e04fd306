"""Compiled kernels: one start compiles, others wait, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.compile_cache import Warmth, cache_folder, cache_variables, kernels_for

ROOT = Path(__file__).resolve().parents[2]

START = """
import asyncio, sys
from pathlib import Path
from runtimes.compile_cache import kernels_for

async def start(folder, log, name):
    def say(word):
        with open(log, "a") as file:
            file.write(f"{name} {word}\\n")
    async with kernels_for(folder, "kernels", {}, on_wait=lambda: say("waits")) as kernels:
        say(f"begins {kernels.warmth.value}")
        if name == "hangs":
            await asyncio.sleep(600)
        if kernels.warmth.value == "cold":
            await asyncio.sleep(0.5)
        say("ready")
        if name != "fails":
            kernels.compiled()

asyncio.run(start(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


class Starts:
    """Processes that each start one engine with the same kernels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cache"
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", START, str(self.folder), str(self.log), name]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.processes.append(process)
        return process

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def until(self, line: str) -> None:
        deadline_s = time.monotonic() + 60
        while line not in self.lines():
            assert time.monotonic() < deadline_s, (line, self.lines())
            time.sleep(0.02)


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    made = Starts(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_of_several_processes_one_compiles(starts: Starts) -> None:
    names = [f"start{number}" for number in range(6)]
    for process in [starts.begin(name) for name in names]:
        assert process.wait(timeout=60) == 0
    lines = starts.lines()
    assert sum("begins cold" in line for line in lines) == 1
    assert sum("begins warm" in line for line in lines) == 5
    (compiler,) = (line.split()[0] for line in lines if "cold" in line)
    warm = [number for number, line in enumerate(lines) if "begins warm" in line]
    assert lines.index(f"{compiler} ready") < min(warm)


def test_a_start_that_fails_leaves_its_turn_to_the_next(starts: Starts) -> None:
    assert starts.begin("fails").wait(timeout=60) == 0
    assert starts.begin("second").wait(timeout=60) == 0
    assert starts.begin("third").wait(timeout=60) == 0
    assert [line for line in starts.lines() if "begins" in line] == [
        "fails begins cold",
        "second begins cold",
        "third begins warm",
    ]


def test_the_death_of_the_holder_frees_the_lock(starts: Starts) -> None:
    holder = starts.begin("hangs")
    starts.until("hangs begins cold")
    waiting = starts.begin("second")
    starts.until("second waits")
    holder.send_signal(signal.SIGKILL)
    assert waiting.wait(timeout=60) == 0
    assert "second begins cold" in starts.lines()


def test_waiting_can_be_cancelled_and_its_time_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        waits = asyncio.Event()
        async with kernels_for(tmp_path, "kernels", {}, on_wait=waits.set) as first:
            assert first.warmth is Warmth.COLD
            assert first.waited_s == 0

            async def second() -> float:
                async with kernels_for(tmp_path, "kernels", {}, on_wait=waits.set) as kernels:
                    assert kernels.warmth is Warmth.WARM
                    assert kernels.held_fds == ()
                    return kernels.waited_s

            cancelled = asyncio.ensure_future(second())
            await waits.wait()
            cancelled.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cancelled
            assert cancelled.cancelled()
            waits.clear()
            patient = asyncio.ensure_future(second())
            await waits.wait()
            first.compiled()
            first.compiled()
            assert await patient > 0

    asyncio.run(run())


def test_other_kernels_do_not_wait(tmp_path: Path) -> None:
    async def warmth(compiles: str, **variables: str) -> Warmth:
        def wait() -> None:
            raise AssertionError("waits")

        async with kernels_for(tmp_path, compiles, variables, on_wait=wait) as kernels:
            return kernels.warmth

    async def run() -> None:
        async with kernels_for(tmp_path, "kernels", {"A": "1"}, on_wait=lambda: None):
            assert await warmth("others", A="1") is Warmth.COLD
            assert await warmth("kernels", A="2") is Warmth.COLD
            assert await warmth("", A="1") is Warmth.OFF

    asyncio.run(run())


def test_a_lock_that_an_engine_holds_open_is_given_up_when_it_is_ready(tmp_path: Path) -> None:
    async def run() -> None:
        async with kernels_for(tmp_path, "kernels", {}, on_wait=lambda: None) as kernels:
            copies = [os.dup(held) for held in kernels.held_fds]
            assert len(copies) == 1
        async with kernels_for(tmp_path, "kernels", {}, on_wait=lambda: None) as again:
            assert again.warmth is Warmth.COLD
            assert again.waited_s == 0
        os.close(copies[0])

    asyncio.run(run())


def test_a_folder_that_cannot_be_made_costs_only_the_sharing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    async def run() -> None:
        async with kernels_for(blocked / "below", "k", {}, on_wait=lambda: None) as kernels:
            assert kernels.warmth is Warmth.OFF
            kernels.compiled()

    asyncio.run(run())


def test_users_own_cache_variables_win(tmp_path: Path) -> None:
    folder = cache_folder(tmp_path, "vllm", "abc")
    assert folder.parent == tmp_path / "compile"
    assert folder != cache_folder(tmp_path, "vllm", "abd") != cache_folder(tmp_path, "x", "abc")
    named = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton"}
    assert cache_variables(folder, named, {"TRITON_CACHE_DIR": "/mine", "OTHER": "1"}) == {
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
        "TRITON_CACHE_DIR": "/mine",
    }


def test_a_file_system_without_locks_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system of a test machine refuses locks, as shared ones of clusters do."""

    def refused(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    async def started() -> Warmth:
        async with kernels_for(tmp_path, "kernels", {}, on_wait=pytest.fail) as kernels:
            kernels.compiled()
            return kernels.warmth

    monkeypatch.setattr(fcntl, "flock", refused)
    files = Path("/proc/self/fd")
    before = len(list(files.iterdir()))
    assert asyncio.run(started()) is Warmth.OFF
    assert len(list(files.iterdir())) == before
