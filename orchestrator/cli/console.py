"""The terminal that results are printed to."""

from __future__ import annotations

from rich.console import Console

from orchestrator.cli.stdout import ReaderLeftError

_PIPED_WIDTH = 240
"""Columns where stdout is no terminal: wide enough that no row of a table is broken."""


class Stdout(Console):
    """Rich on stdout."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True)
        if not self.is_terminal:
            self.width = _PIPED_WIDTH

    def on_broken_pipe(self) -> None:
        """Leave it to `main`: this is no failure of the command."""
        raise ReaderLeftError
