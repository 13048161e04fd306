"""Engines in containers, run by a stand-in for docker and podman that has a daemon of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from runtimes.end_container import end_container
from runtimes.environment.base import Launch, Prepared, prepare
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.guard import Process
from runtimes.plan import Environment
from tests.runtimes.standin_container import image_id, processes_of
from tests.runtimes.waiting import wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "vllm/vllm-openai:v0.33.0"
TREE_SIZE = 7


class Node:
    """A node whose PATH has the stand-in under both names, and its daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.home = folder / "home"
        self.files = folder / "files"
        programs = folder / "bin"
        programs.mkdir()
        for name in ("docker", "podman"):
            standin = HERE / "standin_container.py"
            (programs / name).write_text(f"#!{sys.executable}\n{standin.read_text()}")
            (programs / name).chmod(0o755)
        (self.state / "images").write_text(f"{IMAGE}\n")
        (self.state / "registry").write_text("")
        self.program = str(programs / "docker")
        self.env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "STANDIN_STATE": str(self.state),
            "PYTHONPATH": str(ROOT),
        }
        self.owners: list[subprocess.Popen[str]] = []
        serving = [sys.executable, str(HERE / "standin_container.py"), "daemon", str(self.state)]
        self.daemon = subprocess.Popen(serving)
        assert wait_until((self.state / "socket").exists)

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.state / "calls").read_text().splitlines()]

    def containers(self) -> list[str]:
        return [path.name for path in (self.state / "containers").iterdir()]

    def prepare(self, image: str = IMAGE, container: str = "docker", **env: str) -> Prepared:
        asked = prepare(
            Environment(image=image, container=container),
            cache=self.folder / "cache",
            log=self.folder / "pull.log",
            env=self.env | env,
        )
        return asyncio.run(asked)

    def launch(
        self,
        *argv: str,
        container: str = "docker",
        devices: Sequence[str] | None = None,
        model: str = "org/model",
        names: Sequence[str] = (),
        **env: str,
    ) -> Launch:
        return self.prepare(container=container).launch(
            argv, self.env | env, devices=devices, files=self.files, model=model, names=names
        )

    def tree(self) -> list[Process]:
        """Every process of the tree so far, whether it still lives or not."""
        record = self.folder / "record"
        lines = record.read_text().splitlines() if record.exists() else []
        return [Process(int(line.split()[1]), int(line.split()[2])) for line in lines]

    def start_tree(self, ending: str) -> tuple[subprocess.Popen[str], list[Process]]:
        """An owner of a process tree in a container, and the pids it told: guards and client."""
        record = str(self.folder / "record")
        tree = (sys.executable, str(HERE / "process_tree.py"), record, ending)
        launch = self.launch(*tree)
        assert launch.container is not None
        reference = (launch.container.program, str(launch.container.id_file))
        script, log = str(HERE / "container_owner.py"), str(self.folder / "log")
        command = [sys.executable, script, log, *reference]
        owner = subprocess.Popen(
            [*command, *launch.argv], env=launch.env, stdout=subprocess.PIPE, text=True
        )
        self.owners.append(owner)
        assert owner.stdout is not None
        pids = [Process.of(int(pid)) for pid in owner.stdout.readline().split()]
        assert wait_until(lambda: len(self.tree()) >= TREE_SIZE), Path(log).read_text()
        return owner, pids

    def serve_tree(self, ending: str) -> tuple[subprocess.Popen[str], list[Process], str]:
        """The same for a tree that stays: the container's first process comes fourth."""
        owner, pids = self.start_tree(ending)
        (container,) = self.containers()
        assert len(processes_of(container)) == TREE_SIZE
        first = int((self.state / "containers" / container).read_text())
        return owner, [*pids, Process.of(first)], container

    def clean_up(self) -> None:
        for owner in self.owners:
            owner.kill()
            owner.wait()
            assert owner.stdout is not None
            owner.stdout.close()
        for container in self.containers():
            for pid in processes_of(container):
                Process.of(pid).send(signal.SIGKILL)
        self.daemon.kill()
        self.daemon.wait()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.clean_up()


Fault = Callable[["subprocess.Popen[str]", list[Process], str], None]


def kill_owner(owner: subprocess.Popen[str], _pids: list[Process], _container: str) -> None:
    owner.kill()


def kill_outer(_owner: subprocess.Popen[str], pids: list[Process], _container: str) -> None:
    pids[0].send(signal.SIGKILL)


def kill_inner(_owner: subprocess.Popen[str], pids: list[Process], _container: str) -> None:
    pids[1].send(signal.SIGKILL)


def kill_outer_and_owner(
    owner: subprocess.Popen[str], pids: list[Process], _container: str
) -> None:
    pids[0].send(signal.SIGKILL)
    owner.kill()


def kill_both_guards(_owner: subprocess.Popen[str], pids: list[Process], _container: str) -> None:
    for guard in pids[:2]:
        os.kill(guard.pid, signal.SIGSTOP)  # or the other would see it before its turn
    for guard in pids[:2]:
        guard.send(signal.SIGKILL)


def kill_client(_owner: subprocess.Popen[str], pids: list[Process], _container: str) -> None:
    pids[2].send(signal.SIGKILL)


def stop_owner(owner: subprocess.Popen[str], _pids: list[Process], _container: str) -> None:
    owner.terminate()


def kill_engine(_owner: subprocess.Popen[str], pids: list[Process], _container: str) -> None:
    pids[3].send(signal.SIGKILL)


@pytest.mark.parametrize("ending", [pytest.param("serve", marks=pytest.mark.faults), "ignore"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(kill_owner, id="owner-killed"),
        pytest.param(kill_outer, id="outer-killed"),
        pytest.param(kill_inner, id="inner-killed"),
        pytest.param(kill_outer_and_owner, id="outer-and-owner-killed"),
        pytest.param(kill_both_guards, id="both-guards-killed"),
        pytest.param(kill_client, id="client-killed"),
        pytest.param(stop_owner, id="stopped"),
        pytest.param(kill_engine, id="engine-killed"),
    ],
)
def test_no_container_survives(node: Node, fault: Fault, ending: str) -> None:
    owner, pids, container = node.serve_tree(ending)
    fault(owner, pids, container)
    owner.wait(60)
    assert wait_until(lambda: not any(process.alive() for process in pids))
    # A device is free when the guards are gone: nothing may be left at that moment.
    assert processes_of(container) == []
    assert node.containers() == []


def test_the_container_is_gone_when_the_owner_has_left_the_block(node: Node) -> None:
    owner, _pids, container = node.serve_tree("ignore")
    owner.terminate()
    owner.wait(60)
    assert processes_of(container) == []
    assert ["docker", "rm", "-f", container] in node.calls()


def test_an_engine_that_ends_ends_its_container(node: Node) -> None:
    owner, _pids = node.start_tree("exit")
    assert owner.wait(60) == 7
    assert not any(process.alive() for process in node.tree())
    assert node.containers() == []


def test_the_command_has_the_devices_and_no_value_of_a_variable(node: Node) -> None:
    model = node.folder / "model"
    launch = node.launch(
        "vllm",
        "serve",
        str(model),
        devices=["2", "3"],
        model=str(model),
        names=["HF_TOKEN", "VLLM_CACHE_ROOT", "CUDA_VISIBLE_DEVICES"],
        HF_TOKEN="hf_planted",
        VLLM_CACHE_ROOT=str(node.folder / "compiled"),
        CUDA_VISIBLE_DEVICES="2,3",
        NODE_ONLY="x",
        no_proxy="127.0.0.1",
    )
    assert launch.container is not None
    hub = node.home / ".cache" / "huggingface"
    assert launch.argv == (
        node.program,
        "run",
        "--rm",
        "--pull=never",
        "--label=servetune",
        f"--cidfile={launch.container.id_file}",
        "--network=host",
        "--ipc=host",
        "--ulimit=memlock=-1",
        "--ulimit=stack=67108864",
        '--gpus="device=2,3"',
        f"--mount=type=bind,src={hub},dst={hub}",
        f"--mount=type=bind,src={node.folder}/compiled,dst={node.folder}/compiled",
        f"--mount=type=bind,src={node.files},dst={node.files},readonly=true",
        f"--mount=type=bind,src={model},dst={model},readonly=true",
        "--env=HF_TOKEN",
        "--env=VLLM_CACHE_ROOT",
        "--env=no_proxy",
        "--env=HF_HOME",
        "--entrypoint=vllm",
        image_id(IMAGE),
        "serve",
        str(model),
    )
    assert launch.env["HF_TOKEN"] == "hf_planted"
    assert launch.env["HF_HOME"] == str(hub)
    assert launch.container.program == node.program
    assert not launch.container.id_file.exists()
    assert (node.folder / "compiled").is_dir()


def test_podman_takes_devices_one_by_one(node: Node) -> None:
    launch = node.launch("vllm", container="podman", devices=["0", "GPU-8f"])
    assert launch.argv[0].endswith("/podman")
    assert "--device=nvidia.com/gpu=0" in launch.argv
    assert "--device=nvidia.com/gpu=GPU-8f" in launch.argv
    assert "--security-opt=label=disable" in launch.argv
    assert not any("--gpus" in part or "--ulimit" in part for part in launch.argv)


@pytest.mark.parametrize("devices", [None, []])
def test_no_devices_are_asked_for_where_there_are_none(
    node: Node, devices: Sequence[str] | None
) -> None:
    assert not any("--gpus" in part for part in node.launch("vllm", devices=devices).argv)


def test_a_model_in_the_hubs_cache_is_mounted_once(node: Node) -> None:
    hub = node.folder / "shared,hub"
    snapshot = hub / "hub" / "models--org--model" / "snapshots" / "abc"
    launch = node.launch("vllm", model=str(snapshot), HF_HOME=str(hub))
    mounts = [part for part in launch.argv if part.startswith("--mount")]
    assert mounts[0] == f'--mount=type=bind,"src={hub}","dst={hub}"'
    assert len(mounts) == 2


def test_the_container_sees_what_was_set_for_it_and_nothing_of_the_node(node: Node) -> None:
    launch = node.launch("env", names=["ENGINE_KEY"], ENGINE_KEY="of the engine", NODE_ONLY="x")
    ended = subprocess.run(
        launch.argv, env=launch.env, capture_output=True, check=True, text=True, timeout=60
    )
    seen = dict(line.split("=", 1) for line in ended.stdout.splitlines())
    assert seen["ENGINE_KEY"] == "of the engine"
    assert seen["HF_HOME"] == str(node.home / ".cache" / "huggingface")
    assert not {"NODE_ONLY", "HOME", "STANDIN_STATE", "PYTHONPATH"} & set(seen)


def test_an_image_that_is_not_there_is_pulled_once(node: Node) -> None:
    (node.state / "registry").write_text("org/other:1\n")
    first = node.prepare("org/other:1")
    assert node.prepare("org/other:1") == first
    assert [call[1:] for call in node.calls() if call[1] == "pull"] == [["pull", "org/other:1"]]
    assert first.fingerprint != node.prepare().fingerprint
    assert first.bin is None


def failure_of(node: Node, image: str = IMAGE, container: str = "docker", **env: str) -> Failure:
    with pytest.raises(EngineError) as caught:
        node.prepare(image, container, **env)
    assert caught.value.failure.kind is FailureKind.ENVIRONMENT_FAILED
    return caught.value.failure


def test_an_image_that_nobody_has(node: Node) -> None:
    failure = failure_of(node, "org/nothing:1")
    assert failure.message == (
        f"{node.program} pull org/nothing:1 ended with status 1: "
        "manifest for org/nothing:1 not found"
    )
    assert "environment.image" in failure.remedy


def test_a_node_without_the_container_program(node: Node) -> None:
    failure = failure_of(node, PATH="/usr/empty")
    assert failure.message.startswith("docker is not on this node's PATH, and image vllm/")


def test_a_container_that_is_gone_already_is_no_trouble(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_STATE", str(node.state))
    id_file = tmp_path / "id"
    assert end_container(node.program, id_file)
    id_file.write_text("")
    assert end_container(node.program, id_file)
    id_file.write_text("0123456789ab\n")
    assert end_container(node.program, id_file)
    assert not id_file.exists()


def test_a_container_that_cannot_be_removed_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho the daemon is down >&2\nexit 1\n")
    program.chmod(0o755)
    id_file = tmp_path / "id"
    id_file.write_text("0123456789ab\n")
    assert not end_container(str(program), id_file, attempts_s=0.3)
    assert id_file.exists()
    assert (
        f"servetune guard: {program} could not remove container 0123456789ab: the daemon is down; "
        f"run `{program} rm -f 0123456789ab`"
    ) in capfd.readouterr().err


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed here")
def test_the_real_client_takes_every_option(node: Node) -> None:
    launch = node.launch("vllm", "serve", devices=["0", "1"], model="/models/x")
    docker = shutil.which("docker")
    assert docker is not None
    ended = subprocess.run(
        [docker, *launch.argv[1:]],
        env=launch.env | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert "Cannot connect to the Docker daemon" in ended.stderr
