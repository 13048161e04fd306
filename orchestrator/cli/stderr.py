"""What a command says beside its result: lines on stderr, log records where those are JSON.

Words may quote what others wrote, so that nothing of them steers the terminal.
"""

from __future__ import annotations

import logging
import sys

from orchestrator.logs import as_json
from runtimes.printable import printable

_logger = logging.getLogger("orchestrator.cli")


def tell(words: str) -> None:
    """One line for the user."""
    if as_json():
        _logger.info("%s", words)
    else:
        print(printable(words), file=sys.stderr)


def complain(words: str) -> None:
    """One line about what went wrong; the name of the program goes before it."""
    if as_json():
        _logger.error("%s", words)
    else:
        print(f"servetune: {printable(words)}", file=sys.stderr)
