"""Interpreters that are there already, and what their engines are started with."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from runtimes.environment.base import Prepared, prepare
from runtimes.environment.path import distributions
from runtimes.errors import EngineError
from runtimes.failure import FailureKind
from runtimes.plan import Environment


def prepared(environment: Environment) -> Prepared:
    """What `prepare` makes of it; it needs neither cache nor log."""
    nowhere = Path("/nowhere")
    return asyncio.run(prepare(environment, cache=nowhere, log=nowhere, env={}))


def install(prefix: Path, distribution: str) -> None:
    (prefix / "lib/python3.12/site-packages" / f"{distribution}.dist-info").mkdir(parents=True)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter in a folder that looks like an environment."""
    folder = tmp_path / "opt"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    install(folder, "vllm-0.33.0")
    return folder / "bin/python"


def test_commands_beside_the_interpreter_are_found_first(python: Path, tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin", "HF_TOKEN": "t"}
    made = prepared(Environment(python=str(python)))
    launch = made.launch(["vllm"], env, devices=["0"], files=tmp_path, model="m")
    assert launch.argv == ("vllm",)
    assert launch.env == {"PATH": f"{python.parent}{os.pathsep}/usr/bin", "HF_TOKEN": "t"}
    assert env["PATH"] == "/usr/bin"
    assert launch.container is None
    assert made.bin is None


def test_without_an_interpreter_nothing_is_changed(tmp_path: Path) -> None:
    for environment in (Environment(), Environment(label="engine-vllm")):
        made = prepared(environment)
        launch = made.launch(["vllm"], {"PATH": "/x"}, devices=None, files=tmp_path, model="m")
        assert (launch.argv, launch.env) == (("vllm",), {"PATH": "/x"})


def test_the_fingerprint_follows_what_is_installed(python: Path) -> None:
    environment = Environment(python=str(python))
    before = prepared(environment).fingerprint
    assert prepared(environment).fingerprint == before
    prefix = python.parent.parent
    install(prefix, "torch-2.9.0")
    assert distributions(prefix) == ["torch-2.9.0", "vllm-0.33.0"]
    assert prepared(environment).fingerprint != before
    assert prepared(Environment()).fingerprint != prepared(Environment(version="1")).fingerprint


def test_an_interpreter_that_this_node_has_not_got() -> None:
    with pytest.raises(EngineError) as caught:
        prepared(Environment(python="/nowhere/bin/python"))
    failure = caught.value.failure
    assert failure.kind is FailureKind.ENVIRONMENT_FAILED
    assert failure.message == "there is no interpreter /nowhere/bin/python on this node"
    assert "environment.python" in failure.remedy


@pytest.mark.parametrize(
    ("environment", "command", "interpreter"),
    [
        (Environment(), "vllm", None),
        (Environment(python="/opt/bin/python"), "/opt/bin/vllm", "/opt/bin/python"),
        (Environment(requirements=("vllm",)), "{bin}/vllm", "{bin}/python"),
        (Environment(python="/a/python", requirements=("x",)), "{bin}/vllm", "{bin}/python"),
        (Environment(image="org/vllm"), "vllm", "python3"),
    ],
    ids=["path", "python", "requirements", "base-python", "image"],
)
def test_how_the_engine_is_called(
    environment: Environment, command: str, interpreter: str | None
) -> None:
    assert environment.command("vllm") == command
    assert environment.interpreter == interpreter
