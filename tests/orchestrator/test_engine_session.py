"""Running deployments: several servers, ranks, ports, environments, compile caches; real ones."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.engine_session import EngineSession
from orchestrator.engine_start import PORT_TAKEN, started
from orchestrator.messages import Phase, PhaseEntered, StartStep, TrialOrder
from orchestrator.start_steps import StartSteps
from runtimes.compile_cache import cache_folder, kernels_for
from runtimes.engines.base import create_engine
from runtimes.environment.base import prepare
from runtimes.errors import EngineError, InternalError
from runtimes.failure import FailureKind
from runtimes.parallel import ParallelLayout
from runtimes.plan import PYTHON, EngineConfig, Environment, ProcessPlan
from tests.e2e.studies import FAULT
from tests.orchestrator.attempts import Attempt, attempted, order, planned, several

SOUND: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_CACHE", str(tmp_path / "cache"))


def gone(pids: tuple[int, ...]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


class TestSeveralServers:
    def test_they_are_measured_as_one(self) -> None:
        attempt = attempted(several(order(requests=24), SOUND, SOUND, SOUND))
        measured = attempt.measured.measurement
        assert measured.requests_completed == 24
        assert measured.requests_failed == 0
        (stage,) = attempt.stages
        before, after = stage.record.counters_before, stage.record.counters_after
        for counter, counted in (
            ("generation_tokens_total", measured.output_tokens),
            ("prompt_tokens_total", measured.input_tokens),
            ("requests_finished_total", 24),
        ):
            assert after[counter] - before[counter] == counted, counter
        facts = attempt.done.facts
        assert facts.engine_config["servetune.servers"] == "3"
        assert facts.engine_version
        assert len(set(facts.process_ids)) == 9
        assert gone(facts.process_ids)

    def test_each_keeps_its_log(self) -> None:
        attempt = attempted(several(order(), SOUND, SOUND))
        first, second = attempt.done.log.split("==> server 1 <==")
        assert first.startswith("==> server 0 <==\n")
        assert "[simulator]" in first
        assert "[simulator]" in second

    def test_one_that_does_not_start_fails_all_and_is_named(self) -> None:
        attempt = attempted(several(order(), SOUND, {FAULT: "start"}))
        failure = attempt.failure
        assert failure.kind is FailureKind.INVALID_CONFIG
        assert failure.message.startswith("server 1: ")
        assert "must be divisible" in failure.message
        assert failure.log_tail.startswith("==> server 1 <==\n")
        assert gone(attempt.process_ids)

    def test_one_that_dies_under_load_ends_the_stage_whichever_is_busy(self) -> None:
        attempt = attempted(several(order(requests=4000), SOUND, {FAULT: "crash"}))
        failure = attempt.failure
        assert failure.kind is FailureKind.CRASHED
        assert failure.message.startswith("server 1: ")
        (stage,) = attempt.stages
        assert stage.record.measurement.requests_failed > 0
        assert stage.counts.completed + stage.counts.failed < 4000
        assert gone(attempt.process_ids)

    def test_one_that_hangs_at_its_start_is_told_apart(self) -> None:
        attempt = attempted(several(order(start_s=6.0), SOUND, {FAULT: "start-hang"}))
        failure = attempt.failure
        assert failure.kind is FailureKind.START_TIMEOUT
        assert failure.message.startswith("not ready within 6 s; for the last ")
        assert failure.message.endswith("it was server 1: listening, not yet healthy")
        assert "==> server 0 <==" in failure.log_tail
        assert "==> server 1 <==" in failure.log_tail


def test_a_start_tells_its_steps_before_it_is_ready() -> None:
    attempt = attempted(order())
    assert attempt.measured.stage == 0
    kinds = [type(event) for event in attempt.events]
    warming = next(
        number
        for number, event in enumerate(attempt.events)
        if isinstance(event, PhaseEntered) and event.phase is Phase.WARMING
    )
    assert StartStep in kinds[:warming]
    assert StartStep not in kinds[warming:]
    assert attempt.steps[0] == "preparing the environment"
    assert not attempt.done.log.startswith("==>")
    facts = attempt.done.facts
    assert set(facts.engine_config) >= {"servetune.environment"}
    assert "servetune.compile_cache" not in facts.engine_config
    assert facts.startup_s is not None


RECORD = """
import json, os, sys, time
from pathlib import Path
target, files, *rest = sys.argv[1:]
said = {"argv": rest, "env": dict(os.environ), "cwd": os.getcwd()}
said["files"] = {path.name: path.read_text() for path in Path(files).iterdir()}
draft = Path(target + ".draft")
draft.write_text(json.dumps(said))
draft.replace(target)
time.sleep(600)
"""


def recording(target: Path, *arguments: str, gpus: int = 1, **fields: object) -> ProcessPlan:
    """A process that writes what it was given to `target`."""
    argv = (PYTHON, "-c", RECORD, str(target), "{files}", *arguments)
    return replace(ProcessPlan(argv, gpus=gpus), **fields)  # type: ignore[arg-type]  # test data


@dataclass(frozen=True)
class Given:
    """What a process was started with."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    files: dict[str, str]


async def until_written(*targets: Path) -> list[Given]:
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.05)
            if await asyncio.to_thread(lambda: all(target.exists() for target in targets)):
                break
    return [Given(**json.loads(target.read_text())) for target in targets]


async def spawned(
    given: TrialOrder, scratch: Path, *targets: Path
) -> tuple[list[Given], EngineSession]:
    """What the processes were given, once they are gone."""
    steps = StartSteps(lambda words: None)
    async with started(given, scratch, steps, hold=lambda waits: None) as session:
        said = await until_written(*targets)
    steps.close()
    assert gone(session.process_ids)
    return said, session


def test_ranks_meet_and_use_their_own_devices(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in ("a", "b", "c")]
    meeting = {"port": (0, 233), "master_port": tuple(range(7))}
    words = ("{host}", "{port}", "{master_host}", "{master_port}")
    head = recording(targets[0], *words, gpus=2, ports=meeting, files={"c.yaml": "theirs: {port}"})
    rank = recording(targets[1], *words[1:], gpus=2, node=1, ports={})
    other = recording(targets[2], *words, gpus=1, server=1, ports=meeting)
    given = planned(order(), head, rank, other)
    devices = replace(given.allocation, gpu_ids=("7", "2", "3", "4", "0"), visible=True)
    given = replace(given, allocation=devices, secrets={"HF_TOKEN": "planted"})
    (first, second, third), session = asyncio.run(spawned(given, tmp_path, *targets))
    host, port, master_host, master_port = first.argv
    assert (host, master_host) == ("127.0.0.1", "127.0.0.1")
    assert second.argv == [port, master_host, master_port]
    assert third.argv[1] != port
    assert third.argv[3] != master_port
    assert first.files == {"c.yaml": "theirs: {port}"}
    seen = [said.env["CUDA_VISIBLE_DEVICES"] for said in (first, second, third)]
    assert seen == ["7,2", "3,4", "0"]
    assert {said.env["HF_TOKEN"] for said in (first, second, third)} == {"planted"}
    assert len({str(said.cwd) for said in (first, second, third)}) == 3
    assert [running.label for running in session.processes] == [
        "server 0",
        "server 0, node 1",
        "server 1",
    ]
    assert len(session.endpoints) == 2
    assert session.flags == set()


def test_a_server_over_two_nodes_runs_its_ranks_on_one_bundle() -> None:
    base = order()
    layout = ParallelLayout(tp=2)
    config = EngineConfig("simulated", base.model, layout=layout, nodes=2)
    plan = create_engine("simulated").plan(config)
    assert [process.node for process in plan.processes] == [0, 1]
    attempt = attempted(planned(replace(base, plan=plan), *plan.processes))
    assert attempt.measured.measurement.requests_completed == 12
    assert len(attempt.process_ids) == 6
    assert gone(attempt.process_ids)
    assert "==> server 0, node 1 <==" in attempt.done.log


def test_an_allocation_of_the_wrong_size_is_a_bug(tmp_path: Path) -> None:
    given = planned(order(), recording(tmp_path / "never", gpus=2))
    wrong = replace(given.allocation, gpu_ids=("0",), visible=True)
    with pytest.raises(InternalError, match="2 GPUs planned, 1 allocated"):
        asyncio.run(spawned(replace(given, allocation=wrong), tmp_path))


def test_a_port_that_somebody_listens_on_afterwards_is_flagged(tmp_path: Path) -> None:
    async def run() -> set[str]:
        target = tmp_path / "target"
        process = recording(target, "{port}", ports={"port": (0, 1)})
        steps = StartSteps(lambda words: None)
        given = planned(order(), process)
        with socket.socket() as left:
            async with started(given, tmp_path, steps, hold=lambda waits: None) as session:
                (said,) = await until_written(target)
                left.bind(("127.0.0.1", int(said.argv[0]) + 1))
                left.listen()
        return session.flags

    assert asyncio.run(run()) == {PORT_TAKEN}


class TestEnvironment:
    def test_one_that_is_not_there_is_an_outcome(self) -> None:
        base = order()
        missing = Environment(python="/nowhere/bin/python")
        attempt = attempted(replace(base, plan=replace(base.plan, environment=missing)))
        failure = attempt.failure
        assert failure.kind is FailureKind.ENVIRONMENT_FAILED
        assert "/nowhere/bin/python" in failure.message
        assert failure.remedy
        assert attempt.done.facts.process_ids == ()

    def test_its_fingerprint_is_recorded(self) -> None:
        base = order()
        environment = Environment(python=sys.executable)
        attempt = attempted(replace(base, plan=replace(base.plan, environment=environment)))

        async def fingerprint() -> str:
            prepared = await prepare(
                environment, cache=Path("/unused"), log=Path("/unused"), env=os.environ
            )
            return prepared.fingerprint

        recorded = attempt.done.facts.engine_config["servetune.environment"]
        assert recorded == asyncio.run(fingerprint())


class TestCompileCache:
    @staticmethod
    def compiling(base: TrialOrder) -> TrialOrder:
        return replace(base, plan=replace(base.plan, compiles="kernels of this layout"))

    def test_of_two_starts_one_is_cold(self) -> None:
        async def run() -> list[Attempt]:
            attempts = [Attempt(self.compiling(order())) for _ in range(2)]
            await asyncio.gather(*(attempt.run() for attempt in attempts))
            return attempts

        attempts = asyncio.run(run())
        found = [one.done.facts.engine_config["servetune.compile_cache"] for one in attempts]
        assert sorted(found) == ["cold", "warm"]

    def test_waiting_costs_neither_the_trial_its_time_nor_a_cancel_its_effect(
        self, tmp_path: Path
    ) -> None:
        async def run() -> Attempt:
            given = self.compiling(order(trial_s=2.0))
            prepared = await prepare(
                Environment(), cache=tmp_path, log=tmp_path / "log", env=os.environ
            )
            folder = cache_folder(tmp_path / "cache", "simulated", prepared.fingerprint)
            attempt = Attempt(given)
            async with kernels_for(folder, given.plan.compiles, {}, on_wait=lambda: None):
                running = asyncio.ensure_future(attempt.run())
                await attempt.until_step("waiting for the compile cache")
                await asyncio.sleep(3.0)  # longer than the whole trial may take
                assert not running.done()
                attempt.body.cancel()
                await running
            return attempt

        attempt = asyncio.run(run())
        assert type(attempt.done.result).__name__ == "Stopped"


def test_a_url_that_is_none_is_refused(tmp_path: Path) -> None:
    base = order()
    plan = replace(base.plan, processes=(), attach="gpu-3:8000")

    async def run() -> None:
        steps = StartSteps(lambda words: None)
        async with started(replace(base, plan=plan), tmp_path, steps, hold=lambda waits: None):
            pass

    with pytest.raises(EngineError) as raised:
        asyncio.run(run())
    assert raised.value.failure.kind is FailureKind.INVALID_CONFIG
    assert "does not begin with http://" in raised.value.failure.message
