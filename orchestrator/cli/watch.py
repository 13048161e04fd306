"""watch: follow a running study from another terminal.

Shows what runs with its live figures, the best so far and what ended last, once a second, until
the study ends. It only reads: the study never notices, and Ctrl-C leaves it alone. Piped, it prints
a line for each change.
"""

from __future__ import annotations

import argparse

from orchestrator.cli.arguments import add_run

DRIVER_GONE = 1
"""Exit code where no driver is at work and none has ended the run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object a line to stdout, whenever something changed",
    )


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.console import Stdout
    from orchestrator.cli.watch_view import JsonView, LinesView, ScreenView, View
    from orchestrator.watching import Watch, changes
    from tracking.layout import find_run

    watch = Watch(find_run(arguments.run or arguments.results, arguments.results))
    console = Stdout()
    view: View
    if arguments.json:
        view = JsonView()
    elif console.is_terminal:
        view = ScreenView(console, watch.goals)
    else:
        view = LinesView(console, watch.goals)
    try:
        with view:
            for snapshot in changes(watch):
                view.show(snapshot)
    except KeyboardInterrupt:
        return 0
    data = watch.data()
    view.ended(data, watch.layout)
    return 0 if data.ended else DRIVER_GONE
