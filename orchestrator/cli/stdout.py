"""Writing to stdout, whose reader may leave at any time (`| head`)."""

from __future__ import annotations

import os
import sys


class ReaderLeftError(Exception):
    """Nobody reads stdout any more; no failure of the command."""


def write(text: str) -> None:
    """Write `text` to stdout, at once.

    Raises:
        ReaderLeftError: nobody reads it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeftError from None


def discard() -> None:
    """Let what is still buffered for stdout go nowhere, so that leaving does not fail over it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
