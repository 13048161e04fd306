"""Owns an engine's processes from an event loop, through the two-level guard of `guard.py`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from runtimes import end_container, guard
from runtimes.secrets import mask, secret_values

_logger = logging.getLogger(__name__)

_SCRUBBED = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",  # the caller says which devices; an inherited answer is another's
        "OMP_NUM_THREADS",  # Ray sets 1
        "PYTHONBREAKPOINT",  # Ray's debugger, which the engine's interpreter has not got
        "PYTHONHOME",
        "PYTHONPATH",  # Ray's and ours; our package names would shadow the engine's modules
        "VIRTUAL_ENV",
    }
)
# The last one is what engines that listen everywhere take for their own address.
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """A container that a process runs as the client of, and that does not end with it.

    Attributes:
        program: path of `docker` or `podman`.
        id_file: where the client writes the container's id (`--cidfile`); must not exist before.
    """

    program: str
    id_file: Path

    @property
    def ending(self) -> list[str]:
        """The command that ends it; does nothing the second time."""
        script = str(Path(end_container.__file__))
        return [sys.executable, "-I", "-S", script, self.program, str(self.id_file.absolute())]


class EngineProcess:
    """An engine and all it starts, owned by the block that runs it.

    Made by `running` only. Its processes end when the block is left, when `stop` is called and
    when this process dies, whatever way. All methods belong to the loop that started it.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        alive_fd: int,
        *,
        log_path: Path,
        status_path: Path,
        secrets: Sequence[str],
        container: ContainerRef | None = None,
    ) -> None:
        self.log_path = log_path
        self.status_path = status_path
        self._popen = popen
        self._alive_fd = alive_fd
        self._secrets = secrets
        self._container = container
        self._status: guard.Status | None = None
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(alive_fd, self._on_change)

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log_path: Path,
        cwd: Path,
        grace_s: float = 10.0,
        container: ContainerRef | None = None,
        held_fds: Sequence[int] = (),
    ) -> AsyncIterator[EngineProcess]:
        """Start `argv`; leaving the block ends the whole tree and waits until it is gone.

        A command that cannot be executed is not an error here: its exit code is 127 and the log
        says why.

        Args:
            argv: the command; its first part is looked for on the PATH of `env`.
            env: the engine's whole environment (see `engine_environment`).
            log_path: gets stdout and stderr, appended; one file per start, its folder is made.
                The status file of the guard stands beside it, with `.pids.json` added.
            cwd: working folder of the engine.
            grace_s: time between SIGTERM and SIGKILL.
            container: what `argv` is the client of; ended by its id when the tree ends.
            held_fds: files that stay open until the whole tree is gone, also when this process
                dies first: a lock held so is not free before the last writer has ended.

        Raises:
            OSError: the log cannot be written or `cwd` does not exist; nothing was started.
        """
        process = cls._spawn(
            argv,
            env=env,
            log_path=log_path,
            cwd=cwd,
            grace_s=grace_s,
            container=container,
            held_fds=held_fds,
        )
        try:
            await asyncio.wait({process._started})
            yield process
        finally:
            await process.stop()

    @classmethod
    def _spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log_path: Path,
        cwd: Path,
        grace_s: float,
        container: ContainerRef | None,
        held_fds: Sequence[int],
    ) -> EngineProcess:
        """Start the guard without a single await, so that no cancellation can lose it.

        `subprocess` and a pipe serve every loop in every thread (Ray runs actors on uvloop beside
        the main thread); the loops' own subprocess support does not.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        status_path = log_path.with_name(log_path.name + ".pids.json").absolute()
        status_path.unlink(missing_ok=True)
        reader, writer = os.pipe()
        options = ["--owner-pid", str(os.getpid()), "--grace-s", str(grace_s)]
        options += ["--status", str(status_path), "--alive-fd", str(writer)]
        if container is not None:
            options += ["--afterwards", json.dumps(container.ending)]
        try:
            with log_path.open("ab") as log:
                popen = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__, *options, "--", *argv],
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(writer, *held_fds),
                )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return cls(
            popen,
            reader,
            log_path=log_path,
            status_path=status_path,
            secrets=secret_values(env),
            container=container,
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """(guard, inner guard, engine); the guard alone if it ended before starting one."""
        if self._status is None:
            return (self._popen.pid,)
        return (self._status.guard.pid, self._status.inner.pid, self._status.engine.pid)

    @property
    def exit_code(self) -> int | None:
        """The engine's own, negative for a signal; None while it lives. Its children may linger."""
        if self._gone.done():
            return self._gone.result()
        return self._status.exit_code if self._status is not None else None

    async def wait(self) -> int:
        """Wait until the engine and all it started are gone; returns the engine's exit code."""
        return await asyncio.shield(self._gone)

    async def stop(self) -> None:
        """End the tree and return when it is gone; may be repeated.

        A cancellation is delivered afterwards: nobody goes on while a device is still in use.
        """
        if not self._gone.done():
            self._popen.terminate()
        cancellation: asyncio.CancelledError | None = None
        while not self._gone.done():
            try:
                await asyncio.wait({self._gone})
            except asyncio.CancelledError as error:
                cancellation = error
        if cancellation is not None:
            raise cancellation

    def log_tail(self, lines: int = 60, max_bytes: int = 32_768) -> str:
        """The log's last `lines` lines, of its last `max_bytes`; secrets in `env` are masked.

        A line overwritten by carriage returns, as progress bars are, is shown as it ended up.
        """
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - max_bytes))
            text = log.read(max_bytes).decode(errors="replace")
        whole = text.splitlines() if "\r" not in text else _without_progress(text)
        if size > max_bytes and len(whole) > 1:
            del whole[0]
        return mask("\n".join(whole[-lines:]), self._secrets)

    def _on_change(self) -> None:
        notice = os.read(self._alive_fd, 4096)
        self._status = guard.read_status(self.status_path) or self._status
        if not notice:
            self._loop.remove_reader(self._alive_fd)
            os.close(self._alive_fd)
            # Both guards have closed their files, so A is in its last microseconds or reaped.
            self._conclude(self._popen.wait())
        if not self._started.done():
            self._started.set_result(None)

    def _conclude(self, guard_code: int) -> None:
        status = self._status
        if status is not None and status.exit_code is not None:
            self._gone.set_result(status.exit_code)
            return
        if status is not None:
            self._end_unguarded(status.engine)
        if self._container is None:
            self._gone.set_result(guard_code)
            return
        ended = self._loop.run_in_executor(None, _run, self._container.ending)
        ended.add_done_callback(lambda _ended: self._gone.set_result(guard_code))

    def _end_unguarded(self, engine: guard.Process) -> None:
        """Kill what can still be found of a tree whose two guards were killed together."""
        if not engine.alive():
            return
        _logger.error("both guards of engine process %d were killed; killing it", engine.pid)
        for process in (*guard.descendants(engine.pid), engine):
            process.send(signal.SIGKILL)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _without_progress(text: str) -> list[str]:
    return [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]


def engine_environment(
    base: Mapping[str, str],
    *,
    extra: Mapping[str, str],
    secrets: Mapping[str, str],
    visible_devices: Sequence[str] | None,
    hosts: Sequence[str] = (),
) -> dict[str, str]:
    """The environment an engine gets.

    From `base` go Ray's variables (`RAY_*`), the thread count Ray sets for its workers, and what
    points a Python at modules or a virtual environment that are not the engine's. Loopback is
    added to the hosts that no proxy serves, since clients reach the engine there, and `hosts` are.

    Args:
        base: usually `os.environ`.
        extra: the user's variables; they win over scrubbing.
        secrets: variables that reach the engine only this way.
        visible_devices: ids for CUDA_VISIBLE_DEVICES, which win over `extra`, since devices
            outside the allocation belong to others; None for simulated devices removes it.
        hosts: addresses at which processes of the deployment listen beside loopback.
    """
    environment = {
        name: value
        for name, value in base.items()
        if name not in _SCRUBBED and not name.startswith("RAY_")
    }
    environment |= {**extra, **secrets}
    # Programs differ in the spelling they read first, so both say the same.
    unproxied = _with_hosts(_no_proxy(extra) or _no_proxy(base), hosts)
    environment |= {"no_proxy": unproxied, "NO_PROXY": unproxied}
    if visible_devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible_devices)
    return environment


def _no_proxy(variables: Mapping[str, str]) -> str:
    return variables.get("no_proxy") or variables.get("NO_PROXY") or ""


def _with_hosts(no_proxy: str, added: Sequence[str]) -> str:
    if no_proxy.strip() == "*":  # "nothing goes through a proxy"; in a list it loses that meaning
        return "*"
    hosts = [host.strip() for host in no_proxy.split(",") if host.strip()]
    return ",".join(dict.fromkeys([*hosts, *_LOOPBACK, *added]))
