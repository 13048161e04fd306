"""Writing to stdout, whose reader may leave at any time (`| head`)."""

from __future__ import annotations

import io
import os
import sys


class ReaderLeftError(Exception):
    """Nobody reads stdout any more; no failure of the command."""


def write(text: str) -> None:
    """Write `text` to stdout, at once.

    Raises:
        ReaderLeftError: nobody reads it.
    """
    allow_any_text()
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeftError from None


def allow_any_text() -> None:
    """Let stdout show `?` for what its encoding does not have, which would fail otherwise."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def discard() -> None:
    """Let what is still buffered for stdout go nowhere, so that leaving does not fail over it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
