"""status: show where a run stands: what finished, what runs, the best so far."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json, add_run

if TYPE_CHECKING:
    from runtimes.json_types import Json
    from tracking.run_data import RunData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.documents import print_json, result_document
    from orchestrator.live_status import read_live_status
    from orchestrator.load_run import load_run
    from tracking.layout import find_run
    from tracking.lock import is_locked

    layout = find_run(arguments.run or arguments.results, arguments.results)
    data = load_run(layout)
    driven = is_locked(layout.lock)
    live = read_live_status(layout.live_status) if driven else {}
    if arguments.json:
        state = "running" if driven else "ended" if data.ended else "interrupted"
        print_json({**result_document(data), "state": state, "ended": data.ended, "live": live})
    else:
        _print(data, live, driven=driven)
    return 0


def _print(data: RunData, live: Mapping[str, Json], *, driven: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from orchestrator.cli import words
    from tracking.words import shell_command

    console = Console(highlight=False)
    standing = "running" if driven else data.ended or "not running; its driver was killed"
    console.print(f"[bold]{escape(data.run)}[/]: {escape(standing)}")
    table = Table(box=None, pad_edge=False)
    for heading in ("trial", "state", "GPUs", "objectives", "latency", "parameters"):
        table.add_column(heading)
    for trial in data.last_attempts():
        reason = trial.failure.message if trial.failure is not None else trial.reason
        table.add_row(
            str(trial.number),
            trial.state.value,
            str(trial.gpus),
            words.objectives(data.goals, trial) or escape(reason[:60]),
            words.latencies(trial),
            escape(f"{trial.engine} {words.parameters(trial.params)}"),
        )
    running = live.get("running")
    for number, facts in running.items() if isinstance(running, dict) else ():
        if isinstance(facts, dict):
            progress = f"{facts.get('completed', 0)}/{facts.get('planned', '?')} requests"
            phase = str(facts.get("phase", ""))
            table.add_row(number, phase, str(facts.get("gpus", "")), progress, "", "")
    console.print(table)
    best = data.best()
    if best is not None:
        console.print(f"best: trial {best.number}")
        console.print(escape(shell_command(best.deploy_command, best.env)), soft_wrap=True)
