"""A timer of the event loop that is as exact as the kernel's."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

# From <linux/timerfd.h>, <time.h>; `os.timerfd_create` is there from Python 3.13 on.
_CLOCK_MONOTONIC = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class Alarm:
    """Calls back at a time of `time.perf_counter_ns`, which on Linux is CLOCK_MONOTONIC.

    The loops' own timers are late by up to 1 ms (`epoll_wait` counts in whole ones), and waiting
    for the rest in a busy loop costs a core at high rates. A timer of the kernel's wakes the loop
    within some ten microseconds on a free machine.

    Args:
        ring: called on the running loop, once for each `set`.

    Raises:
        OSError: the kernel gives no timer.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop.add_reader(self._fd, self._on_expired)

    def set(self, at_ns: int) -> None:
        """Ring at `at_ns`, or at once when that is past; replaces what was set before."""
        seconds, nanoseconds = divmod(max(1, at_ns), 1_000_000_000)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Ring no more. Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew in between
        self._ring()
