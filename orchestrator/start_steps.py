"""What a starting attempt is doing, told to the driver at most once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_PERIOD_S = 1.0


class StartSteps:
    """Passes steps on as they change; of several within a second, the last.

    Belongs to the loop that it is used on. `close` it when the start is over.
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._words = ""
        self._told = ""
        self._step = ""
        self._since_s = time.monotonic()
        self._told_s = float("-inf")
        self._later: asyncio.TimerHandle | None = None

    def say(self, step: str, words: str = "") -> None:
        """The attempt is at `step`; `words` say it with its figures."""
        if step != self._step:
            self._step, self._since_s = step, time.monotonic()
        self._words = words or step
        if self._words == self._told or self._later is not None:
            return
        wait_s = self._told_s + _PERIOD_S - time.monotonic()
        if wait_s <= 0:
            self._tell()
        else:
            self._later = asyncio.get_running_loop().call_later(wait_s, self._tell)

    @property
    def words(self) -> str:
        """What it is doing, with figures."""
        return self._words

    @property
    def step_s(self) -> float:
        """For how long it has been at this step, in seconds."""
        return time.monotonic() - self._since_s

    def close(self) -> None:
        """Tell nothing more."""
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _tell(self) -> None:
        self._later = None
        if self._words != self._told:
            self._told, self._told_s = self._words, time.monotonic()
            self._emit(self._words)
