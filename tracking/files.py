"""Durable writing of whole files: complete under their name, or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, replacing what was there; on disk when this returns.

    As `written_atomically`; a pipe or a device is written to and never replaced.

    Raises:
        OSError: the disk refused; `path` is as it was.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with written_atomically(path) as file:
        file.write(data)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends well.

    It is on disk then. The temporary name lies in the same folder, starts with a dot and ends in
    `.tmp`, so that no reader of the folder takes it for a record, and is the same at every try, so
    that killed writers leave at most one. Not for two writers of one path at a time. Links are
    followed.

    Raises:
        OSError: the disk refused; `path` is as it was.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def rename(path: Path, target: Path) -> None:
    """Give a file of the same folder another name, which survives a crash of the machine."""
    path.replace(target)
    sync_folder(target.parent)


def drop_temporaries(folder: Path) -> None:
    """Delete what killed writers left in `folder`; for one who knows that nobody writes there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make names created or replaced in `folder` survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
