"""A bundle in a process of its own on this machine: no Ray, the same isolation from the driver."""

from __future__ import annotations

import os
import pickle
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from orchestrator.cluster.base import ClusterSettings, Deliver, own_bundle
from orchestrator.cluster.local_host import Message
from orchestrator.logs import child_environment
from orchestrator.messages import (
    FoundBundle,
    FromTrial,
    LostBundle,
    ReturnedGpu,
    TrialOrder,
    WatchOrder,
)
from runtimes.telemetry.release import DirtyGpu

_BUNDLE = "local"


class LocalCluster:
    """Starts `orchestrator.cluster.local_host` and talks to it over a socket pair."""

    def __init__(self, settings: ClusterSettings, deliver: Deliver) -> None:
        self._settings = settings
        self._deliver = deliver
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._reader: threading.Thread | None = None
        self._closing = False

    def start(self) -> None:
        bundle = own_bundle(self._settings, _BUNDLE, platform.node())
        ours, theirs = socket.socketpair()
        source = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cluster.local_host", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=source,
            env={**os.environ, **child_environment()},
            start_new_session=True,
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._reader = threading.Thread(target=self._read, name="servetune-local")
        self._reader.start()
        self._deliver(FoundBundle(bundle))

    def launch(self, order: TrialOrder) -> None:
        # Packed apart from its address: an order the other side cannot unpack ends one attempt.
        self._send((order.number, order.attempt, pickle.dumps(order)))

    def cancel(self, bundle_id: str, number: int, attempt: int) -> None:
        self._send((number, attempt, None))

    def watch(self, bundle_id: str, gpu: DirtyGpu) -> None:
        self._send(WatchOrder(bundle_id, gpu))

    def metrics_targets(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        self._closing = True
        if self._connection is None or self._process is None or self._reader is None:
            return
        self._send(None)
        self._process.wait()
        self._reader.join()
        self._connection.close()
        self._connection = None

    def _send(self, message: Message | None) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send(message)
        except OSError:
            # The host is gone; the reader sees the same and reports the bundle as lost.
            return

    def _read(self) -> None:
        assert self._connection is not None
        while True:
            try:
                event: FromTrial | ReturnedGpu = self._connection.recv()
            except (EOFError, OSError):
                break
            self._deliver(event)
        if not self._closing:
            self._deliver(LostBundle(_BUNDLE, "the process that hosts the trials ended"))
