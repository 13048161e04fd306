"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


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


def add_run(parser: argparse.ArgumentParser) -> None:
    """`RUN`: a run folder or the id of a run; the newest run when left out."""
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run folder, or a run's id below --results (default: the newest run)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="parent folder of run folders (default: ./runs)",
    )
