"""status: show where a run stands: what finished, what runs, the best so far."""

from __future__ import annotations

import argparse

from orchestrator.cli.arguments import add_json, add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.documents import print_json, result_document
    from orchestrator.cli.status_view import print_status
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
        print_json({**result_document(data, layout), "state": state, "live": live})
    else:
        print_status(data, layout, live, driven=driven)
    return 0
