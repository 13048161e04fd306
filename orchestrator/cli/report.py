"""report: write one self-contained HTML file and print a summary.

Works on finished, interrupted and running studies.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.arguments import add_json, add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the HTML file (default: report.html in the run)"
    )


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.documents import print_json, result_document
    from orchestrator.cli.summary_view import print_summary
    from orchestrator.load_run import load_run
    from runtimes.errors import UserError
    from tracking.layout import find_run
    from tracking.report import write_report

    layout = find_run(arguments.run or arguments.results, arguments.results)
    data = load_run(layout)
    out = arguments.out or layout.report
    try:
        write_report(data, out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from None
    if arguments.json:
        print_json({**result_document(data), "report": str(out)})
    else:
        print_summary(data, layout, report=out)
    return 0
