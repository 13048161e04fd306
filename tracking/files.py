"""Durable writing of whole files: complete under their name, or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, replacing what was there; on disk when this returns.

    The temporary name lies in the same folder, starts with a dot and ends in `.tmp`, so that no
    reader of the folder takes it for a record, and is the same at every try, so that killed
    writers leave at most one. Not for two writers of one path at a time. Links are followed; a
    pipe or a device is written to and never replaced.

    Raises:
        OSError: the disk refused; `path` is as it was.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names created or replaced in `folder` survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
