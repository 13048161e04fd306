"""The worked examples of CONTRIBUTING.md: one new file each, and everything else finds it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_EXAMPLE = re.compile(r"`([\w/]+\.py)`:\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LOAD = """
from orchestrator.spec.experiment import Experiment
Experiment.from_dict({
    "name": "n", "model": "m", "engines": {"toyserve": {"args": {"depth": 2}}},
    "objectives": [{"minimize": "normalized_latency"}],
})
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and their contract tests, with the files the document tells to add."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("orchestrator", "runtimes", "search", "tracking", "tests/contracts"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    found = _EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [Path(name).parent.name for name, _ in found] == ["objectives", "engines"]
    for name, text in found:
        assert not (folder / name).exists()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run_python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=tree, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize(
    ("kind", "name"), [("objective", "normalized_latency"), ("engine", "toyserve")]
)
def test_the_contract_tests_try_it(tree: Path, kind: str, name: str) -> None:
    done = run_python(
        tree, "-m", "pytest", "-q", f"tests/contracts/test_{kind}_contract.py", "-k", name
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 1, done.stdout


def test_an_experiment_can_name_both(tree: Path) -> None:
    done = run_python(tree, "-c", _LOAD)
    assert done.returncode == 0, done.stderr
