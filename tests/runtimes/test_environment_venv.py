"""Virtual environments from requirements, with the real venv and the real pip."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtimes.environment.base import Prepared, prepare
from runtimes.environment.venv import content_hash
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.guard import Process
from runtimes.plan import Environment
from tests.runtimes.make_wheel import make_wheel
from tests.runtimes.tiny_packages import builds, make_source, offline
from tests.runtimes.waiting import wait_until

ASKER = Path(__file__).parent / "environment_asker.py"
ROOT = Path(__file__).parents[2]
FAR_S = 600.0


class Node:
    """A node's cache, a folder of packages, and processes that ask for environments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.counted = folder / "builds"
        self.env = offline(self.counted)
        self.askers: list[subprocess.Popen[str]] = []

    @property
    def toy(self) -> Environment:
        return Environment(requirements=("toy",), wheels=(str(self.wheels),))

    def prepare(self, environment: Environment, **env: str) -> Prepared:
        return asyncio.run(self.preparing(environment, **env))

    async def preparing(self, environment: Environment, **env: str) -> Prepared:
        log = self.folder / "logs" / "environment.log"
        return await prepare(environment, cache=self.cache, log=log, env=self.env | env)

    def failure(self, environment: Environment, **env: str) -> Failure:
        with pytest.raises(EngineError) as caught:
            self.prepare(environment, **env)
        assert caught.value.failure.kind is FailureKind.ENVIRONMENT_FAILED
        return caught.value.failure

    def ask(self, requirement: str = "toy", **env: str) -> subprocess.Popen[str]:
        """Start a process that asks for `requirement`."""
        log = self.folder / f"asker-{len(self.askers)}.log"
        with log.with_suffix(".progress").open("w") as progress:
            asker = subprocess.Popen(
                [sys.executable, ASKER, self.cache, log, requirement, self.wheels],
                env={**self.env, "PYTHONPATH": str(ROOT), **env},
                stdout=subprocess.PIPE,
                stderr=progress,
                text=True,
            )
        self.askers.append(asker)
        return asker

    def progress(self, asker: subprocess.Popen[str]) -> str:
        path = self.folder / f"asker-{self.askers.index(asker)}.progress"
        return path.read_text()

    def environments(self) -> list[Path]:
        return [path for path in (self.cache / "environments").iterdir() if path.is_dir()]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for asker in made.askers:
        asker.kill()
        asker.wait()
        assert asker.stdout is not None
        asker.stdout.close()


def said_by(prepared: Prepared, command: str) -> str:
    ended = subprocess.run(
        [f"{prepared.bin}/{command}"], capture_output=True, check=True, text=True
    )
    return ended.stdout.strip()


def test_eight_processes_at_once_build_once(node: Node) -> None:
    make_source(node.wheels, "toy", "1.0")
    askers = [node.ask() for _ in range(8)]
    answers = {asker.communicate()[0] for asker in askers}
    assert [asker.returncode for asker in askers] == [0] * 8
    assert len(answers) == 1
    assert len(builds(node.counted)) == 1
    commands = Path(answers.pop().strip())
    assert subprocess.check_output([commands / "toy"], text=True) == "1.0\n"


def test_a_killed_builder_is_followed_by_the_next(node: Node) -> None:
    make_source(node.wheels, "toy", "1.0")
    killed = node.ask(TINY_PAUSE_S=str(FAR_S))
    assert wait_until(lambda: len(builds(node.counted)) == 1, deadline_s=60)
    waiting = node.ask()
    assert wait_until(lambda: "waiting for another process" in node.progress(waiting), 60)
    pip = Process.of(builds(node.counted)[0][0])
    killed.send_signal(signal.SIGKILL)
    assert wait_until(lambda: "building" in node.progress(waiting))
    assert not pip.alive()  # or two would write to one folder
    answer, _ = waiting.communicate()
    assert waiting.returncode == 0
    assert subprocess.check_output([f"{answer.strip()}/toy"], text=True) == "1.0\n"
    assert [str(folder / "bin") for folder in node.environments()] == [answer.strip()]


def test_a_torn_build_is_not_taken_for_an_environment(node: Node) -> None:
    make_source(node.wheels, "toy", "1.0")
    built = node.prepare(node.toy)
    assert built.bin == built.path
    assert node.prepare(node.toy) == built
    assert len(builds(node.counted)) == 1
    folder = Path(built.bin or "").parent
    (folder / ".complete").unlink()
    (folder / "bin" / "toy").write_text("half a fi")
    assert node.prepare(node.toy) == built
    assert said_by(built, "toy") == "1.0"
    assert len(builds(node.counted)) == 2


def test_another_version_is_another_environment(node: Node) -> None:
    make_wheel(node.wheels, "toy", "1.0")
    old = node.prepare(node.toy)
    make_wheel(node.wheels, "toy", "2.0")
    new = node.prepare(node.toy)
    pinned = node.prepare(replace(node.toy, requirements=("toy==1.0",)))
    assert [said_by(each, "toy") for each in (old, new, pinned)] == ["1.0", "2.0", "1.0"]
    assert len({old.bin, new.bin, pinned.bin}) == 3
    # The same distributions by another road are the same environment to whoever compares results.
    assert old.fingerprint == pinned.fingerprint != new.fingerprint


def test_overrides_come_last_and_without_their_dependencies(node: Node) -> None:
    make_wheel(node.wheels, "toy", "1.0", ["part<2"])
    make_wheel(node.wheels, "part", "1.0")
    make_wheel(node.wheels, "part", "2.0", ["nowhere"])  # pip alone would refuse it twice over
    prepared = node.prepare(replace(node.toy, overrides=("part==2.0",)))
    assert said_by(prepared, "part") == "2.0"


def test_what_cannot_be_installed_is_said_with_pips_reason(node: Node) -> None:
    failure = node.failure(replace(node.toy, requirements=("toy==9",)))
    assert failure.message.startswith("pip could not install toy==9 (status 1): ERROR: Could not")
    assert "No matching distribution found for toy==9" in failure.log_tail
    assert "PIP_INDEX_URL" in failure.remedy
    # And it is not remembered for ever.
    index = node.folder / "index"
    index.mkdir()
    make_wheel(index, "toy", "9")
    prepared = node.prepare(replace(node.toy, requirements=("toy==9",)), PIP_FIND_LINKS=str(index))
    assert said_by(prepared, "toy") == "9"


def test_a_failure_is_shared_by_those_who_waited_for_it(node: Node) -> None:
    make_source(node.wheels, "toy", "1.0", broken=True)
    askers = [node.ask(TINY_PAUSE_S="1") for _ in range(4)]
    said = [asker.communicate()[0] for asker in askers]
    assert [asker.returncode for asker in askers] == [1] * 4
    assert len(set(said)) == 1
    waited = sum("waiting for another process" in node.progress(asker) for asker in askers)
    assert len(builds(node.counted)) == len(askers) - waited


def test_a_token_in_an_address_is_not_shown(node: Node) -> None:
    address = "https://someone:planted-token@127.0.0.1:9/simple"
    line = f"--extra-index-url={address}"
    wanted = replace(node.toy, requirements=("toy", line))
    failure = node.failure(wanted, PIP_NO_INDEX="0", PIP_RETRIES="0", PIP_INDEX_URL=address)
    shown = f"{failure.message} {failure.remedy} {failure.log_tail}"
    assert "planted-token" not in shown
    assert "https://***@127.0.0.1:9/simple" in failure.message


def test_variables_fill_requirements_and_do_not_lead_elsewhere(node: Node) -> None:
    make_wheel(node.wheels, "toy", "1.0")
    wanted = Environment(requirements=("toy", "--find-links=${TOY_WHEELS}"))
    elsewhere = node.folder / "elsewhere"
    elsewhere.mkdir()
    prepared = node.prepare(
        wanted,
        TOY_WHEELS=str(node.wheels),
        PIP_USER="1",
        PIP_TARGET=str(elsewhere),
        PYTHONPATH=str(elsewhere),
    )
    assert said_by(prepared, "toy") == "1.0"
    assert list(elsewhere.iterdir()) == []
    kept = (Path(prepared.bin or "").parent / "requirements.txt").read_text()
    assert "${TOY_WHEELS}" in kept


def test_a_cache_on_a_file_system_without_locks(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system of a test machine refuses locks, as shared ones of clusters do."""

    def refused(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    failure = node.failure(node.toy)
    assert failure.message.startswith(f"{node.cache / 'environments'} is on a file system without")
    assert failure.remedy == "set SERVETUNE_CACHE to a folder on a disk of the node"


def test_a_wheel_that_is_a_dangling_link(node: Node) -> None:
    (node.wheels / "toy-1.0-py3-none-any.whl").symlink_to(node.wheels / "gone")
    failure = node.failure(node.toy)
    assert failure.message.startswith(f"environment.wheels {node.wheels} cannot be read")


def test_a_folder_of_wheels_that_is_not_there(node: Node) -> None:
    failure = node.failure(replace(node.toy, wheels=("/nowhere/wheels",)))
    assert failure.message.startswith("environment.wheels /nowhere/wheels cannot be read")


def test_a_base_interpreter_of_the_users_choice(node: Node) -> None:
    make_wheel(node.wheels, "toy", "1.0")
    # Another path to an interpreter that every test machine has.
    link = node.folder / "my-python"
    link.write_text(f'#!/bin/sh\necho used >> {node.folder}/used\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    prepared = node.prepare(replace(node.toy, python=str(link)))
    assert said_by(prepared, "toy") == "1.0"
    assert (node.folder / "used").read_text().splitlines() == ["used", "used"]
    failure = node.failure(replace(node.toy, python="/nowhere/python"))
    assert failure.message.startswith("environment.python /nowhere/python does not answer")


def test_a_cancelled_build_leaves_no_process_and_no_lock(node: Node) -> None:
    make_source(node.wheels, "toy", "1.0")

    async def main() -> Prepared:
        building = asyncio.create_task(node.preparing(node.toy, TINY_PAUSE_S=str(FAR_S)))
        await asyncio.to_thread(wait_until, lambda: len(builds(node.counted)) == 1, 60)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        return await node.preparing(node.toy)

    assert said_by(asyncio.run(main()), "toy") == "1.0"
    assert [others for _, others in builds(node.counted)] == [0, 0]


def test_a_cache_that_cannot_be_written(node: Node) -> None:
    node.cache.write_text("a file where the folder should be")
    failure = node.failure(node.toy)
    assert "cannot be written" in failure.message
    assert "SERVETUNE_CACHE" in failure.remedy


def test_the_hash_knows_what_decides_the_content(tmp_path: Path) -> None:
    listed = tmp_path / "listed.txt"
    listed.write_text("toy==1.0\n")
    plain = Environment(requirements=("toy==1.0",))
    base = content_hash(plain, sys.executable, "3.11")
    assert base == content_hash(plain, sys.executable, "3.11")
    assert base != content_hash(plain, sys.executable, "3.12")
    assert base != content_hash(replace(plain, overrides=("toy==1.0",)), sys.executable, "3.11")
    from_file = Environment(requirements=(f"-r {listed}",))
    before = content_hash(from_file, sys.executable, "3.11")
    listed.write_text("toy==2.00\n")
    assert content_hash(from_file, sys.executable, "3.11") != before
