"""Servers that somebody else runs: measured, explained when they fail, and left running."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from orchestrator.messages import TrialOrder
from runtimes.engines.base import create_engine
from runtimes.failure import FailureKind
from runtimes.plan import EngineConfig
from runtimes.ports import HeldPort
from tests.e2e.studies import ROOT
from tests.orchestrator.attempts import attempted, order

MODEL = "meta-llama/Llama-3.2-1B"
KEY = "sk-planted-0123456789"


@dataclass(frozen=True)
class Somebodys:
    """A simulated server that was started without servetune."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(log: Path, **env: str) -> Iterator[Somebodys]:
    with HeldPort(Random()) as held:
        held.release()
        command = [sys.executable, "-m", "runtimes.simulator", "--host", "127.0.0.1"]
        command += ["--port", str(held.port), "--accelerator", "H100", "--model", MODEL]
        command += ["--startup-s", "0.1", "--", MODEL]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            until_healthy(held.port, process)
            yield Somebodys(f"http://127.0.0.1:{held.port}", process)
        finally:
            process.kill()
            process.wait()


def until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline_s
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError(f"the server ended with {process.returncode}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Somebodys]:
    with running(tmp_path / "server.log") as started:
        yield started


def attached_to(url: str, **secrets: str) -> TrialOrder:
    base = order(start_s=30.0)
    config = EngineConfig("external", MODEL, options={"url": url, "gpus": 1})
    plan = create_engine("external").plan(config)
    return replace(base, plan=plan, model=MODEL, secrets=secrets)


def test_it_is_measured_sampled_and_left_running(server: Somebodys) -> None:
    attempt = attempted(attached_to(server.url))
    measured = attempt.measured.measurement
    assert measured.requests_completed == 12
    (stage,) = attempt.stages
    before, after = stage.record.counters_before, stage.record.counters_after
    tokens = "generation_tokens_total"
    assert after[tokens] - before[tokens] == measured.output_tokens
    facts = attempt.done.facts
    assert facts.process_ids == ()
    assert facts.engine_version
    assert facts.engine_config["servetune.attached"] == server.url
    assert attempt.done.log == ""
    assert server.process.poll() is None


def test_one_that_dies_under_load_is_told(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", SERVETUNE_SIMULATOR_FAULT="crash") as server:
        attempt = attempted(attached_to(server.url))
    failure = attempt.failure
    assert failure.kind in (FailureKind.CRASHED, FailureKind.REQUESTS_FAILED)
    assert "the engine's log" not in failure.remedy
    assert "started elsewhere" in failure.remedy
    assert attempt.stages


def test_nobody_at_the_address_is_told_at_once() -> None:
    with HeldPort(Random()) as held:
        held.release()
        attempt = attempted(attached_to(f"http://127.0.0.1:{held.port}"))
        failure = attempt.failure
        assert failure.kind is FailureKind.REQUESTS_FAILED
        assert failure.message == (
            "no OpenAI-compatible server answers at "
            f"http://127.0.0.1:{held.port}: connection refused"
        )
    assert "check the URL" in failure.remedy


def test_a_host_that_does_not_exist_is_told_at_once() -> None:
    failure = attempted(attached_to("http://no-such-host.invalid:8000")).failure
    assert "cannot resolve host" in failure.message


def test_a_key_is_needed_named_and_enough(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", VLLM_API_KEY=KEY) as server:
        refused = attempted(attached_to(server.url))
        wrong = attempted(attached_to(server.url, OPENAI_API_KEY="sk-other"))
        right = attempted(attached_to(server.url, OPENAI_API_KEY=KEY))
    for attempt in (refused, wrong):
        assert attempt.failure.kind is FailureKind.REQUESTS_FAILED
        assert attempt.failure.message.endswith("answered HTTP 401: it wants an API key")
        assert "--api-key-env" in attempt.failure.remedy
        assert "engines.external.env.OPENAI_API_KEY" in attempt.failure.remedy
    assert right.measured.measurement.requests_completed == 12
    assert KEY not in repr(right.done)


def test_another_model_than_it_serves_is_told(server: Somebodys) -> None:
    attempt = attempted(replace(attached_to(server.url), model="acme/other"))
    assert attempt.failure.kind is FailureKind.REQUESTS_FAILED
    assert "HTTP 404" in attempt.failure.message
    assert "acme/other" in attempt.failure.message
