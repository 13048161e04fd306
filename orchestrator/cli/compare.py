"""compare: hold runs, or trials of one run, against each other.

Shows each figure's difference with its interval and says better, worse, or that no difference is
shown. Stages are paired by their load, trials of equal configurations by these. Refuses what is
not comparable, and says why.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json, add_runs

if TYPE_CHECKING:
    from tracking.comparison import Side
    from tracking.records import TrialRecord
    from tracking.run_data import RunData

_TRIALS = ("best", "lossless", "baseline")
_DIGITS = 12
"""Of the number of a trial, at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN[:TRIAL]",
        help="a run folder or id; the first is what the others are held against. TRIAL is a "
        "number, best (default), lossless or baseline",
    )
    add_runs(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli import USER_ERROR
    from orchestrator.cli.compare_view import comparison_document, print_comparison
    from orchestrator.cli.documents import print_json
    from runtimes.errors import UserError
    from tracking.comparison import compare_trials

    if len(arguments.runs) < 2:
        raise UserError(
            "one run has nothing to be compared with; name two runs or more, or two trials of one "
            f"as {arguments.runs[0]}:0 {arguments.runs[0]}:1"
        )
    sides = [_side(named, arguments.results) for named in arguments.runs]
    found = [compare_trials(sides[0], side) for side in sides[1:]]
    if arguments.json:
        print_json({"comparisons": [comparison_document(each) for each in found]})
    else:
        for each in found:
            print_comparison(each)
    return USER_ERROR if any(each.refused for each in found) else 0


def _side(named: str, results: Path) -> Side:
    """The run and the trial that `RUN[:TRIAL]` means."""
    from orchestrator.load_run import load_run
    from tracking.layout import find_run

    run, _, trial = named.rpartition(":")
    if not run or os.path.exists(named):  # noqa: PTH110  # Path's raises where a name is too long
        run, trial = named, "best"
    data = load_run(find_run(Path(run), results))
    return data, _trial(data, trial, named)


def _trial(data: RunData, trial: str, named: str) -> TrialRecord:
    from runtimes.errors import UserError

    if trial.isdecimal():
        numbered = {each.number: each for each in data.last_attempts()}
        found = numbered.get(int(trial)) if len(trial) <= _DIGITS else None
        if found is None:
            raise UserError(
                f"{named}: {data.run} has no trial {trial}; it has "
                + (f"0 to {max(numbered)}" if numbered else "none")
            )
    elif trial in _TRIALS:
        found = {
            "best": data.best,
            "lossless": data.best_lossless,
            "baseline": data.baseline,
        }[trial]()
    else:
        raise UserError(
            f"{named}: {trial!r} names no trial; write a number, {', '.join(_TRIALS[:-1])} or "
            f"{_TRIALS[-1]} after the colon"
        )
    if found is None or found.measurement is None:
        which = f"trial {trial}" if trial.isdecimal() else f"{trial} trial"
        raise UserError(f"{named}: {data.run} has no {which} that was measured; name another")
    return found
