"""The run lock, against real second processes."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtimes.errors import RunFolderError
from tests.unprivileged import refused
from tracking.lock import RunLock, is_locked

_DEADLINE_S = 60.0

_HOLDER = """
import subprocess, sys
from pathlib import Path
from tracking.lock import RunLock
with RunLock(Path(sys.argv[1])):
    engine = subprocess.Popen(["sleep", "600"])
    print(engine.pid, flush=True)
    sys.stdin.readline()
    engine.kill()
    engine.wait()
"""


@contextmanager
def _holder(path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the lock until a line comes, and the pid of a program it started."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_the_second_holder_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with _holder(path) as (process, _):
        with pytest.raises(RunFolderError) as raised, RunLock(path):
            pytest.fail("two holders")
        assert f"process {process.pid} on {socket.gethostname()}" in str(raised.value)
        assert str(tmp_path) in str(raised.value)
        process.communicate("leave\n", timeout=_DEADLINE_S)
        with RunLock(path):
            assert str(os.getpid()) in path.read_text()
    assert path.read_text() == ""


def test_a_killed_holder_leaves_no_lock_even_while_its_programs_live(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with _holder(path) as (process, engine_pid):
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=_DEADLINE_S) == -signal.SIGKILL
        try:
            os.kill(engine_pid, 0)
            with RunLock(path):
                assert str(process.pid) not in path.read_text()
        finally:
            os.kill(engine_pid, signal.SIGKILL)


def test_watchers_see_whether_a_driver_is_there(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with _holder(path) as (process, _):
        assert is_locked(path)
        assert is_locked(path)
        process.communicate("leave\n", timeout=_DEADLINE_S)
        assert path.exists()
        assert not is_locked(path)


def test_a_watchers_look_keeps_neither_a_watcher_nor_a_driver_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert not is_locked(path)
    look = threading.Timer(0.05, os.close, [descriptor])
    look.start()
    with RunLock(path):
        assert is_locked(path)
    look.join()


def test_one_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with RunLock(path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} on"), RunLock(path):
            pytest.fail("two holders")
        with pytest.raises(RunFolderError), RunLock(path):
            pytest.fail("the failed attempt let go of the first holder's lock")


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), RunLock(path):
        raise KeyError
    with RunLock(path):
        assert path.exists()


def test_no_folder_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "lock"
    with pytest.raises(RunFolderError, match=f"{path}: .*No such file"), RunLock(path):
        pytest.fail("locked nothing")


def test_a_lock_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with refused(path), pytest.raises(RunFolderError, match=f"{path}: .*: Permission denied"):
        is_locked(path)
