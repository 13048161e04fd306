"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.attach import RunningServer


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: exactly one JSON document on stdout, everything else on stderr."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print exactly one JSON document to stdout; progress goes to stderr",
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """`--results`: the parent of run folders."""
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="parent folder of run folders (default: the experiment's `results`, ./runs)",
    )


def add_record(parser: argparse.ArgumentParser) -> None:
    """`--results` of a command that writes one record of its own, without an experiment file."""
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="parent folder of the record (default: ./runs)",
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """`--results` of a command that looks at runs: where their ids are looked up."""
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="parent folder of run folders (default: ./runs)",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """`RUN`: a run folder or the id of a run; the newest run when left out."""
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run folder, or a run's id below --results (default: the newest run)",
    )
    add_runs(parser)


def add_server(parser: argparse.ArgumentParser, url_group: argparse._ActionsContainer) -> None:
    """`--server-url` and what belongs to it, the URL itself in `url_group`."""
    url_group.add_argument(
        "--server-url",
        metavar="URL",
        help="measure the server that runs there (http://HOST:PORT); start and stop nothing",
    )
    parser.add_argument(
        "--gpus", type=int, metavar="N", help="GPUs behind --server-url (default: 1)"
    )
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the key --server-url asks for",
    )


def server_of(arguments: argparse.Namespace) -> RunningServer | None:
    """The server that `add_server`'s options name; None when they name none.

    Raises:
        UserError: an option stands without the URL it belongs to.
    """
    from orchestrator.attach import RunningServer
    from runtimes.errors import UserError

    if arguments.server_url is None:
        for option in ("gpus", "api_key_env"):
            if getattr(arguments, option) is not None:
                name = "--" + option.replace("_", "-")
                raise UserError(f"{name} belongs to --server-url; name the server as well")
        return None
    gpus = 1 if arguments.gpus is None else arguments.gpus
    return RunningServer(arguments.server_url, gpus, arguments.api_key_env)
