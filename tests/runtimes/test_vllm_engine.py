from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from runtimes.engines.vllm import VllmEngine
from runtimes.errors import UserError
from runtimes.json_types import Json
from runtimes.plan import EngineConfig, Environment
from tests.runtimes.vllm_cases import CASES, GOLDEN, MODEL, SPECULATION, ask_vllm

ENGINE = VllmEngine()

PARSE = """
def answer(argv):
    return vars(parser.parse_args(argv))
"""


def test_commands_are_the_recorded_ones() -> None:
    blocks = [
        f"# {name}\n{shlex.join(ENGINE.plan(config).argv)}\n" for name, config in CASES.items()
    ]
    assert "\n".join(blocks) == (GOLDEN / "vllm_commands.txt").read_text(encoding="utf-8")


def test_plan_carries_environment_gpus_and_names_of_secrets() -> None:
    config = EngineConfig(
        "vllm", MODEL, env={"VLLM_USE_FLASHINFER_SAMPLER": "1"}, secrets=("HF_TOKEN",)
    )
    plan = ENGINE.plan(config)
    assert plan.env == {"VLLM_USE_FLASHINFER_SAMPLER": "1"}
    assert plan.gpus == 1
    assert plan.secrets == ("HF_TOKEN",)
    assert plan.deploy == plan.argv
    assert not plan.simulated


def test_module_entrypoint_needs_an_interpreter() -> None:
    with pytest.raises(UserError, match=r"set environment\.python"):
        ENGINE.plan(EngineConfig("vllm", MODEL, options={"entrypoint": "module"}))


def test_unknown_entrypoint_is_refused_with_its_value() -> None:
    with pytest.raises(UserError, match=r"'serve' or 'module', got 'docker'"):
        ENGINE.plan(EngineConfig("vllm", MODEL, options={"entrypoint": "docker"}))


def test_arguments_servetune_sets_are_reserved() -> None:
    args: Mapping[str, Json] = {"port": 1, "tensor-parallel-size": 2, "api-key": "x", "dtype": "a"}
    assert ENGINE.check_args(args) == ["api-key", "port", "tensor-parallel-size"]


def test_describe_reads_a_real_engine() -> None:
    report = ENGINE.describe(
        log=(GOLDEN / "vllm_logs" / "started.txt").read_text(encoding="utf-8"),
        metrics_text=(GOLDEN / "vllm_metrics.txt").read_text(encoding="utf-8"),
        version_json='{"version":"0.32.0"}',
    )
    assert report.version == "0.32.0"
    expected = {
        "model": "/path/to/tiny",
        "dtype": "torch.bfloat16",
        "max_seq_len": "1024",
        "enable_prefix_caching": "True",
        "speculative_config": "None",
        "cache_config.num_gpu_blocks": "8192",
        "cache_config.block_size": "128",
        "cache_config.kv_cache_dtype_skip_layers": "[]",
    }
    assert {key: report.config.get(key) for key in expected} == expected
    # One value per field, however deep the commas and the brackets inside it.
    assert report.config["compilation_config"].startswith("{'mode': <CompilationMode.NONE: 0>")
    assert report.config["compilation_config"].endswith("'static_all_moe_layers': []}")
    assert report.config["kernel_config"].endswith("linear_backend_per_quant=None)")
    assert "backend" not in report.config


def test_describe_takes_the_version_from_the_log_when_the_server_tells_none() -> None:
    log = "Initializing a V1 LLM engine (v0.33.0) with config: model='it, \\'s', seed=0"
    report = ENGINE.describe(log=log, metrics_text="", version_json="not json")
    assert report.version == "0.33.0"
    assert report.config == {"model": "it, \\'s", "seed": "0"}


@pytest.mark.parametrize("version_json", ["", "[]", "{}", '{"version": 1}', "{"])
def test_describe_of_a_silent_engine_is_empty(version_json: str) -> None:
    report = ENGINE.describe(log="", metrics_text="", version_json=version_json)
    assert report.version == ""
    assert report.config == {}


@pytest.mark.vllm
def test_the_real_parser_reads_back_what_was_meant(tmp_path: Path) -> None:
    configs = [replace(config, environment=Environment(), options={}) for config in CASES.values()]
    commands = [
        ENGINE.plan(config).processes[0].command(host="127.0.0.1", port=23456) for config in configs
    ]
    parsed = ask_vllm(PARSE, [command[2:] for command in commands], tmp_path)
    for config, namespace in zip(configs, parsed, strict=True):
        assert namespace["model_tag"] == config.model
        assert (namespace["host"], namespace["port"]) == ("127.0.0.1", 23456)
        assert namespace["revision"] == config.revision
        layout = config.layout
        assert namespace["tensor_parallel_size"] == layout.tp
        assert namespace["pipeline_parallel_size"] == layout.pp
        assert namespace["data_parallel_size"] == layout.dp
        for name, value in config.args.items():
            if value is not None and "." not in name and not isinstance(value, dict):
                assert namespace[name.replace("-", "_")] == value, name
    by_name = dict(zip(CASES, parsed, strict=True))
    assert by_name["an object"]["speculative_config"] == SPECULATION
    assert "cudagraph_copy_inputs': True" in by_name["dotted names"]["compilation_config"]
