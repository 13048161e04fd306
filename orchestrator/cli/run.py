"""run: run an experiment file from the beginning.

Trials run at the same time on the cluster the file names. The last screen shows the best
command, what it gains over the engine's defaults, and how to go on. Ctrl-C stops running trials
and keeps everything measured. With --server-url it measures a server that runs already instead of
the engines that the file names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.arguments import add_json, add_results, add_server, server_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="X.yaml", help="the experiment file")
    add_server(parser, parser)
    add_results(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.attach import attached
    from orchestrator.cli.progress import shown_study
    from orchestrator.spec.experiment import Experiment
    from orchestrator.study import run

    experiment = Experiment.load(arguments.experiment)
    server = server_of(arguments)
    if server is not None:
        experiment = attached(experiment, server)
    return shown_study(
        lambda observers: run(experiment, results=arguments.results, observers=observers),
        as_json=arguments.json,
    )
