"""resume: go on with a run that was stopped or killed.

Nothing that finished is lost or run again; what was running starts again under its own number.
"""

from __future__ import annotations

import argparse

from orchestrator.cli.arguments import add_json, add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.progress import shown_study
    from orchestrator.study import resume
    from tracking.layout import find_run

    layout = find_run(arguments.run or arguments.results, arguments.results)
    return shown_study(
        lambda observers: resume(layout.root, observers=observers), as_json=arguments.json
    )
