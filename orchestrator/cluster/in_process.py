"""A bundle inside this process: for tests, notebooks and one machine without Ray."""

from __future__ import annotations

import asyncio
import platform
import threading
from collections.abc import Sequence

from orchestrator.cluster.base import ClusterSettings, Deliver, own_bundle
from orchestrator.cluster.host import BundleHost
from orchestrator.messages import FoundBundle, FromTrial, LostBundle, ReturnedGpu, TrialOrder
from runtimes.telemetry.release import DirtyGpu

_BUNDLE = "this-process"


class InProcessCluster:
    """Runs attempts on an event loop in a thread of this process."""

    def __init__(self, settings: ClusterSettings, deliver: Deliver) -> None:
        self._settings = settings
        self._deliver = deliver
        self._loop = asyncio.new_event_loop()
        self._host = BundleHost()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        bundle = own_bundle(self._settings, _BUNDLE, platform.node())
        self._thread = threading.Thread(target=self._loop.run_forever, name="servetune-bundle")
        self._thread.start()
        self._deliver(FoundBundle(bundle))

    def launch(self, order: TrialOrder) -> None:
        asyncio.run_coroutine_threadsafe(self._run(order), self._loop)

    def cancel(self, bundle_id: str, number: int, attempt: int) -> None:
        self._loop.call_soon_threadsafe(self._host.cancel, number, attempt)

    def watch(self, bundle_id: str, gpu: DirtyGpu) -> None:
        asyncio.run_coroutine_threadsafe(self._watch(bundle_id, gpu), self._loop)

    def metrics_targets(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        if self._thread is None:
            self._loop.close()
            return
        asyncio.run_coroutine_threadsafe(self._host.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._loop.close()

    async def _watch(self, bundle_id: str, gpu: DirtyGpu) -> None:
        if await self._host.returned(gpu):
            self._deliver(ReturnedGpu(bundle_id, gpu.gpu))

    async def _run(self, order: TrialOrder) -> None:
        try:
            async for event in self._host.run(order):
                self._deliver(FromTrial(order.number, order.attempt, event))
        except Exception as error:  # noqa: BLE001  # the boundary of a bundle: it is lost, the study is not
            self._deliver(LostBundle(_BUNDLE, f"the bundle broke: {error!r}"))
