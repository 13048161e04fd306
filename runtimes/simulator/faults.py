"""Faults a simulated engine can be told to have, so that handling them is tested on a process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum

from runtimes.errors import UserError

FAULT_VARIABLE = "SERVETUNE_SIMULATOR_FAULT"
"""Environment variable that names the fault; unset or `none` for a sound engine."""
SOUND_REQUESTS = 5
"""Completions served properly before a fault under load shows: readiness and warm-up pass."""


SLOWER = 1.3
"""What a slow engine's steps take, times what they should."""


class Fault(Enum):
    """What goes wrong.

    START: exits with status 1 at once, like a refused configuration.
    START_HANG: never becomes healthy.
    OOM: exits with status 1 while the weights are loaded.
    CRASH: dies in the middle of a stream, status 1.
    HANG: takes requests, sends nothing more; health stays 200.
    STUBBORN: serves well, ignores SIGTERM.
    HTTP_500: answers completions with status 500.
    SLOW: every step takes `SLOWER` times as long, as on a node that is not well.
    """

    NONE = "none"
    START = "start"
    START_HANG = "start-hang"
    OOM = "oom"
    CRASH = "crash"
    HANG = "hang"
    STUBBORN = "stubborn"
    HTTP_500 = "http-500"
    SLOW = "slow"

    def due(self, request: int) -> bool:
        """Whether a fault under load shows at the `request`-th completion, counted from 1."""
        return request > SOUND_REQUESTS


def fault_from(environment: Mapping[str, str] = os.environ) -> Fault:
    """The fault `environment` asks for.

    Raises:
        UserError: it names an unknown one.
    """
    name = environment.get(FAULT_VARIABLE, "") or Fault.NONE.value
    try:
        return Fault(name)
    except ValueError:
        known = ", ".join(fault.value for fault in Fault)
        raise UserError(f"{FAULT_VARIABLE}={name!r} is unknown; known: {known}") from None
