"""SIGINT and SIGTERM as a wish to stop, not as an end."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from orchestrator.driver import Inbox, Stop

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While entered, both signals put `Stop` into the inbox, however often they come.

    Only the main thread may set handlers; a study run from another one is stopped by its caller.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._active = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in _STOPPING}

    def __enter__(self) -> Signals:
        self.install()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._active:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers, over whatever a library set meanwhile."""
        if self._active:
            for number in _STOPPING:
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._inbox.put(Stop(f"stopped by {signal.Signals(number).name}"))
