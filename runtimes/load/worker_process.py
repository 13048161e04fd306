"""One process of `LoadWorkers`, seen from its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from runtimes.errors import EngineError, InternalError, ServetuneError
from runtimes.failure import Failure, FailureKind
from runtimes.load.wire import Setup, packed, received
from runtimes.secrets import is_secret_name

_END_WITHIN_S = 5.0
_LOG_TAIL_BYTES = 4096
_READ_AT_ONCE_BYTES = 1 << 20


class WorkerProcess:
    """A process that runs `runtimes.load.worker`; made by `started`.

    `subprocess` and a socket serve every loop in every thread; the loops' own subprocess support
    does not.

    Attributes:
        on_message: called with each message; set it before anything is asked.
        on_gone: called with why the process ended, unless it was closed.
        gone: why the process ended; None while it runs.
    """

    def __init__(self, popen: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._popen = popen
        self._log = log
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self.on_message: Callable[[object], None] | None = None
        self.on_gone: Callable[[ServetuneError], None] | None = None
        self.gone: ServetuneError | None = None

    @classmethod
    async def started(cls, setup: Setup) -> WorkerProcess:
        """Start a process.

        It gets this one's environment without what looks like a secret, and finds modules where
        this one does: Ray workers and checkouts have our packages on `sys.path`, not installed.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        with theirs:
            process = cls(_spawned(theirs, log, setup), log)
        reader, process._writer = await asyncio.open_unix_connection(
            sock=ours, limit=_READ_AT_ONCE_BYTES
        )
        process._listening = asyncio.ensure_future(process._listen(reader))
        process.send(packed(setup))
        return process

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, data: bytes) -> None:
        """Send a packed message; to a process that is gone, nothing is sent."""
        if self._writer is not None and self.gone is None:
            self._writer.write(data)

    async def drained(self) -> None:
        """Return when the process has taken most of what was sent."""
        if self._writer is not None and self.gone is None:
            try:
                await self._writer.drain()
            except ConnectionError:
                return  # `on_gone` will say why

    async def close(self) -> None:
        """End the process and return when it is gone. Idempotent."""
        self.on_message = self.on_gone = None
        if self._writer is not None:
            self._writer.close()
        if self._listening is not None:
            await self._listening
        self._log.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                message = await received(reader)
            except EOFError:
                break
            if self.on_message is not None:
                self.on_message(message)
        self.gone = await asyncio.to_thread(self._why)
        if self._writer is not None:
            self._writer.close()
        if self.on_gone is not None:
            self.on_gone(self.gone)

    def _why(self) -> ServetuneError:
        """Wait for the process, and say why it ended."""
        try:
            code = self._popen.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            code = self._popen.wait()
        name = f"load worker {self.pid}"
        if code < 0:
            kind, remedy = FailureKind.INTERNAL, "See what sent the signal."
            if -code == signal.SIGKILL:
                kind = FailureKind.HOST_OUT_OF_MEMORY
                remedy = "The machine probably ran out of memory; see its kernel log."
            words = f"{name} was killed by {signal.Signals(-code).name}"
            return EngineError(Failure(kind, words, remedy))
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        tail = self._log.read().decode(errors="replace").strip()
        return InternalError(f"{name} ended with exit code {code}:\n{tail}")


def _spawned(channel: socket.socket, log: IO[bytes], setup: Setup) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: the working folder may hold modules that are nobody's here.
        [sys.executable, "-P", "-m", "runtimes.load.worker"],
        stdin=channel.fileno(),
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(setup.api_key),
        start_new_session=True,  # Ctrl-C is for the parent, which ends it in good order
    )


def _environment(api_key: str | None) -> dict[str, str]:
    """The variables of this process but for secrets, and where modules are found."""
    root = str(Path(__file__).resolve().parents[2])
    path = [root, *(entry or str(Path.cwd()) for entry in sys.path)]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not is_secret_name(name) and not (api_key and api_key in value)
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}
