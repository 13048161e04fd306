"""The real command line in a process of its own, and files for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SYSTEM_PATH = "/usr/bin:/bin"


def environment(path: str = SYSTEM_PATH, **extra: str) -> dict[str, str]:
    """An environment that holds nothing of this test run's own."""
    return {"PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **extra}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def servetune(
    *arguments: str | Path, cwd: Path, path: str = SYSTEM_PATH, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end in the folder `cwd`."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(path, **extra),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def executable(folder: Path, name: str, script: str) -> Path:
    """A shell script called `name` that can be found on a PATH of `folder`."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return file
