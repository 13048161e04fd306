"""Asks for an environment, as a script, so that a test can run several at once and kill them.

    environment_asker.py CACHE LOG REQUIREMENT WHEELS

Prints the folder of commands, or the failure's message with status 1. Reports progress on
standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from runtimes.environment.base import prepare
from runtimes.errors import EngineError
from runtimes.plan import Environment


def report(words: str) -> None:
    os.write(2, f"{words}\n".encode())


def main(cache: str, log: str, requirement: str, wheels: str) -> int:
    environment = Environment(requirements=(requirement,), wheels=(wheels,))
    asked = prepare(
        environment,
        cache=Path(cache),
        log=Path(log),
        env=os.environ,
        on_progress=report,
    )
    try:
        sys.stdout.write(f"{asyncio.run(asked).bin}\n")
    except EngineError as error:
        sys.stdout.write(f"{error.failure.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
