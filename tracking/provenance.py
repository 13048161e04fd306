"""What a result was made with: versions of servetune, its source, Python and the libraries."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runtimes.version import __version__

LIBRARIES = ("ray", "optuna", "pyarrow")
"""Distributions whose version can change a result."""

_SOURCE = Path(__file__).resolve().parents[1]
_GIT_TIMEOUT_S = 10.0


def collect(source: Path = _SOURCE) -> dict[str, str]:
    """Provenance of this process, by name; what is not known or not installed is left out.

    `git_commit` and `git_dirty` ("true" or "false": whether tracked files differ from the
    commit) are there when `source` is the top of a checkout and git answers.

    Args:
        source: folder that holds our packages.
    """
    found = {
        "servetune": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
    }
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return {**found, **_git(source)}


def _git(source: Path) -> dict[str, str]:
    if not (source / ".git").exists():
        return {}
    commit = _run_git(source, "rev-parse", "--verify", "HEAD")
    status = _run_git(source, "status", "--porcelain", "--untracked-files=no")
    if commit is None or status is None:
        return {}
    return {"git_commit": commit, "git_dirty": "true" if status else "false"}


def _run_git(source: Path, *arguments: str) -> str | None:
    """What git prints; None when it is absent, fails or takes too long."""
    # Inside a git hook these variables name the hook's repository, not ours.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(source), *arguments]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
