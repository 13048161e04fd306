"""The `servetune` command: one file per subcommand, each imported light and run lazily."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword

from orchestrator.cli.stdout import ReaderLeftError, discard
from runtimes.errors import UserError
from runtimes.version import __version__

_COMMANDS = (
    "tune",
    "init",
    "plan",
    "predict",
    "calibrate",
    "run",
    "resume",
    "status",
    "report",
    "bench",
    "import",
    "grafana",
)
USER_ERROR = 2
"""Exit code of wrong input; nothing was started, or everything that was is recorded."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return int(arguments.execute(arguments))
    except UserError as error:
        print(f"servetune: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        # Before or after the study, when no handler of ours is in place.
        print("servetune: interrupted", file=sys.stderr)
        return 130
    except ReaderLeftError:
        discard()
        return 0


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="servetune",
        description="Find the best way to serve a large language model on a GPU cluster.",
        epilog="`servetune COMMAND --help` explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"servetune {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in _COMMANDS:
        command = import_module(f"orchestrator.cli.{name}{'_' if iskeyword(name) else ''}")
        about = (command.__doc__ or "").removeprefix(f"{name}: ")
        words = about.partition("\n")[0].rstrip(".")
        sub = commands.add_parser(name, help=words, description=about[:1].upper() + about[1:])
        command.add_arguments(sub)
        sub.set_defaults(execute=command.execute)
    return parser
