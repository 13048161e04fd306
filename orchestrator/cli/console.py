"""The terminal that results are printed to."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from orchestrator.cli.stdout import ReaderLeftError, allow_any_text
from runtimes.printable import printable

_PIPED_WIDTH = 240
"""Columns where stdout is no terminal: wide enough that no row of a table is broken."""


class Stdout(Console):
    """Rich on stdout."""

    def __init__(self) -> None:
        allow_any_text()
        super().__init__(highlight=False, soft_wrap=True)
        if not self.is_terminal:
            self.width = _PIPED_WIDTH

    def on_broken_pipe(self) -> None:
        """Leave it to `main`: this is no failure of the command."""
        raise ReaderLeftError


def said(text: str) -> str:
    """Text of somebody else's as Rich's markup: no terminal escapes, nothing of it a tag."""
    return escape(printable(text))


def one_line(text: str) -> str:
    """`text` without what would move the cursor, in one line; no markup."""
    return " ".join(printable(text).splitlines()).replace("\t", " ")
