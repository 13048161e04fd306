"""plan: show what would run, without starting anything.

Counts valid, duplicate and excluded combinations with their reasons, shows what each engine makes
of each layout and precision, and prints the exact command of each trial with its GPUs. Exits
with 2 when nothing can be launched.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json

if TYPE_CHECKING:
    from orchestrator.planning import Plan

NOTHING_TO_RUN = 2
"""Exit code of a plan in which no combination may be launched, as of a file that is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="X.yaml", help="the experiment file")
    parser.add_argument(
        "--limit",
        type=int,
        default=1000,
        metavar="N",
        help="trials to list in --json; counts stay exact (default: 1000). Of a space too large "
        "to be counted, at most 20 proposals are listed",
    )
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.documents import print_json
    from orchestrator.cli.plan_view import print_plan
    from orchestrator.planning import make_plan
    from orchestrator.spec.experiment import Experiment
    from runtimes.errors import UserError

    if arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: at least 1 trial has to be listed")
    made: Plan = make_plan(Experiment.load(arguments.experiment), limit=arguments.limit)
    if arguments.json:
        print_json(made.document())
    else:
        print_plan(made)
    return NOTHING_TO_RUN if made.nothing_to_run else 0
