"""report: write one self-contained HTML file and print a summary.

Works on finished, interrupted and running studies. With --files, each plot of the report becomes
a PNG and a CSV of its own; the PNGs need the extra `png` and a browser, the CSVs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.arguments import add_json, add_run

if TYPE_CHECKING:
    from tracking.run_data import RunData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the HTML file (default: report.html in the run)"
    )
    parser.add_argument(
        "--files", type=Path, metavar="DIR", help="write a PNG and a CSV of each plot there"
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
    if not arguments.json:
        print_summary(data, layout, report=out)
    written = _write_files(data, arguments.files) if arguments.files is not None else ()
    if written and not arguments.json:
        print(f"plots    {len(written)} files in {arguments.files}")
    if arguments.json:
        document = {**result_document(data, layout), "report": str(out)}
        if arguments.files is not None:
            document["files"] = [str(path) for path in written]
        print_json(document)
    return 0


def _write_files(data: RunData, folder: Path) -> Sequence[Path]:
    """PNG and CSV of each plot; the report is written already when this fails."""
    from runtimes.errors import UserError
    from tracking.plots.files import write_plots

    try:
        return write_plots(data, folder)
    except OSError as error:
        raise UserError(f"--files {folder}: cannot be written: {error.strerror}") from None
