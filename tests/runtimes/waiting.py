"""Waiting for other processes, which set no event."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_S = 15.0


def wait_until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> bool:
    """True as soon as `condition` holds; False when it does not within `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True
