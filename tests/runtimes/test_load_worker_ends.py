"""How worker processes of a load end, and what a stage makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.errors import EngineError, InternalError
from runtimes.failure import FailureKind
from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.result import LoadAborted, LoadProgress, LoadStalled, LoadStopped
from runtimes.load.workers import LoadWorkers, Server
from tests.runtimes.free_ports import free_port
from tests.runtimes.load_servers import HOST, Request, good, serving, silent
from tests.runtimes.load_stages import job, workers_at
from tests.runtimes.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
OWNER = Path(__file__).with_name("load_owner.py")


@pytest.mark.parametrize("busy", [True, False], ids=["under load", "idle"])
def test_no_worker_outlives_a_parent_that_is_killed(busy: bool) -> None:
    async def body() -> None:
        async with serving(silent if busy else good) as server:
            argv = [sys.executable, str(OWNER), str(ROOT), str(server.port), "2"]
            process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, cwd="/")
            assert process.stdout is not None
            pids = [int(pid) for pid in (await process.stdout.readline()).split()]
            assert len(pids) == 2
            if busy:
                await server.has_seen(4)
            else:
                assert await process.stdout.readline() == b"12 {None}\n"
            process.kill()
            await process.wait()
            gone = await asyncio.to_thread(
                wait_until, lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)
            )
            assert gone

    asyncio.run(body())


def test_a_worker_that_is_killed_ends_the_stage_with_what_was_recorded() -> None:
    async def body() -> None:
        answered = 0

        async def mortal(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal answered
            answered += 1
            await (good if answered <= 10 else silent)(request, writer)

        async with workers_at(mortal, 2) as (workers, _):
            heard_of_all = asyncio.Event()

            def on_progress(progress: LoadProgress) -> None:
                if progress.completed == 10:
                    heard_of_all.set()

            running = asyncio.create_task(
                workers.run(job(ConcurrencyLoad(4, 100)), on_progress=on_progress)
            )
            await heard_of_all.wait()
            os.kill(workers.pids[1], signal.SIGKILL)
            with pytest.raises(LoadStopped, match="was killed by SIGKILL") as stopped:
                await running
            assert stopped.value.failure.kind is FailureKind.HOST_OUT_OF_MEMORY
            assert "out of memory" in stopped.value.failure.remedy
            assert [record.error for record in stopped.value.result.records] == [None] * 10
            with pytest.raises(EngineError, match="was killed by SIGKILL"):
                await workers.run(job(ConcurrencyLoad(4, 8)))

    asyncio.run(body())


@pytest.mark.parametrize("when", ["before the stage", "under load"])
def test_a_worker_that_stands_still_ends_the_stage(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        handler = good if when == "before the stage" else silent
        async with workers_at(handler, 2) as (workers, server):
            stage = job(ConcurrencyLoad(4, 8), timeout_s=0.2 if handler is good else 20)
            running = asyncio.ensure_future(workers.run(stage))
            if handler is good:
                await running
            else:
                await server.has_seen(4)
            os.kill(workers.pids[1], signal.SIGSTOP)
            monkeypatch.setattr("runtimes.load.workers.NO_SIGN_S", 0.6)
            try:
                with pytest.raises(EngineError, match="has given no sign for"):
                    await (workers.run(stage) if handler is good else running)
            finally:
                os.kill(workers.pids[1], signal.SIGCONT)

    asyncio.run(body())


class Wrong(ConcurrencyLoad):
    """A load with a bug that shows once the stage runs."""

    def held(self, elapsed_s: float) -> int:
        return 2 if elapsed_s in (0.0, 1e9) else 1 // 0


def test_a_bug_in_a_worker_is_told_with_its_traceback() -> None:
    async def body() -> None:
        async with workers_at(good, 2) as (workers, _):
            with pytest.raises(InternalError, match=r"in held\n(.*\n)*ZeroDivisionError"):
                await workers.run(job(Wrong(2, 8)))

    asyncio.run(body())


def test_a_worker_that_cannot_start_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no such interpreter\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    async def body() -> None:
        async with workers_at(good, 1) as (workers, _):
            with pytest.raises(InternalError, match="exit code 3:\nno such interpreter"):
                await workers.run(job(ConcurrencyLoad(1, 4)))

    asyncio.run(body())


def test_cancelling_leaves_the_workers_usable() -> None:
    async def body() -> None:
        quiet = True

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            await (silent if quiet else good)(request, writer)

        async with workers_at(handler, 2) as (workers, server):
            running = asyncio.create_task(workers.run(job(ConcurrencyLoad(4, 8))))
            await server.has_seen(4)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            quiet = False
            result = await workers.run(job(ConcurrencyLoad(4, 8)))
            assert {record.error for record in result.records} == {None}
            assert len(result.records) == 8

    asyncio.run(body())


def test_giving_up_fails_what_runs_and_what_would_come() -> None:
    async def body() -> None:
        async with workers_at(silent, 2) as (workers, server):
            running = asyncio.create_task(workers.run(job(ConcurrencyLoad(4, 400))))
            await server.has_seen(4)
            workers.give_up()
            with pytest.raises(LoadAborted, match="connection lost") as aborted:
                await running
            assert aborted.value.failure.kind is FailureKind.CRASHED
            with pytest.raises(LoadAborted, match="connection lost"):
                await workers.run(job(ConcurrencyLoad(4, 400)))

    asyncio.run(body())


def test_a_server_that_is_not_there_ends_the_stage() -> None:
    async def body() -> None:
        address = Server(HOST, free_port())
        async with LoadWorkers([address], processes=2) as workers:
            with pytest.raises(LoadAborted, match="connection refused"):
                await workers.run(job(ConcurrencyLoad(2, 1000)))

    asyncio.run(body())


def test_silence_towards_all_workers_is_a_stall() -> None:
    async def body() -> None:
        async with workers_at(silent, 2) as (workers, _):
            with pytest.raises(LoadStalled) as stalled:
                await workers.run(job(ConcurrencyLoad(3, 9), stall_s=0.5))
            errors = [record.error for record in stalled.value.result.records]
            assert errors == ["cancelled"] * 3
            assert "with 3 requests in flight" in stalled.value.failure.message

    asyncio.run(body())
