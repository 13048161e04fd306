"""A server that somebody else started: measured through the command line, and left running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.load_run import load_run
from orchestrator.spec.experiment import Experiment
from tests.orchestrator.commands import servetune
from tests.runtimes.test_simulator_process import MODEL, Server, simulator
from tracking.layout import RunLayout
from tracking.run_data import RunData

WORKLOAD = (
    "--input-tokens",
    "64",
    "--output-tokens",
    "8",
    "--concurrency",
    "4",
    "--requests",
    "16",
)
EXPERIMENT = f"""
name: chat
model: {MODEL}
engines: {{simulated: {{search: {{max-num-seqs: [8, 16, 32]}}}}}}
parallel: {{tp: [1, 2, 4]}}
constraints: ["tp < 8"]
workload:
  input_tokens: 32
  output_tokens: 4
  load: {{kind: concurrency, value: 2, requests: 8}}
slo: {{ttft_ms: {{p99: 60000}}}}
objectives: [{{minimize: cost_per_million_tokens}}]
search: {{seed: 5}}
budget: {{trials: 30}}
cluster: {{simulated_gpus: 8, accelerator: H200, gpu_price_per_hour: 2}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with simulator(tmp_path) as started:
        yield started


def only_run(folder: Path) -> RunData:
    (run,) = folder.iterdir()
    return load_run(RunLayout(run))


def test_tune_measures_it_and_leaves_it_running(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    done = servetune(
        *("tune", MODEL, "--server-url", f"{url}/v1", "--gpus", "2", "--write", "used.yaml"),
        *WORKLOAD,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert server.process.poll() is None
    assert server.health() == 200
    assert "there is no command to deploy" in done.stdout
    assert "simulated devices" not in done.stdout
    assert "the server measured is a simulation" in " ".join(done.stdout.split())

    (trial,) = only_run(tmp_path / "runs").trials
    assert (trial.engine, trial.gpus, trial.state.value) == ("external", 2, "completed")
    assert trial.measurement is not None
    assert trial.measurement.requests_completed == 16
    assert (trial.command, trial.deploy_command, trial.process_ids) == ((), (), ())
    # The engine that answered is a simulation of vLLM, and its counters are those of the requests.
    assert server.metrics()["vllm:generation_tokens_total"] >= 16 * 8

    spec = Experiment.load(tmp_path / "used.yaml").spec
    assert list(spec.engines) == ["external"]
    assert (spec.cluster.kind, spec.cluster.simulated_gpus) == ("in_process", 2)


def test_run_measures_it_with_the_workload_of_any_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    url = f"http://127.0.0.1:{server.port}"
    done = servetune("run", "x.yaml", "--server-url", url, "--gpus", "4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.health() == 200
    assert json.loads(done.stdout)["best"]["engine"] == "external"
    (trial,) = only_run(tmp_path / "runs").trials
    assert (trial.engine, trial.gpus) == ("external", 4)
    assert trial.measurement is not None
    assert trial.measurement.requests_completed == 8
    assert trial.objectives["cost_per_million_tokens"] > 0
    assert all(verdict.met for verdict in trial.measurement.slo)


def test_a_model_that_it_does_not_serve(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    done = servetune("tune", "acme/other", "--server-url", url, *WORKLOAD, cwd=tmp_path)
    assert done.returncode != 0
    assert "HTTP 404" in done.stdout
    assert f"name the model as {url}/v1/models lists it" in done.stdout
    assert server.health() == 200


def test_no_server(tmp_path: Path) -> None:
    with simulator(tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}"
    done = servetune("tune", MODEL, "--server-url", url, *WORKLOAD, cwd=tmp_path)
    assert done.returncode != 0
    assert f"no OpenAI-compatible server answers at {url}" in done.stdout
