"""The engine that is not started: what it takes, what it refuses, whose metrics it reads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.spec.experiment import Experiment
from runtimes.engines.base import create_engine
from runtimes.engines.external import ExternalEngine
from runtimes.errors import SpecError, UserError
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Quantization
from tests.runtimes.vllm_cases import GOLDEN

ENGINE = ExternalEngine()
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
URL = "http://127.0.0.1:8000"
CONFIG = EngineConfig("external", MODEL, options={"url": URL, "gpus": 4})


def test_nothing_is_started() -> None:
    plan = ENGINE.plan(CONFIG)
    assert (plan.attach, plan.attached_gpus, plan.gpus) == (URL, 4, 4)
    assert (plan.processes, plan.servers, plan.deploy) == ((), (), ())
    assert not ENGINE.loads_model


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000/", URL),
        ("http://127.0.0.1:8000/v1", URL),
        ("http://engine.example", "http://engine.example:80"),
        ("https://engine.example/v1/", "https://engine.example:443"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://engine.example/openai/v1", "https://engine.example:443/openai"),
    ],
)
def test_a_url_is_reduced_to_where_the_server_listens(url: str, base: str) -> None:
    assert ENGINE.plan(replace(CONFIG, options={"url": url})).attach == base


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "option url is missing; write where it listens: url: http://127.0.0.1:8000"),
        ({"url": ""}, "option url is missing"),
        ({"url": "127.0.0.1:8000"}, "does not begin with http"),
        ({"url": "http://"}, "names no host"),
        ({"url": URL, "gpus": 0}, "gpus is a number from 1, got 0"),
        (
            {"url": URL, "drop_fields": ["top_k", "max_tokens"]},
            "option drop_fields: requests can do without temperature, top_p, top_k, ignore_eos, "
            "min_tokens, got 'max_tokens'",
        ),
        ({"url": URL, "drop_fields": [["top_k"]]}, "got ['top_k']"),
    ],
)
def test_options_that_reach_no_server(options: dict[str, Json], words: str) -> None:
    with pytest.raises(UserError) as caught:
        ENGINE.plan(replace(CONFIG, options=options))
    assert words in str(caught.value)


def test_requests_without_some_fields_are_another_configuration() -> None:
    dropping = replace(CONFIG, options={"url": URL, "gpus": 4, "drop_fields": ["top_k"]})
    assert ENGINE.plan(dropping).dropped_fields == {"top_k"}
    assert ENGINE.plan(dropping).config_id != ENGINE.plan(CONFIG).config_id


@pytest.mark.parametrize(
    ("config", "section"),
    [
        (replace(CONFIG, layout=ParallelLayout(tp=2)), "parallel (tp2)"),
        (replace(CONFIG, quantization=Quantization(kv_cache="fp8")), "quantization (kv_cache fp8)"),
        (replace(CONFIG, args={"max-num-seqs": 8}), "args (max-num-seqs)"),
        (replace(CONFIG, env={"A": "1"}), "env (A)"),
        (replace(CONFIG, environment=Environment("/opt/bin/python")), "environment"),
    ],
)
def test_what_would_change_the_server_is_refused(config: EngineConfig, section: str) -> None:
    refusal = ENGINE.refuse(config, None, None)
    assert refusal is not None
    assert refusal.rule == "runs_already"
    assert section in refusal.message
    assert ENGINE.refuse(CONFIG, None, None) is None


def test_what_would_change_the_server_is_told_in_the_file() -> None:
    section: dict[str, Json] = {
        "url": URL,
        "args": {"max-num-seqs": 8},
        "search": {"block-size": [16, 32]},
        "environment": {"python": "/opt/bin/python"},
        "env": {"OMP_NUM_THREADS": "2", "OPENAI_API_KEY": {"from_env": "KEY"}},
    }
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict({"name": "x", "model": MODEL, "engines": {"external": section}})
    problems = {problem.path: problem.message for problem in caught.value.problems}
    words = "the server runs already, so nothing here can change it"
    assert problems == dict.fromkeys(
        [
            "engines.external.args", "engines.external.search", "engines.external.environment",
            "engines.external.env.OMP_NUM_THREADS",
        ],
        words,
    )  # fmt: skip


# --- whose metrics they are ---------------------------------------------------------------------

SGLANG = "".join(
    f'sglang:{name}{{tp_rank="0",pp_rank="0"}} {value}\n'
    for name, value in (("num_running_reqs", 3.0), ("num_queue_reqs", 1.0))
)
TENSORRT_LLM = json.dumps([{"numActiveRequests": 2, "numQueuedRequests": 0}])


@pytest.mark.parametrize(
    ("engine", "page"),
    [
        ("vllm", (GOLDEN / "vllm_metrics.txt").read_text(encoding="utf-8")),
        ("sglang", SGLANG),
        ("tensorrt_llm", TENSORRT_LLM),
    ],
    ids=["vllm", "sglang", "tensorrt_llm"],
)
def test_metrics_are_read_as_those_of_the_engine_they_name(engine: str, page: str) -> None:
    found = ENGINE.read_metrics(page)
    assert found == create_engine(engine).read_metrics(page)
    assert {"requests_running", "requests_waiting"} <= set(found)
    known = create_engine(engine).describe(log="", metrics_text=page, version_json="")
    assert ENGINE.describe(log="", metrics_text=page, version_json="") == known


@pytest.mark.parametrize("page", ["", "404 page not found", "[]", "go_goroutines 8\n"])
def test_a_server_without_known_metrics_has_no_samples(page: str) -> None:
    assert ENGINE.read_metrics(page) == {}
    assert ENGINE.describe(log="", metrics_text=page, version_json="{}").config == {}
