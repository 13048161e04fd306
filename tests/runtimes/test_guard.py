"""The guard on real process trees: whatever is killed, nothing of the tree is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from runtimes import guard
from runtimes.guard import Process, Status, descendants, read_status
from tests.runtimes.waiting import DEADLINE_S, wait_until

HERE = Path(__file__).parent
TREE_SIZE = 7


class Guarded:
    """A guarded command with an owner that can be killed; keeps all pids with their start."""

    def __init__(self, folder: Path) -> None:
        self.record = folder / "record"
        self.status_path = folder / "state" / "status.json"
        self.status_path.parent.mkdir()
        self.log = folder / "log"
        self.afterwards: list[str] = []
        self._owners: list[subprocess.Popen[bytes]] = []

    def start(self, argv: Sequence[str], *, grace_s: float = 1.0) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(HERE / "process_owner.py"), guard.__file__]
        command += ["--grace-s", str(grace_s), "--status", str(self.status_path)]
        if self.afterwards:
            command += ["--afterwards", json.dumps(self.afterwards)]
        command += ["--", *argv]
        with self.log.open("ab") as log:
            owner = subprocess.Popen(command, stdout=log, stderr=log)
        self._owners.append(owner)
        return owner

    def start_tree(
        self, ending: str = "serve", *, grace_s: float = 1.0
    ) -> tuple[subprocess.Popen[bytes], Status]:
        """Start the tree; returns its owner and the guard's status once every process is up."""
        tree = [sys.executable, str(HERE / "process_tree.py"), str(self.record), ending]
        owner = self.start(tree, grace_s=grace_s)
        assert wait_until(lambda: len(self.tree()) >= TREE_SIZE), self.log.read_text()
        assert wait_until(self.status_path.exists), self.log.read_text()
        return owner, self.status()

    def status(self) -> Status:
        status = read_status(self.status_path)
        assert status is not None
        return status

    def tree(self) -> list[Process]:
        """Every process of the tree so far, whether it still lives or not."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [Process(int(line.split()[1]), int(line.split()[2])) for line in lines]

    def survivors(self) -> list[Process]:
        return [process for process in self.tree() if process.alive()]

    def clean_up(self) -> None:
        """Kill what a broken guard left."""
        for owner in self._owners:
            owner.kill()
            owner.wait()
        for process in self.tree():
            process.send(signal.SIGKILL)
        status = read_status(self.status_path)
        for process in () if status is None else status[:3]:
            process.send(signal.SIGKILL)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    started = Guarded(tmp_path)
    yield started
    started.clean_up()


Fault = Callable[[Guarded, "subprocess.Popen[bytes]", Status], None]


def kill_owner(_guarded: Guarded, owner: subprocess.Popen[bytes], _status: Status) -> None:
    owner.kill()


def kill_outer(_guarded: Guarded, owner: subprocess.Popen[bytes], status: Status) -> None:
    owner.send_signal(signal.SIGSTOP)  # or it would end with the guard it waits for
    status.guard.send(signal.SIGKILL)


def kill_inner(_guarded: Guarded, _owner: subprocess.Popen[bytes], status: Status) -> None:
    status.inner.send(signal.SIGKILL)


def kill_outer_and_owner(_guarded: Guarded, owner: subprocess.Popen[bytes], status: Status) -> None:
    status.guard.send(signal.SIGKILL)
    owner.kill()


def kill_engine(_guarded: Guarded, _owner: subprocess.Popen[bytes], status: Status) -> None:
    status.engine.send(signal.SIGKILL)


def terminate_outer(_guarded: Guarded, _owner: subprocess.Popen[bytes], status: Status) -> None:
    status.guard.send(signal.SIGTERM)


def terminate_inner(_guarded: Guarded, _owner: subprocess.Popen[bytes], status: Status) -> None:
    status.inner.send(signal.SIGTERM)


def lose_disk_then_inner(guarded: Guarded, _owner: subprocess.Popen[bytes], status: Status) -> None:
    shutil.rmtree(guarded.status_path.parent)
    status.inner.send(signal.SIGKILL)


def lose_disk_then_owner(guarded: Guarded, owner: subprocess.Popen[bytes], _status: Status) -> None:
    shutil.rmtree(guarded.status_path.parent)
    owner.kill()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(kill_owner, id="owner-killed"),
        pytest.param(kill_outer, id="outer-killed"),
        pytest.param(kill_inner, id="inner-killed"),
        pytest.param(kill_outer_and_owner, id="outer-and-owner-killed"),
        pytest.param(kill_engine, id="engine-killed"),
        pytest.param(terminate_outer, id="outer-terminated"),
        pytest.param(terminate_inner, id="inner-terminated"),
        pytest.param(lose_disk_then_inner, id="status-lost-inner-killed"),
        pytest.param(lose_disk_then_owner, id="status-lost-owner-killed"),
    ],
)
def test_nothing_survives(guarded: Guarded, fault: Fault) -> None:
    owner, status = guarded.start_tree()
    assert len(guarded.survivors()) == TREE_SIZE
    fault(guarded, owner, status)
    assert wait_until(lambda: not (status.guard.alive() or status.inner.alive()))
    assert guarded.survivors() == []


def test_a_dying_owner_cuts_a_long_grace_short(guarded: Guarded) -> None:
    owner, status = guarded.start_tree("ignore", grace_s=600.0)
    status.guard.send(signal.SIGTERM)
    assert wait_until(lambda: len(guarded.survivors()) < TREE_SIZE)  # the sweep has begun
    owner.kill()
    assert wait_until(lambda: not (status.guard.alive() or status.inner.alive()))
    assert guarded.survivors() == []


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [pytest.param("exit", 7, id="exit"), pytest.param("abort", -signal.SIGABRT, id="abort")],
)
def test_an_engine_that_ends_takes_its_tree_along(
    guarded: Guarded, ending: str, exit_code: int
) -> None:
    owner, status = guarded.start_tree(ending)
    assert owner.wait(DEADLINE_S) == (exit_code if exit_code >= 0 else 128 - exit_code)
    assert guarded.survivors() == []
    assert not status.inner.alive()
    assert guarded.status().exit_code == exit_code


@pytest.mark.parametrize(
    ("ending", "fault", "ended_by"),
    [
        pytest.param("serve", terminate_outer, signal.SIGTERM, id="terminated"),
        pytest.param("ignore", terminate_outer, signal.SIGKILL, id="stubborn"),
        pytest.param("serve", kill_engine, signal.SIGKILL, id="engine-killed"),
        pytest.param("serve", kill_inner, signal.SIGTERM, id="inner-killed"),
        pytest.param("ignore", kill_inner, signal.SIGKILL, id="inner-killed-stubborn"),
    ],
)
def test_the_signal_that_ended_the_engine_is_reported(
    guarded: Guarded, ending: str, fault: Fault, ended_by: signal.Signals
) -> None:
    owner, status = guarded.start_tree(ending)
    fault(guarded, owner, status)
    assert owner.wait(DEADLINE_S) == 128 + ended_by
    assert guarded.status() == status._replace(exit_code=-ended_by)


def test_a_killed_guard_is_named_in_the_log(guarded: Guarded) -> None:
    owner, status = guarded.start_tree()
    kill_inner(guarded, owner, status)
    owner.wait(DEADLINE_S)
    assert "inner guard was killed by signal 9; ending the engine" in guarded.log.read_text()


def test_the_status_names_the_three_processes(guarded: Guarded) -> None:
    owner, status = guarded.start_tree()
    assert descendants(owner.pid)[:3] == [status.guard, status.inner, status.engine]
    assert status.engine in guarded.tree()
    assert status.exit_code is None
    sessions = {os.getsid(process.pid) for process in (status.guard, status.inner, status.engine)}
    assert sessions == {status.guard.pid, status.inner.pid, status.engine.pid}


def test_guards_ignore_what_a_terminal_sends(guarded: Guarded) -> None:
    _owner, status = guarded.start_tree()
    for process in (status.guard, status.inner):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
        assert ignored & 1 << (signal.SIGINT - 1)
        assert ignored & 1 << (signal.SIGHUP - 1)


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "not-executable"])
def test_a_command_that_cannot_start_is_reported(
    guarded: Guarded, tmp_path: Path, missing: bool
) -> None:
    command = tmp_path / "engine"
    if not missing:
        command.write_text("not a program")
    owner = guarded.start([str(command), "--port", "1"])
    assert owner.wait(DEADLINE_S) == guard.CANNOT_START
    assert guarded.status().exit_code == guard.CANNOT_START
    assert f"servetune guard: cannot start '{command}': " in guarded.log.read_text()


def test_signals_are_at_their_defaults_in_the_engine(guarded: Guarded) -> None:
    owner = guarded.start(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
    assert owner.wait(DEADLINE_S) == 0
    blocked_name, blocked, ignored_name, ignored = guarded.log.read_text().split()
    assert (blocked_name, ignored_name) == ("SigBlk:", "SigIgn:")
    assert int(blocked, 16) == 0
    # 32 and 33 belong to the C library: nobody can set them, whoever ignored them before us.
    assert int(ignored, 16) & ~(0b11 << 31) == 0


def may_lower_niceness() -> bool:
    code = "import os; os.nice(15); os.setpriority(os.PRIO_PROCESS, 0, 0)"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return probe.returncode == 0


def test_the_niceness_of_ray_workers_is_undone_where_permitted(guarded: Guarded) -> None:
    owner = guarded.start(["nice"])
    assert owner.wait(DEADLINE_S) == 0
    assert guarded.log.read_text().strip() == ("0" if may_lower_niceness() else "15")


def run_guard(
    owner_pid: int, folder: Path, argv: Sequence[str], env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", guard.__file__, "--owner-pid", str(owner_pid)]
    command += ["--grace-s", "1", "--status", str(folder / "status"), "--", *argv]
    return subprocess.run(command, capture_output=True, check=False, text=True, env=env)


def test_the_engine_gets_the_environment_it_was_given(tmp_path: Path) -> None:
    # No locale is set, so Python adds LC_CTYPE to its own environment.
    given = {"PATH": os.environ["PATH"], "EMPTY": "", "EQUATION": "a=b=c"}
    ended = run_guard(os.getpid(), tmp_path, ["env"], given)
    assert ended.returncode == 0
    assert dict(line.split("=", 1) for line in ended.stdout.splitlines()) == given


def test_nothing_starts_for_an_owner_that_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    marker = tmp_path / "started"
    for pid in (gone.pid, os.getppid()):  # a dead process, and a living one that is not the parent
        ended = run_guard(pid, tmp_path, ["touch", str(marker)])
        assert ended.returncode == guard.NO_OWNER
        assert f"the owner (pid {pid}) is gone; nothing was started" in ended.stderr
        assert not marker.exists()


def test_a_number_alone_does_not_make_a_process_ours() -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        process = Process.of(other.pid)
        recycled = process._replace(started=process.started - 1)
        recycled.send(signal.SIGKILL)
        assert not recycled.alive()
        assert process.alive()
        process.send(signal.SIGTERM)
        assert other.wait(DEADLINE_S) == -signal.SIGTERM  # not the SIGKILL sent first
    finally:
        other.kill()
        other.wait()
    with pytest.raises(ProcessLookupError, match=f"no process {other.pid}"):
        Process.of(other.pid)


def append_to(path: Path, text: str) -> list[str]:
    """A command that adds a line to `path`."""
    return [sys.executable, "-I", "-c", f"open({str(path)!r}, 'a').write({text + chr(10)!r})"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(kill_owner, id="owner-killed"),
        pytest.param(kill_outer, id="outer-killed"),
        pytest.param(kill_inner, id="inner-killed"),
        pytest.param(kill_engine, id="engine-killed"),
        pytest.param(terminate_outer, id="outer-terminated"),
        pytest.param(lose_disk_then_inner, id="status-lost-inner-killed"),
    ],
)
def test_a_command_runs_after_the_sweep_whoever_is_killed(
    guarded: Guarded, tmp_path: Path, fault: Fault
) -> None:
    ended = tmp_path / "ended"
    guarded.afterwards = append_to(ended, "swept")
    owner, status = guarded.start_tree()
    assert not ended.exists()
    fault(guarded, owner, status)
    assert wait_until(lambda: not (status.guard.alive() or status.inner.alive()))
    assert guarded.survivors() == []
    assert set(ended.read_text().split()) == {"swept"}


def test_a_command_that_hangs_afterwards_does_not_outlive_a_second_order(
    guarded: Guarded, tmp_path: Path
) -> None:
    hanging = tmp_path / "hanging"
    script = f"import os, time; open({str(hanging)!r}, 'a').write(f'{{os.getpid()}}\\n')"
    guarded.afterwards = [sys.executable, "-I", "-c", f"{script}; time.sleep(600)"]
    owner, status = guarded.start_tree()
    status.guard.send(signal.SIGTERM)
    assert wait_until(lambda: hanging.exists() and hanging.read_text().endswith("\n"))
    pid = Process.of(int(hanging.read_text().split()[0]))
    status.inner.send(signal.SIGKILL)
    assert wait_until(lambda: len(hanging.read_text().split()) == 2)
    assert not pid.alive()
    second = Process.of(int(hanging.read_text().split()[1]))
    status.guard.send(signal.SIGKILL)
    second.send(signal.SIGKILL)
    owner.wait(DEADLINE_S)
