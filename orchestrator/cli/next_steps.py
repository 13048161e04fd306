"""How a user goes on with a run, as commands to paste."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from tracking.events import Ending
from tracking.layout import RunLayout
from tracking.run_data import RunData


def next_steps(data: RunData, layout: RunLayout) -> list[tuple[str, str]]:
    """What to do next and the command for it, the nearest first."""
    run = shlex.quote(str(layout.root))
    best = data.best()
    steps: list[tuple[str, str]] = []
    if data.ending is Ending.RUNNING:
        steps.append(("follow it", f"{program()} watch {run}"))
    elif data.attached:
        # The same seed sends the same prompts to a server that may still have them in its cache.
        if data.ending is not Ending.COMPLETE:
            steps.append(
                ("", "measure again with another seed; `servetune bench` draws one each time")
            )
    elif "imported" not in data.experiment and (
        data.unread_trials or data.ending is not Ending.COMPLETE
    ):
        why = "nothing that finished runs again"
        if data.unread_trials:
            why = "measures again what cannot be read, and nothing else that finished"
        if data.ending is Ending.BUDGET:
            why = f"after raising `budget` in {layout.experiment}"
        steps.append((why, f"{program()} resume {run}"))
    steps.append(("all figures, as one page", f"{program()} report {run}"))
    if best is not None and best.deploy_command and data.ending is not Ending.RUNNING:
        steps.append(
            ("deploy it elsewhere", f"{program()} export {run} --trial best --to kubernetes")
        )
    if best is not None:
        steps.append(("against another run", f"{program()} compare {run} RUN"))
    return steps


def program() -> str:
    """How this program is called, where its name alone would not find it."""
    if shutil.which("servetune"):
        return "servetune"
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m orchestrator.cli"
    return shlex.quote(str(called))
