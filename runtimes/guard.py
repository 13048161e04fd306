"""Ends an engine's process tree with its owner. A script, run by path; standard library only.

    owner            an actor or a driver
    └── A            outer guard: own session, subreaper, waits for B
        └── B        inner guard: own session, subreaper, watches the owner and A
            └── engine and all it starts

Orphans fall to the nearest subreaper, so whatever the engine starts stays below B, however it
forks, detaches or opens sessions. B ends the tree when the owner dies, when A dies, on SIGTERM
(to A, who passes it on, or to B), and when the engine exits; A ends it when B dies. One guard
would not do: a Ray worker that exits in good order first kills its direct children. A and B
killed at the same instant is the one case left; a living owner covers it (`supervisor.py`).

    python -I -S guard.py --owner-pid PID --grace-s S --status FILE [OPTION VALUE]... -- ARGV...

The owner must be the parent. Ending is SIGTERM to every descendant, a grace, then SIGKILL until
none is left. The grace is `--grace-s` after SIGTERM and `SHORT_GRACE_S` otherwise. FILE must not
exist yet. `--alive-fd`, a pipe's write end, gets a byte at each change of FILE and closes when both
guards are gone. `--afterwards`, a JSON list, is a command that ends what is nobody's descendant (a
container): each guard runs it after its sweep, for `AFTERWARDS_S` at most.

Exit status: the engine's, 128 + n for a signal n; `CANNOT_START`; `NO_OWNER`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

SHORT_GRACE_S = 2.0
"""Time between SIGTERM and SIGKILL when nobody is left to wait for an orderly end."""
CANNOT_START = 127
"""Exit status when the command cannot be executed; the log has a line with the reason."""
NO_OWNER = 125
"""Exit status when the owner was gone before the engine was started."""
AFTERWARDS_S = 40.0
"""Time for the command that runs after a sweep."""

_SWEEP_INTERVAL_S = 0.1
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


class Process(NamedTuple):
    """One process, told from a later one with the same number by when it started.

    Attributes:
        pid: its number.
        started: clock ticks after boot, field 22 of `/proc/PID/stat`.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has `pid` now.

        Raises:
            ProcessLookupError: none has.
        """
        stat = _read_stat(pid)
        if stat is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, stat.started)

    def alive(self) -> bool:
        """True while it runs; one that only waits to be reaped is dead."""
        stat = _read_stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Signal it, and never another that got its number; nothing when it is gone or not ours."""
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


class _Stat(NamedTuple):
    state: str
    parent: int
    started: int


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field, the command, may hold blanks and brackets; the last bracket ends it.
    fields = text.rpartition(")")[2].split()
    return _Stat(fields[0], int(fields[1]), int(fields[19]))


def descendants(root: int) -> list[Process]:
    """Processes below `root`, parents before children, as one pass over /proc shows them."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        stat = _read_stat(int(entry.name)) if entry.name.isdigit() else None
        if stat is not None:
            children.setdefault(stat.parent, []).append(Process(int(entry.name), stat.started))
    found: list[Process] = []
    parents = [root]
    while parents:
        below = children.pop(parents.pop(), [])
        found.extend(below)
        parents.extend(process.pid for process in below)
    return found


class Status(NamedTuple):
    """What the status file says.

    Attributes:
        guard: A.
        inner: B.
        engine: the engine's first process.
        exit_code: the engine's; negative for a signal; None while it lives.
    """

    guard: Process
    inner: Process
    engine: Process
    exit_code: int | None = None

    def write(self, path: Path) -> None:
        """Replace the file in one step, so that a reader sees all of one state."""
        processes = {"guard": self.guard, "inner": self.inner, "engine": self.engine}
        text = json.dumps(
            {name: process.pid for name, process in processes.items()}
            | {"exit_code": self.exit_code}
            | {"started": {name: process.started for name, process in processes.items()}}
        )
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(text)
        draft.replace(path)


def read_status(path: Path) -> Status | None:
    """The status in `path`; None when there is none to read."""
    try:
        values = json.loads(path.read_text())
    except OSError:  # a guard whose disk has gone must sweep all the same
        return None
    started = values["started"]
    guard, inner, engine = (Process(values[name], started[name]) for name in Status._fields[:3])
    return Status(guard, inner, engine, values["exit_code"])


class _Options(NamedTuple):
    owner_pid: int
    grace_s: float
    status: Path
    alive_fd: int | None
    afterwards: list[str]
    argv: list[str]


def _parse(arguments: Sequence[str]) -> _Options:
    end = arguments.index("--")
    flags = dict(zip(arguments[:end:2], arguments[1:end:2], strict=True))
    alive_fd = flags.get("--alive-fd")
    return _Options(
        owner_pid=int(flags["--owner-pid"]),
        grace_s=float(flags["--grace-s"]),
        status=Path(flags["--status"]),
        alive_fd=None if alive_fd is None else int(alive_fd),
        afterwards=json.loads(flags.get("--afterwards", "[]")),
        argv=list(arguments[end + 1 :]),
    )


class _Level:
    """One guard's signals, what it watches, and the children it reaps.

    Made with SIGTERM and SIGCHLD blocked, and unblocks them: none is lost before it can be seen.

    Args:
        options: the command line.
        status: what is known of the tree; None until B has said so.
        watched: handles of processes whose end is an order to sweep, with their names.
    """

    def __init__(
        self, options: _Options, status: Status | None, watched: Mapping[int, str]
    ) -> None:
        self.status = status
        self.terminated = False
        self.bereaved_at_s: float | None = None
        self._options = options
        self._watched = watched
        self._wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        for handle in (self._wake, *watched):
            self._poll.register(handle, select.POLLIN)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGCHLD, self._on_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.terminated = True

    @property
    def must_sweep(self) -> bool:
        """True after SIGTERM, the end of something watched, or the engine's exit."""
        bereaved = self.bereaved_at_s is not None
        return bereaved or self.terminated or self._exit_code is not None

    @property
    def _exit_code(self) -> int | None:
        return self.status.exit_code if self.status is not None else None

    def wait(self, timeout_s: float | None) -> None:
        """Return after a signal, the end of something watched, or `timeout_s`."""
        for handle, _events in self._poll.poll(None if timeout_s is None else timeout_s * 1e3):
            if handle == self._wake:
                os.read(self._wake, 4096)
                continue
            self._poll.unregister(handle)
            self.bereaved_at_s = time.monotonic()
            _log(f"{self._watched[handle]} is gone; ending the engine")

    def save(self) -> None:
        """Publish the status. A full or vanished disk must not keep a guard from its duty."""
        if self.status is None:
            return
        try:
            self.status.write(self._options.status)
        except OSError as error:
            _log(f"cannot write {self._options.status}: {error}")
        if self._options.alive_fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._options.alive_fd, b".")

    def reap(self) -> bool:
        """Reap what has exited. False when no child is left, and so, below a subreaper, nobody."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if self.status is not None and pid == self.status.engine.pid:
                self.status = self.status._replace(exit_code=os.waitstatus_to_exitcode(raw))
                self.save()

    def sweep(self, grace_s: float) -> None:
        """End every descendant; returns when none is left."""
        deadline_s = time.monotonic() + grace_s
        asked: set[Process] = set()
        while self.reap():
            if self.bereaved_at_s is not None:
                deadline_s = min(deadline_s, self.bereaved_at_s + SHORT_GRACE_S)
            late = time.monotonic() >= deadline_s
            for process in descendants(os.getpid()):
                if late:
                    process.send(signal.SIGKILL)
                elif process not in asked:
                    process.send(signal.SIGTERM)
                    asked.add(process)
            self.wait(_SWEEP_INTERVAL_S)

    def end(self, grace_s: float) -> None:
        """End every descendant, then what `--afterwards` ends."""
        self.sweep(grace_s)
        command = self._options.afterwards
        if not command:
            return
        os.posix_spawn(command[0], command, _given_environment())
        deadline_s = time.monotonic() + AFTERWARDS_S
        while self.reap() and time.monotonic() < deadline_s:
            self.wait(_SWEEP_INTERVAL_S)
        self.sweep(0.0)

    def exit_status(self, default: int) -> int:
        """The engine's exit code as a shell shows it; `default` when it is not known."""
        code = default if self._exit_code is None else self._exit_code
        return code if code >= 0 else 128 - code


def _outer(options: _Options) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGCHLD))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    owner_fd = _open_parent(options.owner_pid)
    if owner_fd is None:
        _log(f"the owner (pid {options.owner_pid}) is gone; nothing was started")
        return NO_OWNER
    if options.alive_fd is not None:
        os.set_inheritable(options.alive_fd, False)
    if os.nice(0) > 0:  # Ray runs its workers at 15
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    _become_subreaper()
    outer = Process.of(os.getpid())
    inner_pid = os.fork()
    if inner_pid == 0:
        return _inner(options, owner_fd, outer)
    os.close(owner_fd)
    level = _Level(options, None, {})
    inner_code = _outlive(inner_pid, level)
    # Also after an exit in good order: what B left behind, if it failed, is A's to end.
    level.status = read_status(options.status)
    level.end(SHORT_GRACE_S)
    return level.exit_status(default=inner_code)


def _outlive(inner_pid: int, level: _Level) -> int:
    """Wait for B, passing SIGTERM on. Returns its exit code, negative for a signal."""
    passed_on = False
    while True:
        pid, raw = os.waitpid(inner_pid, os.WNOHANG)
        if pid == inner_pid:
            code = os.waitstatus_to_exitcode(raw)
            if code < 0:
                _log(f"the inner guard was killed by signal {-code}; ending the engine")
            return code
        if level.terminated and not passed_on:
            os.kill(inner_pid, signal.SIGTERM)  # a child not yet reaped: the number is still its
            passed_on = True
        level.wait(None)


def _inner(options: _Options, owner_fd: int, outer: Process) -> int:
    os.setsid()
    _become_subreaper()
    outer_fd = _open_parent(outer.pid)
    if outer_fd is None:
        return NO_OWNER
    engine_pid = os.fork()
    if engine_pid == 0:
        _become_engine(options.argv)
    status = Status(outer, Process.of(os.getpid()), Process.of(engine_pid))
    owner = f"the owner (pid {options.owner_pid})"
    level = _Level(options, status, {owner_fd: owner, outer_fd: "the outer guard"})
    level.save()
    while level.reap() and not level.must_sweep:
        level.wait(None)
    level.end(options.grace_s if level.terminated else SHORT_GRACE_S)
    return level.exit_status(default=CANNOT_START)


def _become_engine(argv: list[str]) -> NoReturn:
    try:
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray blocks SIGINT in its workers
        os.execvpe(argv[0], argv, _given_environment())
    except (OSError, ValueError) as error:
        _log(f"cannot start {argv[0]!r}: {error}")
    finally:
        os._exit(CANNOT_START)


def _given_environment() -> dict[bytes, bytes]:
    """The environment this script was started with, without the LC_CTYPE that Python adds."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def _open_parent(pid: int) -> int | None:
    """A handle on `pid` if it is, still, the parent; None when the parent has died."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Asked after opening: as long as it is the parent its number cannot have gone to another.
    return handle if os.getppid() == pid else None


def _become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) was refused")


def _log(message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"servetune guard: {message}\n".encode())


if __name__ == "__main__":
    sys.exit(_outer(_parse(sys.argv[1:])))
