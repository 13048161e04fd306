"""plan: show what would run, without starting anything.

Counts valid, duplicate and excluded combinations with their reasons, and prints the exact
command of each trial with its GPUs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json

if TYPE_CHECKING:
    from orchestrator.planning import Plan

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="X.yaml", help="the experiment file")
    parser.add_argument(
        "--limit",
        type=int,
        default=1000,
        metavar="N",
        help="trials to list; counts stay exact (default: 1000). Infinite spaces list N proposals",
    )
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.documents import print_json
    from orchestrator.planning import make_plan
    from orchestrator.spec.experiment import Experiment
    from runtimes.errors import UserError

    if arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: at least 1 trial has to be listed")
    made = make_plan(Experiment.load(arguments.experiment), limit=arguments.limit)
    if arguments.json:
        print_json(made.document())
    else:
        _print(made)
    return 0


def _print(made: Plan) -> None:
    import shlex

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if made.valid is None:
        console.print(f"The space is infinite; {len(made.trials)} proposals of its sampler:")
    else:
        console.print(
            f"[bold]{made.valid}[/] valid combinations, {made.duplicates} duplicates, "
            f"{sum(made.excluded.values())} excluded"
        )
    for reason, count in made.excluded.items():
        console.print(f"  {count:>6}  {escape(reason)}")
    table = Table(box=None, pad_edge=False)
    for heading in ("", "engine", "GPUs", "parameters"):
        table.add_column(heading)
    for index, trial in enumerate(made.trials[:_SHOWN]):
        mark = "baseline" if trial.baseline else str(index)
        values = " ".join(f"{name}={value}" for name, value in trial.params.values.items())
        table.add_row(mark, trial.params.engine, str(trial.plan.gpus), escape(values))
    console.print(table)
    for index, trial in enumerate(made.trials[:_SHOWN]):
        console.print(
            f"[dim]{index}:[/] {escape(shlex.join(trial.plan.process.argv))}", soft_wrap=True
        )
    if len(made.trials) > _SHOWN:
        console.print(f"… and {len(made.trials) - _SHOWN} more; --json lists them all")
