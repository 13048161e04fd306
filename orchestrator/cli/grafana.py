"""grafana: write dashboards, provisioning files and a Prometheus scrape configuration."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; made if absent"
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="HOST:PORT",
        help="where a study's metrics are served (repeatable; default: 127.0.0.1:9100)",
    )


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.stdout import write
    from runtimes.errors import UserError
    from tracking.grafana.write import write_grafana

    try:
        write_grafana(arguments.out, arguments.target or ["127.0.0.1:9100"])
    except OSError as error:
        raise UserError(f"--out {arguments.out}: cannot be written: {error.strerror}") from None
    write(f"wrote {arguments.out}\n")
    return 0
