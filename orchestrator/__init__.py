"""Schedules; the front doors live here.

    from orchestrator import Experiment, run

    result = run(Experiment.load("experiment.yaml"))
    print(result.best)

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.observer import Observer
    from orchestrator.spec.experiment import Experiment
    from orchestrator.study import RunResult, resume, run

__all__ = ["Experiment", "Observer", "RunResult", "resume", "run"]

_HOMES = {
    "Experiment": "orchestrator.spec.experiment",
    "Observer": "orchestrator.observer",
    "RunResult": "orchestrator.study",
    "resume": "orchestrator.study",
    "run": "orchestrator.study",
}


def _check_neighbours() -> None:
    """The four import names are generic: leave at once when something of the user's shadows one."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("runtimes", "search", "tracking"):
        spec = find_spec(name)
        found = spec.origin if spec is not None else None
        if spec is not None and found is None and spec.submodule_search_locations:
            found = spec.submodule_search_locations[0]  # a folder without __init__.py
        if found is None or Path(found).resolve().parent != ours / name:
            sys.exit(
                f"servetune: its package {name!r} is shadowed by {found or 'nothing'}; "
                "rename that file or folder, or run from another directory"
            )


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


_check_neighbours()
