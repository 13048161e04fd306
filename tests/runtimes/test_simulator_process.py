"""The simulator as a real process over real HTTP: protocol, metrics, limits and every fault."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import runtimes
from runtimes.simulator.faults import FAULT_VARIABLE, SOUND_REQUESTS
from runtimes.simulator.metrics import LATENESS, STEPS
from tests.runtimes.free_ports import free_port

DEADLINE_S = 60.0
MODEL = "meta-llama/Llama-3.2-1B"
SOURCES = Path(runtimes.__file__).parents[1]


@dataclass
class Server:
    """A simulator process and a plain client for it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, bytes]:
        return self.ask("GET", path, None)

    def post(self, **fields: object) -> tuple[int, bytes]:
        body = {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 4, **fields}
        return self.ask("POST", "/v1/completions", json.dumps(body))

    def metrics(self) -> dict[str, float]:
        """Values by metric name, summed over series."""
        values: dict[str, float] = {}
        for line in self.get("/metrics")[1].decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0]
                values[name] = values.get(name, 0.0) + float(value)
        return values

    def wait_healthy(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.health() != 200:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def health(self) -> int:
        """Status of `/health`, once the process listens."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                return self.get("/health")[0]
            except ConnectionRefusedError:
                time.sleep(0.02)

    def ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _command(port: int, engine_argv: Sequence[str], own: Sequence[str], model: str) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(port)]
    settings = ["--accelerator", "H100", "--model", model, "--startup-s", "0.1", *own]
    start = [sys.executable, "-m", "runtimes.simulator"]
    return [*start, *address, *settings, "--", model, *address, *engine_argv]


@contextmanager
def simulator(
    tmp_path: Path,
    *engine_argv: str,
    own: Sequence[str] = (),
    fault: str = "none",
    model: str = MODEL,
    healthy: bool = True,
) -> Iterator[Server]:
    port, log = free_port(), tmp_path / "simulator.log"
    environment = {**os.environ, FAULT_VARIABLE: fault, "PYTHONPATH": str(SOURCES)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            _command(port, engine_argv, own, model),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process,
    ):
        server = Server(process, port, log)
        try:
            if healthy:
                server.wait_healthy()
            yield server
        finally:
            process.kill()


def failed_start(
    tmp_path: Path, *engine_argv: str, fault: str = "none", model: str = MODEL
) -> tuple[int, str]:
    """Exit status and log of a simulator that is expected not to start."""
    with simulator(tmp_path, *engine_argv, fault=fault, model=model, healthy=False) as server:
        status = server.process.wait(DEADLINE_S)
        return status, server.log.read_text()


def events(body: bytes) -> list[str]:
    assert body.endswith(b"\n\n")
    parts = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") for part in parts)
    return [part.removeprefix("data: ") for part in parts]


def test_it_is_healthy_only_after_its_startup(tmp_path: Path) -> None:
    with simulator(tmp_path, own=["--startup-s", "1.5"], healthy=False) as server:
        assert server.health() == 503
        assert server.post()[0] == 503
        server.wait_healthy()
        assert server.post()[0] == 200
        log = server.log.read_text()
    assert "Loading weights" in log
    assert "Maximum concurrency for 131,072 tokens per request" in log


def test_version_and_models(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        assert json.loads(server.get("/version")[1]) == {"version": "0.33.0"}
        models = json.loads(server.get("/v1/models")[1])
        assert [model["id"] for model in models["data"]] == [MODEL]
        assert server.get("/nothing")[0] == 404


def test_a_stream_has_a_chunk_per_token_then_usage_then_done(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        status, body = server.post(
            prompt=list(range(20)),
            max_tokens=5,
            min_tokens=5,
            ignore_eos=True,
            stream=True,
            stream_options={"include_usage": True},
        )
    assert status == 200
    *chunks, done = events(body)
    assert done == "[DONE]"
    *tokens, usage = [json.loads(chunk) for chunk in chunks]
    assert len(tokens) == 5
    assert all(token["choices"][0]["text"] for token in tokens)
    reasons = [token["choices"][0]["finish_reason"] for token in tokens]
    assert reasons == [None, None, None, None, "length"]
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == 20
    assert usage["usage"]["completion_tokens"] == 5
    assert {chunk["object"] for chunk in [*tokens, usage]} == {"text_completion"}


def test_without_include_usage_the_stream_ends_in_done_alone(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        _, body = server.post(stream=True, max_tokens=2)
    assert len(events(body)) == 3


def test_a_plain_answer_is_one_document(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        _, body = server.post(prompt="twelve chars", max_tokens=6)
    answer = json.loads(body)
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 6,
        "total_tokens": 9,
        "prompt_tokens_details": None,
    }
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model": "another"}, 404),
        ({"prompt": []}, 400),
        ({"prompt": ["a", 1]}, 400),
        ({"max_tokens": 0}, 400),
        ({"min_tokens": 9}, 400),
        ({"max_tokens": 200_000}, 400),
    ],
)
def test_wrong_requests_are_answered_with_an_error(
    tmp_path: Path, fields: dict[str, object], status: int
) -> None:
    with simulator(tmp_path) as server:
        answered, body = server.post(**fields)
        assert answered == status
        assert json.loads(body)["error"]["code"] == status
        assert server.metrics()["vllm:generation_tokens_total"] == 0


def test_counters_equal_what_was_generated(tmp_path: Path) -> None:
    with simulator(tmp_path, "--data-parallel-size", "2") as server:
        before = server.metrics()
        with ThreadPoolExecutor(8) as pool:
            statuses = [
                pool.submit(server.post, prompt=[n, *range(40)], max_tokens=10 + n, stream=True)
                for n in range(8)
            ]
            assert [status.result()[0] for status in statuses] == [200] * 8
        after = server.metrics()
        page = server.get("/metrics")[1].decode()
    assert before["vllm:generation_tokens_total"] == 0
    assert after["vllm:generation_tokens_total"] == sum(10 + n for n in range(8))
    assert after["vllm:prompt_tokens_total"] == 8 * 41
    assert after["vllm:prefix_cache_queries_total"] == 8 * 41
    assert after["vllm:request_success_total"] == 8
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0
    assert after["vllm:kv_cache_usage_perc"] == 0
    assert after[STEPS] > 0
    assert after[LATENESS] > 0
    assert 'vllm:request_success_total{engine="1"' in page
    assert 'finished_reason="length"' in page
    for engine in ("0", "1"):
        share = [line for line in page.splitlines() if line.startswith("vllm:generation_tokens")]
        assert any(f'engine="{engine}"' in line and not line.endswith(" 0") for line in share)


def test_a_client_that_goes_away_frees_its_place(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
        body = {"model": MODEL, "prompt": [1], "max_tokens": 100_000, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
        connection.close()
        deadline = time.monotonic() + DEADLINE_S
        while server.metrics()["vllm:num_requests_running"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert server.metrics()["vllm:request_success_total"] == 1


def test_sigterm_ends_it_with_status_0(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0


def test_a_malformed_argument_ends_as_in_argparse(tmp_path: Path) -> None:
    status, log = failed_start(tmp_path, "--max-num-seqs", "abc")
    assert status == 2
    assert log.splitlines()[-1].endswith("error: argument --max-num-seqs: invalid int value: 'abc'")


def test_an_argument_vllm_has_not_is_refused(tmp_path: Path) -> None:
    status, log = failed_start(tmp_path, "--max-num-sequences", "4")
    assert status == 2
    assert "error: unrecognized arguments: --max-num-sequences" in log


def test_an_argument_without_effect_is_accepted_and_said_so(tmp_path: Path) -> None:
    with simulator(tmp_path, "--enforce-eager", "--max_num_seqs", "8") as server:
        assert "without effect on the simulation: enforce-eager" in server.log.read_text()


@pytest.mark.parametrize(
    ("argv", "model", "message"),
    [
        (["-tp", "3"], MODEL, "attention heads (32) must be divisible by tensor parallel size (3)"),
        (["--max-num-seqs", "64", "--max-num-batched-tokens", "32"], MODEL, "Value error, max_num"),
        (["--max-model-len", "1M"], MODEL, "is greater than the derived max_model_len"),
        (["--gpu-memory-utilization", "0.05"], MODEL, "No available memory for the cache blocks"),
        (["--num-gpu-blocks-override", "9"], MODEL, "GiB KV cache is needed, which is larger than"),
        ([], "meta-llama/Llama-3.1-70B", "torch.OutOfMemoryError: CUDA out of memory. Tried to"),
    ],
)
def test_what_vllm_would_not_start_does_not_start(
    tmp_path: Path, argv: list[str], model: str, message: str
) -> None:
    status, log = failed_start(tmp_path, *argv, model=model)
    assert status == 1
    assert message in log


def test_an_unknown_model_is_a_user_error(tmp_path: Path) -> None:
    status, log = failed_start(tmp_path, model="nobody/nothing")
    assert status == 2
    assert "'nobody/nothing' is not in the catalogue" in log


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("start", "Value error, Total number of attention heads (32) must be divisible"),
        ("oom", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate"),
    ],
)
def test_faults_that_prevent_the_start(tmp_path: Path, fault: str, message: str) -> None:
    status, log = failed_start(tmp_path, fault=fault)
    assert status == 1
    assert message in log


def test_an_unknown_fault_is_a_user_error(tmp_path: Path) -> None:
    status, log = failed_start(tmp_path, fault="flood")
    assert status == 2
    assert "start-hang" in log


def test_fault_start_hang_never_becomes_healthy(tmp_path: Path) -> None:
    with simulator(tmp_path, fault="start-hang", own=["--startup-s", "0"], healthy=False) as server:
        for _ in range(20):
            assert server.health() == 503
            time.sleep(0.02)
        assert server.process.poll() is None


def _sound_requests(server: Server) -> None:
    for _ in range(SOUND_REQUESTS):
        assert server.post()[0] == 200


def test_fault_crash_cuts_a_stream_and_dies(tmp_path: Path) -> None:
    with simulator(tmp_path, fault="crash") as server:
        _sound_requests(server)
        with pytest.raises(http.client.IncompleteRead) as cut:
            server.post(stream=True, max_tokens=500)
        assert cut.value.partial.startswith(b"data: ")
        assert server.process.wait(DEADLINE_S) == 1
        log = server.log.read_text()
    assert "EngineCore encountered a fatal error" in log
    assert "EngineDeadError" in log


def test_fault_hang_keeps_health_and_sends_nothing(tmp_path: Path) -> None:
    with simulator(tmp_path, fault="hang") as server:
        _sound_requests(server)
        with socket.create_connection(("127.0.0.1", server.port), timeout=1.0) as connection:
            body = json.dumps({"model": MODEL, "prompt": [1], "stream": True})
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode())
            )
            with pytest.raises(TimeoutError):
                connection.recv(1)
            assert server.get("/health")[0] == 200


def test_fault_http_500(tmp_path: Path) -> None:
    with simulator(tmp_path, fault="http-500") as server:
        _sound_requests(server)
        status, body = server.post()
        assert status == 500
        assert json.loads(body)["error"]["type"] == "InternalServerError"
        assert server.get("/health")[0] == 200


def test_fault_stubborn_outlives_sigterm(tmp_path: Path) -> None:
    with simulator(tmp_path, fault="stubborn") as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert server.post()[0] == 200
        assert server.process.poll() is None


def test_tokens_come_at_the_model_s_pace(tmp_path: Path) -> None:
    """A 1B model's step on an H100 is 2.5 GB at 2.8 TB/s and 0.8 ms of overheads: 1.7 ms."""
    with simulator(tmp_path) as server:
        before = time.monotonic()
        assert server.post(max_tokens=400)[0] == 200
        assert time.monotonic() - before > 400 * 0.0015
