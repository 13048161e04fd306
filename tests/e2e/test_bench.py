"""`servetune bench` against a server process: its document, its table, its record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import studies
from tests.orchestrator.commands import servetune
from tests.runtimes.test_simulator_process import MODEL, Server, simulator
from tests.runtimes.workload_files import tiny_model
from tracking.open import open_run

WORKLOAD = ("--input-tokens", "32", "--output-tokens", "8")
LATENCY = {"mean", "p50", "p90", "p95", "p99"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with simulator(tmp_path) as started:
        yield started


def bench(server: Server, cwd: Path, *options: str | Path, model: str = MODEL) -> dict[str, Any]:
    url = f"http://127.0.0.1:{server.port}"
    done = servetune("bench", "--url", url, "--model", model, *options, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_document_and_the_record(server: Server, tmp_path: Path) -> None:
    found = bench(
        server, tmp_path, *WORKLOAD, "--concurrency", "4", "--requests", "24",
        "--ttft-p99", "60000", "--results", "there",
    )  # fmt: skip
    assert found["requests"] == {"completed": 24, "failed": 0}
    assert found["duration_s"] > 0
    assert isinstance(found["client_limited"], bool)
    for latency in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"):
        assert set(found[latency]) == LATENCY
        assert 0 < found[latency]["p50"] <= found[latency]["p90"] <= found[latency]["p99"]
    assert found["ttft_ms"]["p50"] < found["e2e_ms"]["p50"]
    rates = found["throughput"]
    assert set(rates) == {
        *("requests_per_s", "input_tokens_per_s", "output_tokens_per_s", "total_tokens_per_s"),
        "goodput_per_s",
    }
    assert rates["goodput_per_s"] == rates["requests_per_s"] > 0
    parts = rates["input_tokens_per_s"] + rates["output_tokens_per_s"]
    assert rates["total_tokens_per_s"] == pytest.approx(parts)
    assert set(found["client"]) == {
        *("processes", "cpu_s", "cpu_share", "lag_p99_ms", "send_lateness_p99_ms"),
        *("held_ratio", "connections_opened"),
    }
    assert found["client"]["cpu_s"] > 0
    (limit,) = found["slo"]
    assert (limit["limit"], limit["met"]) == ("ttft p99 ≤ 60000 ms", True)
    assert found["slo_attainment"] == 1.0
    assert (found["state"], found["failure"], found["stopped_by"]) == ("completed", None, None)
    assert "attached_simulator" in found["flags"]
    assert found["throughput_per_gpu"] == rates
    assert set(found["ttft_scheduled_ms"]) == set(found["e2e_scheduled_ms"]) == LATENCY
    assert (found["slo_rate_low"], found["slo_rate_high"]) == (None, None)
    (stage,) = found["stages"]
    assert (set(stage["flags"]), stage["cross_check"]) == (set(found["flags"]), None)
    assert (stage["load"], stage["value"], stage["deciding"]) == ("concurrency", 4.0, True)
    assert stage["ttft_ms"] == found["ttft_ms"]

    opened = open_run(tmp_path / found["record"])
    run, layout = opened.pandas, opened.layout
    assert layout.root.parent == tmp_path / "there"
    assert layout.run == found["run"]
    assert "results: there\n" in layout.experiment.read_text()
    (trial,) = run.trials().to_dict("records")
    assert trial["ttft_p99_ms"] == found["ttft_ms"]["p99"]
    assert trial["output_throughput"] == rates["output_tokens_per_s"]
    requests = run.requests(0)
    assert len(requests) == 24
    assert set(requests["sent_tokens"]) == {32}
    assert set(requests["output_tokens"]) == {8}
    assert server.health() == 200


def test_a_load_of_several_stages(server: Server, tmp_path: Path) -> None:
    load = tmp_path / "load.yaml"
    load.write_text("{kind: stages, stages: [{kind: concurrency, value: 2}, "
                    "{kind: poisson, rate: 50}], requests: 12}")  # fmt: skip
    url = f"http://127.0.0.1:{server.port}"
    done = servetune(
        *("bench", "--url", url, "--model", MODEL, *WORKLOAD, "--load", "load.yaml"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, load_words in zip(lines[1:3], ("concurrency 2 ", "poisson 50 "), strict=True):
        assert load_words in line
    assert "12 requests completed" in done.stdout
    assert re.search(r"^seed     \d+$", done.stderr, re.MULTILINE)
    (run,) = (tmp_path / "runs").iterdir()
    assert list(open_run(run).pandas.stages()["load"]) == ["concurrency", "poisson"]


def test_chats(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    with simulator(tmp_path, model=str(model)) as server:
        found = bench(
            server, tmp_path, *WORKLOAD, "--api", "chat", "--rate", "50", "--arrivals", "constant",
            "--requests", "12", model=str(model),
        )  # fmt: skip
    assert found["requests"] == {"completed": 12, "failed": 0}
    assert found["stages"][0]["load"] == "constant"


def test_prompts_that_the_server_has_seen_are_told(server: Server, tmp_path: Path) -> None:
    load = (*WORKLOAD, "--concurrency", "2", "--requests", "8")
    drawn = [bench(server, tmp_path, *load) for _ in range(2)]
    assert drawn[0]["seed"] != drawn[1]["seed"]
    for found in drawn:
        assert "cache_contaminated" not in found["flags"]
    repeated = bench(server, tmp_path, *load, "--seed", str(drawn[0]["seed"]))
    assert "cache_contaminated" in repeated["flags"]


def test_chats_that_the_server_has_seen_are_told(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    options = ("--input-tokens", "100", "--output-tokens", "8", "--requests", "8", "--seed", "3")
    with simulator(tmp_path, model=str(model)) as server:
        first, again = (
            bench(server, tmp_path, *options, "--api", "chat", model=str(model)) for _ in range(2)
        )
    assert "cache_contaminated" not in first["flags"]
    assert "cache_contaminated" in again["flags"]


def test_requests_and_a_duration_end_at_the_first_that_holds(
    server: Server, tmp_path: Path
) -> None:
    load = (*WORKLOAD, "--concurrency", "2", "--duration")
    few = bench(server, tmp_path, *load, "60", "--requests", "6")
    assert (few["requests"]["completed"], few["stopped_by"]) == (6, None)
    short = bench(server, tmp_path, *load, "1", "--requests", "5000")
    assert 0 < short["requests"]["completed"] < 5000
    assert short["stopped_by"] == "duration"


def test_a_server_that_fails_is_no_traceback(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    options = ("bench", "--url", url, "--model", "acme/other", *WORKLOAD, "--requests", "4")
    done = servetune(*options, cwd=tmp_path)
    assert done.returncode == 1
    assert "Nothing was measured: requests_failed: the first completion" in done.stdout
    assert f"remedy: name the model as {url}/v1/models lists it" in done.stdout
    assert "Traceback" not in done.stderr
    done = servetune(*options, "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["state"], document["stages"]) == (1, "failed", [])
    assert document["failure"]["kind"] == "requests_failed"


def test_an_interrupted_bench_keeps_what_it_measured(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    words = ("bench", "--url", url, "--model", MODEL, *WORKLOAD, "--concurrency", "2")
    with studies.started(
        *words, "--duration", "600", "--json", "--results", tmp_path / "runs"
    ) as process:

        def measuring() -> bool:
            found = [path.read_text() for path in tmp_path.glob("runs/*/live/status.json")]
            return any(re.search(r'"completed":\s*[1-9]', text) for text in found)

        studies.wait_for(measuring, "a request that completed")
        studies.interrupt(process)
        printed, _ = process.communicate(timeout=60)
    document = json.loads(printed)
    assert process.returncode == 130
    assert (document["state"], document["stopped_by"]) == ("cancelled", "interrupted")
    # What was in flight is neither completed nor failed.
    assert document["requests"]["completed"] > 0
    assert document["requests"]["failed"] == 0
    assert "attached_simulator" in document["flags"]
    assert document["client_limited"] == ("client_limited" in document["flags"])
    requests = open_run(document["record"]).pandas.requests(0)
    assert len(requests) == document["requests"]["completed"]
    told = servetune("report", document["record"], cwd=tmp_path).stdout
    assert "No trial completed." in told
    assert "measured of trial 0, stage by stage:" in told
    assert "flagged  attached_simulator" in told
