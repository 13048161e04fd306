from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from runtimes.cache_state import PrefixCache
from runtimes.engines._flags import table_for
from runtimes.engines.base import CANONICAL_METRICS
from runtimes.engines.simulated import SimulatedEngine
from runtimes.engines.vllm import VllmEngine
from runtimes.errors import UserError
from runtimes.json_types import Json
from runtimes.plan import DeploymentPlan, EngineConfig, Environment, ProcessPlan
from runtimes.quantization import Quantization
from runtimes.simulator.arguments import parse_engine, parse_own
from tests.runtimes.vllm_cases import (
    ARGUMENTS,
    CASES,
    GOLDEN,
    LAYOUTS,
    MODEL,
    PRECISIONS,
    SPECULATION,
    ask_vllm,
)

ENGINE = VllmEngine()
ADDRESSES = {
    "host": "127.0.0.1",
    "port": 23456,
    "master_host": "10.0.0.1",
    "master_port": 23457,
    "rpc_port": 23458,
    "bin": "/opt/built/bin",
}

TABLE = table_for("vllm", None) or pytest.fail("no table of vLLM's arguments")

PARSE = """
def answer(argv):
    return vars(parser.parse_args(argv))
"""


def test_commands_are_the_recorded_ones() -> None:
    text = "\n".join(told(name, ENGINE.plan(config)) for name, config in CASES.items())
    assert text == (GOLDEN / "vllm_commands.txt").read_text(encoding="utf-8")


def told(name: str, plan: DeploymentPlan) -> str:
    """A plan as it stands in the golden file: what it takes, what to know, one command a node."""
    lines = [f"# {name}: {plan.gpus} GPU{'s' if plan.gpus > 1 else ''}"]
    lines += [f"# note: {note}" for note in plan.notes]
    lines += [f"# lossy: {', '.join(plan.lossy)}"] if plan.lossy else []
    return "\n".join([*lines, *(shlex.join(process.argv) for process in plan.processes)]) + "\n"


def test_the_golden_file_has_enough_layouts_and_precisions() -> None:
    assert len(LAYOUTS) + len(PRECISIONS) >= 40


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
@pytest.mark.parametrize("name", CASES)
def test_every_version_takes_every_flag_and_value(name: str, version: str) -> None:
    """Against the parsers as the facts have them, which are not the source of our tables."""
    flags = facts(version)
    for process in ENGINE.plan(CASES[name]).processes:
        words = process.command(**ADDRESSES)
        for position, word in enumerate(words):
            if not word.startswith("--"):
                continue
            flag, _, glued = word.partition("=")
            row = flags.get(flag.partition(".")[0])
            assert row is not None, f"{flag} is no flag of {version}"
            choices = row.get("choices")
            value = glued or (words[position + 1] if position + 1 < len(words) else "")
            if isinstance(choices, list) and "." not in flag:
                assert value in map(str, choices), f"{flag} takes no {value!r} in {version}"


def facts(version: str) -> dict[str, dict[str, Json]]:
    """Rows of the fact table by every name of a flag."""
    folder = os.environ.get("SERVETUNE_FACTS")
    if not folder:
        pytest.skip("no facts of the engines' parsers: set SERVETUNE_FACTS")
    path = Path(folder) / "engine-flags" / f"vllm-{version}.json"
    rows: list[dict[str, Json]] = json.loads(path.read_text(encoding="utf-8"))
    named: dict[str, dict[str, Json]] = {}
    for row in rows:
        aliases = row.get("aliases")
        names = [row["flag"], *(aliases if isinstance(aliases, list) else [])]
        named.update({str(name): row for name in names})
        # Taken and hidden by 0.33, listed by 0.32.
        if row["action"] in ("EnableDisableAction", "BooleanOptionalAction"):
            named[f"--no-{str(row['flag'])[2:]}"] = row
    return named


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("an image",)])
def test_the_simulator_takes_every_command(name: str) -> None:
    config = replace(CASES[name], engine="simulated", options={}, environment=Environment())
    real = ENGINE.plan(replace(CASES[name], options={}, environment=Environment()))
    plan = SimulatedEngine().plan(config)
    assert [process.gpus for process in plan.processes] == [
        process.gpus for process in real.processes
    ]
    for process in plan.processes:
        own = parse_own(process.command(**ADDRESSES)[3:])
        engine = parse_engine(own.engine_argv, own.model)
        assert engine.layout.tp * engine.layout.pp * engine.layout.pcp * engine.layout.dp == (
            plan.gpus
        )
        assert engine.headless is (process.node > 0)


def test_nodes_share_ranks_and_only_the_first_answers() -> None:
    plan = ENGINE.plan(LAYOUTS["two replicas over four nodes"])
    assert [process.node for process in plan.processes] == [0, 1, 2, 3]
    assert [process.gpus for process in plan.processes] == [8, 8, 8, 8]
    assert plan.servers == plan.processes[:1]
    assert dict(plan.processes[0].ports) == {"port": (0,), "master_port": (0,), "rpc_port": (0,)}
    assert all(not process.ports for process in plan.processes[1:])
    assert plan.deploy == plan.processes[0].argv
    for process in plan.processes:
        assert _placeholders(process) <= {"host", "port", "master_host", "master_port", "rpc_port"}
        filled = " ".join(process.command(**ADDRESSES))
        assert "{" not in filled


def _placeholders(process: ProcessPlan) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", " ".join(process.argv)))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ()),
        ({"kv-cache-dtype": "auto", "dtype": "float16"}, ()),
        ({"kv-cache-dtype": "fp8"}, ("KV cache in fp8",)),
        ({"quantization": "fp8"}, ("weights in fp8",)),
        ({"quantization": "awq"}, ()),
        ({"quantization": "compressed-tensors"}, ()),
        (
            {"quantization-config.moe": "mxfp8", "quantization": "online"},
            ("weights by quantization-config",),
        ),
        ({"quantization-config": {"linear": "mxfp8"}}, ("linear layers in mxfp8",)),
    ],
)
def test_lossy_is_what_may_cost_accuracy(args: Mapping[str, Json], words: tuple[str, ...]) -> None:
    assert ENGINE.plan(EngineConfig("vllm", MODEL, args=args)).lossy == words


def test_metrics_of_drafters_are_read() -> None:
    drafts = {name for name in ENGINE.metrics.values() if name.startswith("spec_decode_")}
    assert drafts == {name for name in CANONICAL_METRICS if name.startswith("spec_decode_")}


def test_the_caches_of_compiled_kernels_have_folders_of_their_own() -> None:
    assert set(ENGINE.cache_env) >= {"VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"}
    assert len(set(ENGINE.cache_env.values())) == len(ENGINE.cache_env)


def test_a_users_arguments_win_and_say_so() -> None:
    plan = ENGINE.plan(ARGUMENTS["arguments win over layout and precision"])
    assert len(plan.notes) == 5
    assert "--no-enable-expert-parallel" in plan.argv
    quiet = EngineConfig(
        "vllm", MODEL, quantization=Quantization(kv_cache="fp8"), args={"kv-cache-dtype": "fp8"}
    )
    assert ENGINE.plan(quiet).notes == ()


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
    assert report.prefix_cache == PrefixCache(True, 128, 128 * 8192)


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
    processes = [
        (name, process)
        for name, config in CASES.items()
        for process in ENGINE.plan(replace(config, environment=Environment(), options={})).processes
    ]
    parsed = ask_vllm(
        PARSE, [process.command(**ADDRESSES)[2:] for _, process in processes], tmp_path
    )
    for (name, process), namespace in zip(processes, parsed, strict=True):
        config = CASES[name]
        assert namespace["model_tag"] == config.model
        assert namespace["revision"] == config.revision
        if process.node == 0:
            assert (namespace["host"], namespace["port"]) == ("127.0.0.1", 23456)
        assert namespace["headless"] is (process.node > 0)
        assert _gpus(namespace) == ENGINE.gpus(config.layout), name
        for given, value in config.args.items():
            if value is not None and "." not in given and not isinstance(value, dict):
                own, meant = TABLE.read(given, value)
                assert namespace[own.replace("-", "_")] == meant, (name, given)
    by_name = {name: namespace for (name, _), namespace in zip(processes, parsed, strict=True)}
    assert by_name["an object"]["speculative_config"] == SPECULATION
    assert "cudagraph_copy_inputs': True" in by_name["dotted names"]["compilation_config"]
    both = by_name["an object and a dotted name of it"]["compilation_config"]
    assert "'mode': <CompilationMode.VLLM_COMPILE" in both
    assert "CUDAGraphMode.FULL" in both
    assert by_name["attention groups of several ranks"]["enable_expert_parallel"] is True
    assert by_name["decode context within the tensor ranks"]["decode_context_parallel_size"] == 2
    assert (
        "disable_flashinfer_q_quantization=True"
        in (by_name["fp8 cache, attention in 16 bits"]["attention_config"])
    )
    mixed = by_name["fp8 layers, nvfp4 experts"]
    assert mixed["quantization"] == "online"
    linear, _, experts = mixed["quantization_config"].partition("moe=")
    assert "dtype=torch.float8_e4m3fn" in linear
    assert "dtype=torch.uint8" in experts  # two values of 4 bits
    assert by_name["two replicas over four nodes"]["node_rank"] == 3
    assert by_name["replicas over two nodes"]["data_parallel_start_rank"] == 4


def _gpus(namespace: Mapping[str, int]) -> int:
    """GPUs of a server by its own arguments (config/parallel.py, `world_size_across_dp`)."""
    return (
        namespace["tensor_parallel_size"]
        * namespace["pipeline_parallel_size"]
        * namespace["prefill_context_parallel_size"]
        * namespace["data_parallel_size"]
    )
