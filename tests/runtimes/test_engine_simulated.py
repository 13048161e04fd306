"""The simulated engine's plans, and that the process they describe starts."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import runtimes
from runtimes.engines.base import CANONICAL_METRICS, create_engine
from runtimes.engines.simulated import SimulatedEngine
from runtimes.errors import UserError
from runtimes.hardware import find_accelerator
from runtimes.json_types import Json
from runtimes.model import find_model
from runtimes.parallel import ParallelLayout
from runtimes.plan import PYTHON, EngineConfig, Environment
from runtimes.simulator.arguments import parse_engine, parse_own
from runtimes.simulator.metrics import LATENESS
from tests.runtimes.free_ports import free_port

MODEL = "meta-llama/Llama-3.3-70B-Instruct"


def _config(tp: int = 2, options: dict[str, Json] | None = None, **args: Json) -> EngineConfig:
    return EngineConfig(
        engine="simulated",
        model=MODEL,
        layout=ParallelLayout(tp=tp),
        args={name.replace("_", "-"): value for name, value in args.items()},
        env={"VLLM_LOGGING_LEVEL": "INFO"},
        secrets=("HF_TOKEN",),
        environment=Environment(python="/opt/venv/bin/python"),
        options={"imitates": "vllm", "accelerator": "H200", **(options or {})},
    )


def test_it_is_registered() -> None:
    assert isinstance(create_engine("simulated"), SimulatedEngine)


def test_the_deploy_command_is_the_real_engine_s() -> None:
    plan = SimulatedEngine().plan(_config(max_num_seqs=64))
    assert plan.simulated
    assert plan.engine == "simulated"
    assert plan.gpus == 2
    assert plan.secrets == ("HF_TOKEN",)
    assert plan.deploy[:3] == ("vllm", "serve", MODEL)
    assert plan.deploy[plan.deploy.index("--max-num-seqs") + 1] == "64"


def test_the_process_is_the_simulator_with_the_real_engine_s_arguments() -> None:
    plan = SimulatedEngine().plan(_config(max_num_seqs=64, options={"startup_s": 0.2, "seed": 3}))
    assert plan.argv[:3] == (PYTHON, "-m", "runtimes.simulator")
    assert plan.env == {"VLLM_LOGGING_LEVEL": "INFO"}
    command = plan.processes[0].command(host="127.0.0.1", port=20_001)
    own = parse_own(command[3:])
    assert (own.host, own.port, own.accelerator) == ("127.0.0.1", 20_001, "H200")
    assert (own.model, own.startup_s, own.jitter, own.seed) == (MODEL, 0.2, 0.0, 3)
    assert own.engine_argv == tuple(
        part.replace("{host}", "127.0.0.1").replace("{port}", "20001") for part in plan.deploy[2:]
    )
    engine = parse_engine(own.engine_argv, own.model)
    assert engine.served_name == MODEL
    assert engine.max_num_seqs == 64
    assert engine.layout == ParallelLayout(tp=2)
    assert engine.inert == ()


def test_equal_configurations_give_equal_plans() -> None:
    engine = SimulatedEngine()
    assert engine.plan(_config()) == engine.plan(_config())
    assert engine.plan(_config()).config_id != engine.plan(_config(tp=4)).config_id


def test_an_engine_that_cannot_be_imitated_is_a_user_error() -> None:
    with pytest.raises(UserError, match="option imitates is one of vllm, got 'triton'"):
        SimulatedEngine().plan(_config(options={"imitates": "triton"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"startup_s": -1}, "option startup_s lies between 0 and 86,400, got -1"),
        ({"startup_s": float("nan")}, "option startup_s lies between 0 and 86,400, got nan"),
        ({"jitter": 99}, "option jitter lies between 0 and 1, got 99"),
    ],
)
def test_an_option_outside_its_range_is_a_user_error(options: dict[str, Json], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SimulatedEngine().plan(_config(options=options))


def test_metrics_are_the_imitated_engine_s_and_the_lateness() -> None:
    metrics = SimulatedEngine.metrics
    assert metrics[LATENESS] == "lateness_seconds_total"
    assert set(create_engine("vllm").metrics.items()) < set(metrics.items())
    assert set(metrics.values()) <= set(CANONICAL_METRICS)


@pytest.mark.parametrize(
    ("tp", "reason"), [(1, "weights take 131.4 GiB per GPU"), (3, "attention heads"), (2, None)]
)
def test_it_refuses_what_the_real_engine_would(tp: int, reason: str | None) -> None:
    found = SimulatedEngine().refuse(_config(tp), find_model(MODEL), find_accelerator("H200"))
    assert (found is None) if reason is None else (reason in str(found))


def test_what_it_refuses_for_memory_the_process_refuses_too() -> None:
    command = SimulatedEngine().plan(_config(tp=1)).processes[0].command(host="127.0.0.1", port=1)
    done = subprocess.run(
        [sys.executable, *command[1:]],
        env={"PYTHONPATH": str(Path(runtimes.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "No available memory for the cache blocks" in done.stderr


def test_the_planned_process_serves_and_describes_itself(tmp_path: Path) -> None:
    engine = SimulatedEngine()
    plan = engine.plan(_config(tp=4, options={"startup_s": 0.0}, kv_cache_dtype="fp8"))
    log = tmp_path / "log"
    listening = False
    with log.open("w") as output:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, *plan.processes[0].command(host="127.0.0.1", port=port)[1:]],
            env={"PYTHONPATH": str(Path(runtimes.__file__).parents[1])},
            stdout=output,
            stderr=output,
        )
        try:
            deadline = time.monotonic() + 60
            while not listening:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                try:
                    listening = _get(port, "/health")[0] == 200
                except ConnectionRefusedError:
                    time.sleep(0.02)
            report = engine.describe(
                log=log.read_text(),
                metrics_text=_get(port, "/metrics")[1],
                version_json=_get(port, "/version")[1],
            )
            assert report.version == json.loads(_get(port, "/version")[1])["version"]
        finally:
            process.kill()
            process.wait(60)
    assert report.config["tensor_parallel_size"] == "4"
    assert report.config["kv_cache_dtype"] == "fp8"
    assert report.config["cache_config.cache_dtype"] == "fp8"
    assert int(report.config["cache_config.num_gpu_blocks"]) > 1000


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_node_that_answers_nobody_runs_until_it_is_told_to_end(tmp_path: Path) -> None:
    config = replace(_config(tp=4), nodes=2)
    second = SimulatedEngine().plan(config).processes[1]
    assert not second.ports
    command = second.command(master_host="127.0.0.1", master_port=20_002)
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command[1:]],
            env={"PYTHONPATH": str(Path(runtimes.__file__).parents[1])},
            stderr=output,
        )
        try:
            deadline = time.monotonic() + 60
            while "this node answers nobody" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait(60)


def test_it_stays_on_the_nodes_that_have_the_real_engine() -> None:
    config = replace(_config(tp=1), environment=Environment(label="engine-vllm"))
    assert SimulatedEngine().plan(config).environment == Environment(label="engine-vllm")
    assert SimulatedEngine().plan(_config(tp=1)).environment == Environment()
