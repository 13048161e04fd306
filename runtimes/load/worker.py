"""A process of `LoadWorkers`: sends its share of each stage from an event loop of its own.

    python -m runtimes.load.worker

Standard input is a socket to the parent (`runtimes/load/wire.py`); the process ends when that
closes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import traceback
from collections.abc import Coroutine

import uvloop

from runtimes.errors import EngineError
from runtimes.load.balanced import balanced
from runtimes.load.http import HttpClient
from runtimes.load.oversight import LOOK_EVERY_S
from runtimes.load.sender import Sender, Share
from runtimes.load.shares import PlannedSession
from runtimes.load.wire import (
    Broken,
    Command,
    Ended,
    Prepare,
    Ready,
    Reported,
    Sessions,
    Setup,
    Start,
    Unable,
    packed,
    received,
)


class Worker:
    """One process's end of the socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, setup: Setup
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._client = balanced(
            [
                HttpClient(
                    one.host,
                    one.port,
                    api_key=setup.api_key,
                    base_path=one.path,
                    tls=one.tls_context(),
                )
                for one in setup.servers
            ],
            first=setup.first,
        )
        self._prepare: Prepare | None = None
        self._sessions: list[PlannedSession] = []
        self._sender: Sender | None = None
        self._task: asyncio.Task[None] | None = None
        asyncio.get_running_loop().set_exception_handler(self._on_stray_exception)

    async def serve(self) -> None:
        """Do as the parent says until it closes the socket."""
        while True:
            try:
                message = await received(self._reader)
            except EOFError:
                return
            self._obey(message)

    async def guarded(self, work: Coroutine[None, None, None]) -> None:
        """Do `work`, and tell the parent what it lacks, or of a bug in it."""
        try:
            await work
        except EngineError as error:
            self._say(Unable(error.failure))
        except Exception:  # noqa: BLE001  # the boundary of a process: a bug is told to its parent
            self._say(Broken(self._client.mask(traceback.format_exc())))

    def _obey(self, message: object) -> None:
        match message:
            case Prepare():
                self._end_run()
                self._prepare = message
                self._sessions = []
            case Sessions(sessions):
                self._sessions += sessions
            case Command.OPEN if self._prepare is not None:
                self._do(self._open(self._prepare))
            case Start(start_ns) if self._prepare is not None and self._sender is not None:
                self._do(self._run(self._prepare.run, self._sender, start_ns))
            case Command.STOP if self._sender is not None:
                self._sender.stop()
            case Command.CANCEL:
                self._end_run()
            case Command.GIVE_UP:
                self._client.give_up()

    async def _open(self, prepare: Prepare) -> None:
        share = Share(prepare.job, self._sessions, prepare.worker, prepare.workers)
        sender = Sender(self._client, share)
        self._sessions = []
        await sender.prepare()
        self._sender = sender
        # What is there now stays until the end: later collections need not look at it.
        gc.collect()
        gc.freeze()
        self._say(Ready(prepare.run))

    async def _run(self, run: int, sender: Sender, start_ns: int) -> None:
        sender.start(start_ns)
        while not sender.done.done():
            await asyncio.wait({sender.done}, timeout=LOOK_EVERY_S)
            self._say(Reported(run, sender.report()))
        self._say(Ended(run, sender.health()))
        gc.unfreeze()

    def _end_run(self) -> None:
        """End the requests of the stage under way, or its preparation."""
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None
        elif self._task is not None:
            self._task.cancel()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self.guarded(work))

    def _say(self, message: object) -> None:
        self._writer.write(packed(message))

    def _on_stray_exception(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, object]
    ) -> None:
        """A bug in a callback of the loop, which nobody awaits; what a socket does is none."""
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            words = "".join(traceback.format_exception(error))
            self._say(Broken(self._client.mask(words)))


def _allow_descriptors() -> None:
    """Let this process open as many files as it may: each stream is a connection.

    The usual soft limit, 1024, is for programs that use `select`.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(channel: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    setup = await received(reader)
    assert isinstance(setup, Setup)
    worker = Worker(reader, writer, setup)
    await worker.guarded(worker.serve())


def main() -> None:
    """Serve the parent until it is gone."""
    _allow_descriptors()
    channel = socket.socket(fileno=os.dup(0))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(channel))


if __name__ == "__main__":
    main()
