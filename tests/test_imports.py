"""Importing servetune costs nothing, finds its own packages, and knows its version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.version import __version__

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("fastapi", "numpy", "optuna", "pandas", "prometheus_client", "pyarrow", "pydantic", "ray")


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in `cwd`, which comes before our packages on its path."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import orchestrator, runtimes, search, tracking",
        "from orchestrator.cli import build_parser; build_parser()",
    ],
)
def test_imports_nothing_heavy(statement: str, tmp_path: Path) -> None:
    loaded = f"{statement}\nimport sys\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = run_python(loaded, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_check_sees_a_heavy_import(tmp_path: Path) -> None:
    done = run_python("import sys, pydantic\nprint('pydantic' in sys.modules)", tmp_path)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["runtimes", "search", "tracking"])
def test_names_the_folder_that_shadows_a_package(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    done = run_python("import orchestrator", tmp_path)
    assert done.returncode == 1
    assert f"its package {name!r} is shadowed by {folder}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_modules_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    assert run_python("import orchestrator", tmp_path).returncode == 0


def test_public_names_are_what_they_say(tmp_path: Path) -> None:
    code = (
        "import orchestrator\n"
        "from orchestrator import *\n"
        "for name in orchestrator.__all__:\n"
        "    assert getattr(globals()[name], '__name__', '') == name, globals()[name]\n"
    )
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d{2}-\d{2}$", text, re.MULTILINE)
    assert versions, "CHANGELOG.md has no heading `## [X.Y.Z] - YYYY-MM-DD`"
    assert versions[0] == __version__
