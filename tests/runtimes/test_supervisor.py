"""Ownership of real engine processes from an event loop."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from runtimes.guard import Process, read_status
from runtimes.secrets import MASK
from runtimes.supervisor import EngineProcess

T = TypeVar("T")

TREE = Path(__file__).parent / "process_tree.py"
TREE_SIZE = 7
DEADLINE_S = 15.0
IGNORE_SIGTERM = "trap '' TERM; echo ready; while :; do sleep 1; done"


class Engine:
    """Starts commands in one folder, each carrying a mark by which all its processes are found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "logs" / "engine.log"
        self.record = folder / "record"
        self.mark = uuid4().hex
        self.env = {"PATH": os.environ["PATH"], "MARK": self.mark}

    def running(
        self, *argv: str, grace_s: float = 1.0, env: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[EngineProcess]:
        return EngineProcess.running(
            argv,
            env=self.env | (env or {}),
            log_path=self.log,
            cwd=self.folder,
            grace_s=grace_s,
        )

    def tree(
        self, ending: str = "serve", grace_s: float = 1.0
    ) -> AbstractAsyncContextManager[EngineProcess]:
        return self.running(sys.executable, str(TREE), str(self.record), ending, grace_s=grace_s)

    def tree_is_up(self) -> bool:
        return self.record.exists() and len(self.record.read_text().splitlines()) >= TREE_SIZE

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: self.log.exists() and text in self.log.read_text()

    def processes(self) -> list[int]:
        """Every living process started here: guards, engine and all that came of it."""
        entries = Path("/proc").iterdir()
        return [int(entry.name) for entry in entries if entry.name.isdigit() and self._owns(entry)]

    def _owns(self, entry: Path) -> bool:
        try:
            return f"MARK={self.mark}".encode() in (entry / "environ").read_bytes()
        except OSError:
            return False


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    started = Engine(tmp_path)
    yield started
    for pid in started.processes():  # there are none unless the test failed
        Process.of(pid).send(signal.SIGKILL)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # other processes set no event
            await asyncio.sleep(0.02)


def test_leaving_the_block_ends_the_whole_tree(engine: Engine) -> None:
    async def main() -> EngineProcess:
        async with engine.tree() as process:
            await until(engine.tree_is_up)
            assert process.exit_code is None
            assert len(engine.processes()) == len(process.pids) - 1 + TREE_SIZE
            assert set(process.pids) <= set(engine.processes())
        assert engine.processes() == []
        return process

    process = asyncio.run(main())
    assert process.exit_code == -signal.SIGTERM
    status = read_status(process.status_path)
    assert status is not None
    assert status.exit_code == -signal.SIGTERM
    assert process.pids == (status.guard.pid, status.inner.pid, status.engine.pid)


def test_an_engine_that_ignores_sigterm_is_killed(engine: Engine) -> None:
    async def main() -> EngineProcess:
        async with engine.running("sh", "-c", IGNORE_SIGTERM, grace_s=0.2) as process:
            await until(engine.says("ready"))
            await process.stop()
            await process.stop()
            assert engine.processes() == []
            return process

    assert asyncio.run(main()).exit_code == -signal.SIGKILL


def test_wait_returns_the_engines_exit_code_when_its_tree_is_gone(engine: Engine) -> None:
    async def main() -> int:
        async with engine.tree("exit") as process:
            await until(lambda: process.exit_code is not None)
            assert process.exit_code == 7
            code = await process.wait()
            assert engine.processes() == []
            return code

    assert asyncio.run(main()) == 7


def test_giving_up_waiting_leaves_the_engine_alone(engine: Engine) -> None:
    async def main() -> None:
        async with engine.running("sleep", "60") as process:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.01)
            assert process.exit_code is None
            assert process.pids[-1] in engine.processes()

    asyncio.run(main())


def test_a_command_that_does_not_exist(engine: Engine) -> None:
    async def main() -> EngineProcess:
        async with engine.running("no-such-engine", "serve") as process:
            assert await process.wait() == 127
            return process

    assert "cannot start 'no-such-engine'" in asyncio.run(main()).log_tail()


def test_an_error_in_the_block_ends_the_tree_and_goes_on(engine: Engine) -> None:
    async def main() -> None:
        async with engine.tree():
            await until(engine.tree_is_up)
            raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        asyncio.run(main())
    assert engine.processes() == []


@pytest.mark.parametrize("loop_turns", [0, 1, 2, 3, 5])
def test_cancelled_while_starting(engine: Engine, loop_turns: int) -> None:
    async def body() -> None:
        async with engine.running("sleep", "60"):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(body())
        for _ in range(loop_turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert engine.processes() == []


def test_cancelled_again_and_again_while_stopping(engine: Engine) -> None:
    async def body() -> None:
        async with engine.running("sh", "-c", IGNORE_SIGTERM, grace_s=0.5):
            await until(engine.says("ready"))

    async def main() -> None:
        task = asyncio.create_task(body())
        await until(engine.says("ready"))
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.05)
        assert task.cancelled()

    asyncio.run(main())
    assert engine.processes() == []


@pytest.mark.parametrize("guards", [(0,), (1,), (0, 1)], ids=["outer", "inner", "both"])
def test_a_tree_whose_guards_are_killed(
    engine: Engine, guards: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> EngineProcess:
        # A plain family: with both guards dead nobody can find what has detached itself.
        async with engine.running("sh", "-c", "sleep 60 & echo ready; wait") as process:
            await until(engine.says("ready"))
            processes = [Process.of(process.pids[level]) for level in guards]
            for guard in processes:
                os.kill(guard.pid, signal.SIGSTOP)  # or the other would see it before its turn
            for guard in processes:
                guard.send(signal.SIGKILL)
            await process.wait()
            await until(lambda: engine.processes() == [])
            return process

    with caplog.at_level(logging.ERROR, "runtimes.supervisor"):
        process = asyncio.run(main())
    both = len(guards) == 2
    assert process.exit_code == (-signal.SIGKILL if both else -signal.SIGTERM)
    assert ("both guards" in caplog.text) == both


def test_the_tree_ends_with_a_killed_supervisor(engine: Engine) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from runtimes.supervisor import EngineProcess

        async def main():
            mark, log, *argv = sys.argv[1:]
            env = {"MARK": mark}
            async with EngineProcess.running(argv, env=env, log_path=Path(log), cwd=Path.cwd()):
                await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    tree = [sys.executable, str(TREE), str(engine.record), "serve"]
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, engine.mark, str(engine.log), *tree]
    )
    try:
        asyncio.run(until(engine.tree_is_up))
        assert len(engine.processes()) == TREE_SIZE + 2
    finally:
        supervisor.kill()
        supervisor.wait()
    asyncio.run(until(lambda: engine.processes() == []))


def run_in_thread(factory: Callable[[], asyncio.AbstractEventLoop], body: Awaitable[T]) -> T:
    """As Ray runs an async actor: a loop of its choice, not in the main thread."""
    results: list[T] = []

    async def awaited() -> T:
        return await body

    def run() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            results.append(runner.run(awaited()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_any_loop_in_any_thread(engine: Engine, loop: str) -> None:
    async def main() -> int:
        async with engine.tree("exit") as process:
            return await process.wait()

    factory = pytest.importorskip(loop).new_event_loop
    body: Coroutine[None, None, int] = main()
    assert run_in_thread(factory, body) == 7
    assert engine.processes() == []


def test_a_held_file_stays_open_until_the_tree_is_gone(engine: Engine) -> None:
    path = engine.folder / "lock"

    def free() -> bool:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    async def main() -> None:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            running = EngineProcess.running(
                ["sh", "-c", IGNORE_SIGTERM],
                env=engine.env,
                log_path=engine.log,
                cwd=engine.folder,
                grace_s=0.2,
                held_fds=(file.fileno(),),
            )
            async with running as process:
                file.close()  # as if this process had died
                await until(engine.says("ready"))
                assert not free()
                await process.stop()
                assert free()

    asyncio.run(main())


def test_a_missing_folder_starts_nothing(engine: Engine) -> None:
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = open_files()

    async def main() -> None:
        started = EngineProcess.running(
            ["sleep", "60"], env=engine.env, log_path=engine.log, cwd=engine.folder / "none"
        )
        with pytest.raises(FileNotFoundError, match="none"):
            async with started:
                raise AssertionError("the block must not be entered")

    asyncio.run(main())
    assert engine.processes() == []
    assert open_files() == before


def tail(engine: Engine, script: str, *, lines: int = 60, max_bytes: int = 32_768) -> str:
    async def main() -> str:
        env = {"HF_TOKEN": "hf_planted_secret"}
        async with engine.running("sh", "-c", script, env=env) as process:
            await process.wait()
            return process.log_tail(lines, max_bytes)

    return asyncio.run(main())


def test_the_tail_has_the_last_lines_of_both_streams(engine: Engine) -> None:
    script = "echo one; echo two; echo three >&2; printf four"
    assert tail(engine, script) == "one\ntwo\nthree\nfour"
    engine.log.unlink()
    assert tail(engine, script, lines=2) == "three\nfour"


def test_a_tail_of_many_bytes_begins_with_a_whole_line(engine: Engine) -> None:
    assert tail(engine, "echo first; echo second; echo third", max_bytes=14) == "second\nthird"


def test_the_tail_shows_no_secret(engine: Engine) -> None:
    assert tail(engine, 'echo "token: $HF_TOKEN."') == f"token: {MASK}."


def test_the_tail_shows_a_progress_bar_as_it_ended(engine: Engine) -> None:
    script = r"printf 'loading\n 10%%\r 50%%\r100%%\nwindows\r\n\377'"
    assert tail(engine, script) == "loading\n100%\nwindows\n\N{REPLACEMENT CHARACTER}"
