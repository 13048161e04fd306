"""import: write results of other load generators down as a run.

Reads what `vllm bench serve`, GuideLLM and llm-inf-bench save; report, status and tracking.open
show it as they show a run of servetune's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.arguments import add_json, add_record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a result, as JSON; several make one run",
    )
    parser.add_argument(
        "--gpus", type=int, metavar="N",
        help="GPUs behind the server, where a file does not say (default: 1)",
    )  # fmt: skip
    add_record(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.bench_view import print_stages
    from orchestrator.cli.documents import print_json, result_document
    from orchestrator.importing import import_results
    from orchestrator.load_run import load_run
    from runtimes.errors import UserError

    if arguments.gpus is not None and arguments.gpus < 1:
        raise UserError(f"--gpus {arguments.gpus}: a server has at least 1")
    layout = import_results(arguments.files, results=arguments.results, gpus=arguments.gpus)
    data = load_run(layout)
    if arguments.json:
        print_json({**result_document(data, layout), "record": str(layout.root)})
    else:
        print_stages(data, layout.root)
    return 0
