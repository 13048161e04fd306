"""Provenance, with a real git repository and without one."""

from __future__ import annotations

import platform
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from runtimes.version import __version__
from tracking.provenance import collect


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of one file."""
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_versions_and_machine(tmp_path: Path) -> None:
    assert collect(tmp_path) == {
        "servetune": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "ray": version("ray"),
        "optuna": version("optuna"),
        "pyarrow": version("pyarrow"),
    }


def test_our_own_source_is_the_default() -> None:
    assert collect()["servetune"] == __version__


def test_a_checkout_gives_commit_and_dirty_flag(checkout: Path) -> None:
    commit = _git(checkout, "rev-parse", "HEAD")
    (checkout / "untracked").touch()
    found = collect(checkout)
    assert (found["git_commit"], found["git_dirty"]) == (commit, "false")
    (checkout / "file").write_text("two")
    found = collect(checkout)
    assert (found["git_commit"], found["git_dirty"]) == (commit, "true")


def test_the_repository_of_a_hook_is_not_taken_for_ours(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    _git(other, "init", "--quiet")
    commit = _git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert collect(checkout)["git_commit"] == commit


def test_a_folder_inside_somebody_elses_checkout_is_not_one(checkout: Path) -> None:
    inside = checkout / "site-packages"
    inside.mkdir()
    assert "git_commit" not in collect(inside)


def test_no_git_or_a_broken_repository_is_fine(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout / "empty"))
    assert "git_commit" not in collect(checkout)
    monkeypatch.undo()
    (checkout / ".git" / "HEAD").unlink()
    assert "git_commit" not in collect(checkout)
