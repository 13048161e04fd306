"""One driver per run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from runtimes.errors import RunFolderError

_GRACE_S = 0.25
"""`is_locked` holds the lock for an instant; a driver that starts then must not be refused."""


class RunLock:
    """Context manager that holds a run folder for this process.

    The lock is `flock`'s: the kernel drops it when the holder ends, however it ends, so a file
    left behind by a killed driver locks nothing. Programs started by the holder do not inherit
    it. The file's text names the holder, for messages only.

    Args:
        path: the lock file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        """Take the lock, or find within a quarter of a second that another driver keeps it.

        Raises:
            RunFolderError: another driver holds it, the folder is absent or cannot be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: the run's lock cannot be opened: {error.strerror}. "
                "Name an existing run folder that you may write to."
            ) from None
        try:
            self._acquire(descriptor)
        except RunFolderError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _acquire(self, descriptor: int) -> None:
        try:
            _lock_within_grace(descriptor)
        except BlockingIOError:
            raise RunFolderError(
                f"{self.path.parent}: the run is in use by {_holder(descriptor)}. "
                "Wait for it to end, or stop it with Ctrl-C there, and try again."
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: this file system cannot lock files: {error.strerror}. "
                "Use a results folder on a local disk."
            ) from None
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{text}\n".encode(), 0)


def is_locked(path: Path) -> bool:
    """Whether a driver holds the lock file at `path` right now; False when there is none.

    Needs no permission to write, and any number of watchers may ask at once.

    Raises:
        RunFolderError: the file may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunFolderError(
            f"{path}: the run's lock cannot be read: {error.strerror}. "
            "Ask its owner for permission to read the run folder, or name another run."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_within_grace(descriptor: int) -> None:
    deadline_s = time.monotonic() + _GRACE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):  # it has the lock and is about to write its name
        return "another process that is just starting"
