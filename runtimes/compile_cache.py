"""Compiled kernels kept between trials of one node, and compiled by one start at a time.

A start that finds its kernels uncompiled holds a lock until it is ready; others that need the
same kernels wait, and then start warm. The lock is the operating system's (`flock`): it ends with
the processes that hold it, however they die.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from runtimes.json_types import short_hash

_logger = logging.getLogger(__name__)
_POLL_S = 0.2


class Warmth(Enum):
    """What a start finds; the value is what the record carries."""

    COLD = "cold"
    WARM = "warm"
    OFF = "off"


@dataclass(slots=True)
class Kernels:
    """What one start knows of its kernels.

    Attributes:
        warmth: `OFF` when nothing is compiled or the cache folder cannot be written.
        waited_s: how long another start's compilation was waited for.
    """

    warmth: Warmth
    waited_s: float = 0.0
    _marker: Path | None = field(default=None, repr=False)
    _lock: int | None = field(default=None, repr=False)

    @property
    def held_fds(self) -> tuple[int, ...]:
        """The lock, for `EngineProcess.running`: it outlives us as long as the engine does."""
        return () if self._lock is None else (self._lock,)

    def compiled(self) -> None:
        """The engine is ready: those that wait, and all later ones, start warm."""
        if self._marker is None or self._lock is None:
            return
        try:
            self._marker.touch()
        except OSError as error:
            _logger.warning("%s: cannot be written: %s", self._marker, error)
        self.release()

    def release(self) -> None:
        """Let the next start have its turn. May be repeated."""
        if self._lock is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # an engine's guards may hold it open
            os.close(self._lock)
            self._lock = None


def cache_folder(cache: Path, engine: str, fingerprint: str) -> Path:
    """Where the kernels of `engine` in one environment are kept on this node."""
    return cache / "compile" / short_hash([engine, fingerprint])


def cache_variables(
    folder: Path, cache_env: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """The engine's cache variables (`Engine.cache_env`), each below `folder`; `given` ones win."""
    return {name: given.get(name, str(folder / below)) for name, below in cache_env.items()}


@asynccontextmanager
async def kernels_for(
    folder: Path,
    compiles: str,
    variables: Mapping[str, str],
    *,
    on_wait: Callable[[], None],
) -> AsyncIterator[Kernels]:
    """The right to start an engine that compiles `compiles`; leaving the block gives it up.

    Call `Kernels.compiled` when the engine is ready. May be cancelled while it waits.

    Args:
        folder: of `cache_folder`.
        compiles: names the kernels (`DeploymentPlan.compiles`); empty when none is compiled.
        variables: of `cache_variables`; kernels elsewhere are other kernels.
        on_wait: called once, when another start is compiling them.
    """
    if not compiles:
        yield Kernels(Warmth.OFF)
        return
    try:
        lock, marker = _open(folder, short_hash([compiles, dict(sorted(variables.items()))]))
    except OSError as error:
        _logger.warning("%s: compiled kernels are not shared: %s", folder, error)
        yield Kernels(Warmth.OFF)
        return
    kernels = Kernels(Warmth.COLD, _marker=marker, _lock=lock)
    try:
        await _turn(kernels, lock, marker, on_wait)
        yield kernels
    finally:
        kernels.release()


async def _turn(kernels: Kernels, lock: int, marker: Path, on_wait: Callable[[], None]) -> None:
    """Wait until the kernels are warm, or until it is this start's turn to compile them."""
    began_s = time.monotonic()
    found = _found(lock, marker)
    if found is None:
        on_wait()
    while found is None:
        await asyncio.sleep(_POLL_S)
        kernels.waited_s = time.monotonic() - began_s
        found = _found(lock, marker)
    kernels.warmth = found
    if found is not Warmth.COLD:
        kernels.release()


def _open(folder: Path, key: str) -> tuple[int, Path]:
    """The lock's file descriptor, which no child inherits, and the path of the warm marker."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    return lock, folder / f"{key}.warm"


def _found(lock: int, marker: Path) -> Warmth | None:
    """What a start finds at this instant; None while another one compiles."""
    if marker.exists():
        return Warmth.WARM
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:  # a file system without locks
        _logger.warning("%s: cannot be locked, kernels may be compiled twice: %s", marker, error)
        return Warmth.OFF
    # Its last holder may have become ready between the two looks.
    return Warmth.WARM if marker.exists() else Warmth.COLD
