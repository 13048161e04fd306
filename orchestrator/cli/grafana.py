"""grafana: write dashboards, alert rules, a Prometheus configuration, a compose file.

One Prometheus then finds drivers, the engines of their trials, and Ray's own metrics.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from orchestrator.cli.arguments import add_runs

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run that goes on now, whose metrics are to be scraped where it serves them",
    )
    add_runs(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; made if absent"
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="HOST:PORT",
        help="where a study's metrics are served (repeatable; default: 127.0.0.1:9100)",
    )
    parser.add_argument(
        "--interval",
        type=int,
        default=5,
        metavar="SECONDS",
        help="time between two scrapes (default: 5)",
    )


def execute(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.stdout import write
    from runtimes.errors import UserError
    from tracking.grafana.write import DEFAULT_TARGET, write_grafana

    if not 1 <= arguments.interval <= 60:
        raise UserError(f"--interval {arguments.interval}: write 1 to 60 seconds")
    targets = list(arguments.target or ())
    if arguments.run is not None:
        targets.append(_served_at(arguments.run, arguments.results))
    guessed = not targets
    out: Path = arguments.out
    try:
        write_grafana(out, targets or [DEFAULT_TARGET], scrape_interval_s=arguments.interval)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from None
    write(_next_steps(out, targets or [DEFAULT_TARGET], guessed=guessed))
    write(_longer_wait(arguments.interval))
    return 0


def _served_at(run: Path, results: Path) -> str:
    """`host:port` of the running study's metrics.

    Raises:
        UserError: nobody works on it now, or its driver has not said where it serves them.
        RunFolderError: it is no run.
    """
    from orchestrator.live_status import read_live_status
    from runtimes.errors import UserError
    from tracking.layout import find_run
    from tracking.lock import is_locked

    layout = find_run(run, results)
    if not is_locked(layout.lock):
        raise UserError(
            f"{layout.root}: no driver works on it, so there is nothing to scrape; its last "
            f"figures are in {layout.final_metrics}. For runs to come, set metrics.port in the "
            "experiment and name it with --target 127.0.0.1:PORT"
        )
    url = str(read_live_status(layout.live_status).get("metrics", ""))
    found = re.fullmatch(r"http://(.+):(\d+)/metrics", url)
    if found is None:
        raise UserError(
            f"{layout.live_status}: does not say yet where metrics are served; the study is "
            "starting. Try again in a few seconds"
        )
    return f"{_ANYWHERE.get(found[1], found[1])}:{found[2]}"


def _longer_wait(interval_s: int) -> str:
    """What to change where a study would not wait for a scrape after its end."""
    from orchestrator.spec.models import MetricsSpec

    waits_s = MetricsSpec().linger
    if interval_s < waits_s:
        return ""
    return (
        f"At its end a study waits {waits_s:g} s for a last scrape, which may come after "
        f"{interval_s} s: set metrics.linger above {interval_s}s in its file, or its last figures "
        "are lost and ServetuneDriverLost fires after a good end\n"
    )


def _next_steps(out: Path, targets: list[str], *, guessed: bool) -> str:
    from tracking.grafana.scrape import GRAFANA_ADDRESS

    host, port = GRAFANA_ADDRESS
    lines = [
        f"wrote {out}",
        f"scrapes  {', '.join(targets)}",
        f"start    docker compose --project-directory {out} up -d",
        f"    or   prometheus --config.file={out / 'prometheus.yml'}",
        f"look     http://{host}:{port}",
    ]
    if guessed:
        lines.append(
            f"A study serves its metrics there when its file says metrics: {{port: "
            f"{targets[0].rpartition(':')[2]}}}. Of one that runs already, name the run: "
            f"servetune grafana --out {out} RUN"
        )
    return "\n".join(lines) + "\n"
