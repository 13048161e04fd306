"""The `servetune` command: one file per subcommand, each imported light and run lazily."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

from orchestrator.cli.stderr import complain
from orchestrator.cli.stdout import ReaderLeftError, discard
from orchestrator.logs import FORMATS, LEVELS, as_json, configure
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
    "watch",
    "report",
    "compare",
    "export",
    "bench",
    "import",
    "grafana",
)
USER_ERROR = 2
"""Exit code of wrong input; nothing was started, or everything that was is recorded."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    configured, rest = _log_options(None).parse_known_args(argv)
    form = getattr(configured, "log_format", "text")
    usual = "info" if form == "json" else "warning"
    configure(form, getattr(configured, "log_level", usual))
    arguments = build_parser().parse_args(rest)
    try:
        return int(arguments.execute(arguments))
    except UserError as error:
        complain(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        # Before or after the study, when no handler of ours is in place.
        complain("interrupted")
        return 130
    except ReaderLeftError:
        discard()
        return 0


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="servetune",
        description="Find the best way to serve a large language model on a GPU cluster.",
        epilog="`servetune COMMAND --help` explains each command.",
        parents=[_log_options("logs")],
    )
    parser.add_argument("--version", action="version", version=f"servetune {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in _COMMANDS:
        command = import_module(f"orchestrator.cli.{name}{'_' if iskeyword(name) else ''}")
        about = (command.__doc__ or "").removeprefix(f"{name}: ")
        words = about.partition("\n")[0].rstrip(".")
        sub = commands.add_parser(
            name,
            help=words,
            description=about[:1].upper() + about[1:],
            parents=[_log_options("logs")],
        )
        command.add_arguments(sub)
        sub.set_defaults(execute=command.execute)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the command line the way the log does."""

    def error(self, message: str) -> NoReturn:
        if as_json():
            complain(f"{self.prog}: {message}")
            raise SystemExit(USER_ERROR)
        super().error(message)


def _log_options(title: str | None) -> _Parser:
    """Options of logging, which every command takes before its name and after it."""
    parser = _Parser(
        prog="servetune", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    options = parser if title is None else parser.add_argument_group(title)
    options.add_argument(
        "--log-format", choices=FORMATS,
        help="what stderr holds: text (default), or json, one object a line, progress included",
    )  # fmt: skip
    options.add_argument(
        "--log-level",
        choices=LEVELS,
        help="the least that is logged (default: warning; json: info)",
    )
    return parser
