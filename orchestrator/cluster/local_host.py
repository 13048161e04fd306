"""The process behind `LocalCluster`: orders in, events out, over one inherited socket."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import TypeAlias

from orchestrator.cluster.host import BundleHost
from orchestrator.logs import configure_child
from orchestrator.messages import FromTrial, ReturnedGpu, TrialOrder, WatchOrder, undelivered

Message: TypeAlias = tuple[int, int, bytes | None] | WatchOrder
"""Trial, attempt, and the packed order to start it, None to cancel it; or a device to watch."""


class LocalHost:
    """Serves one driver until it says goodbye or is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._host = BundleHost()
        self._goodbye = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        await self._goodbye.wait()
        await self._host.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                message: Message | None = self._connection.recv()
            except (EOFError, OSError):
                message = None
            loop.call_soon_threadsafe(self._handle, message)
            if message is None:
                return

    def _handle(self, message: Message | None) -> None:
        if message is None:
            self._goodbye.set()
            return
        if isinstance(message, WatchOrder):
            self._keep(asyncio.ensure_future(self._watch(message)))
            return
        number, attempt, packed = message
        if packed is None:
            self._host.cancel(number, attempt)
            return
        self._keep(asyncio.ensure_future(self._run(number, attempt, packed)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, order: WatchOrder) -> None:
        if await self._host.returned(order.gpu):
            event = ReturnedGpu(order.bundle_id, order.gpu.gpu)
            await asyncio.to_thread(self._send, event)

    async def _run(self, number: int, attempt: int, packed: bytes) -> None:
        try:
            order: TrialOrder = pickle.loads(packed)  # from our own driver
        except Exception as error:  # noqa: BLE001  # whatever a user's class raises as it is unpacked
            done = undelivered(error, f"the trial's order cannot be read here: {error}")
            await asyncio.to_thread(self._send, FromTrial(number, attempt, done))
            return
        async for event in self._host.run(order):
            await asyncio.to_thread(self._send, FromTrial(number, attempt, event))

    def _send(self, event: FromTrial | ReturnedGpu) -> None:
        with self._lock:
            try:
                self._connection.send(event)
            except OSError:
                # The driver is gone; the reader ends this process in good order.
                return


def main() -> None:
    """Entry point; the one argument is the number of the inherited socket."""
    # Ctrl-C belongs to the driver, which cancels trials in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_child()
    asyncio.run(LocalHost(Connection(int(sys.argv[1]))).serve())


if __name__ == "__main__":
    main()
