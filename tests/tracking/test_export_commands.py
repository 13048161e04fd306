"""The command that stands in an artefact is the trial's, whatever text it is made of."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtimes.engines.base import create_engine
from runtimes.errors import UserError
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, pasted
from tests.runtimes.sglang_cases import CASES
from tests.runtimes.vllm_cases import LAYOUTS
from tests.tracking.export_samples import (
    artefact,
    config,
    deployment,
    docker_argv,
    docker_env,
    documents,
    executed,
    kubernetes_argv,
    kubernetes_env,
)
from tests.tracking.run_samples import run_data
from tracking.export._containers import CACHE
from tracking.export._deployment import Deployment, chosen_trial, filled
from tracking.export._nodes import node_command, nodes_of

_TOKEN = {"HF_TOKEN": "hf_abcdefghijklmnop"}
_TEXT = st.text(
    st.one_of(
        st.sampled_from(list("$`\"'\\ \n\t{}()#:&|;<>*?~!%=,[]")),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"),
    ),
    min_size=1,
    max_size=20,
)
_AWKWARD = ("no", "1e3", "0.10", "on", "~", "2026-01-01", "$(PORT) ${PORT} $$", "{port}", "a\nb")


def _of(model: str, argument: str, variable: str) -> Deployment:
    """A deployment that has the three texts as its model, an argument and a variable."""
    return deployment(
        config(
            model=f"/models/{model}",
            args={"chat-template": f"x{argument}", "max-num-seqs": 64},
            env={"SOME_VARIABLE": variable},
        )
    )


def _expected(of: Deployment, host: str) -> list[str]:
    return list(filled(of.argv, host=host, port=8000))


def _in_shell(of: Deployment, target: str, program: str) -> tuple[list[str], dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        return executed(artefact(target, of), Path(folder), [program], **_TOKEN)


_CASES = settings(max_examples=25, deadline=None)


@_CASES
@given(_TEXT, _TEXT, _TEXT)
@example("it's", "{{x}} {port}", "a b")
@example("-x", "--flag", "")
def test_a_shell_starts_the_trials_command(model: str, argument: str, variable: str) -> None:
    of = _of(model, argument, variable)
    argv, env = _in_shell(of, "command", "vllm")
    assert argv == _expected(of, "127.0.0.1")
    assert (env["SOME_VARIABLE"], env["HF_TOKEN"]) == (variable, _TOKEN["HF_TOKEN"])


@_CASES
@given(_TEXT, _TEXT, _TEXT)
def test_docker_is_given_the_trials_command(model: str, argument: str, variable: str) -> None:
    of = _of(model, argument, variable)
    argv, _ = _in_shell(of, "docker", "docker")
    assert docker_argv(argv) == _expected(of, "0.0.0.0")
    assert docker_env(argv) == {"SOME_VARIABLE": variable}  # a folder needs no cache
    assert "--env=HF_TOKEN" in argv


@_CASES
@given(_TEXT, _TEXT, _TEXT)
def test_slurm_starts_the_trials_command(model: str, argument: str, variable: str) -> None:
    of = _of(model, argument, variable)
    argv, env = _in_shell(of, "slurm", "srun")
    assert argv[1:] == _expected(of, "127.0.0.1")
    assert env["SOME_VARIABLE"] == variable


@settings(max_examples=100, deadline=None)
@given(_TEXT, _TEXT, _TEXT)
@example("m", "no", "1e3")
def test_yaml_holds_the_trials_command(model: str, argument: str, variable: str) -> None:
    of = _of(model, argument, variable)
    (compose,) = documents(artefact("compose", of))
    (service,) = compose["services"].values()
    parts = [*service["entrypoint"], *service["command"]]
    assert [part.replace("$$", "$") for part in parts] == _expected(of, "0.0.0.0")
    assert service["environment"]["SOME_VARIABLE"].replace("$$", "$") == variable

    pod = documents(artefact("kubernetes", of))[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert kubernetes_argv(container) == _expected(of, "0.0.0.0")
    assert kubernetes_env(container) == {"SOME_VARIABLE": variable}

    worker = documents(artefact("dynamo", of))[0]["spec"]["components"][1]
    (container,) = worker["podTemplate"]["spec"]["containers"]
    told = kubernetes_argv(container)
    assert told[:5] == ["python3", "-m", "dynamo.vllm", "--model", of.model]
    assert told[5:] == _expected(of, "0.0.0.0")[7:]

    (serve,) = documents(artefact("ray-serve", of))
    llm = serve["applications"][0]["args"]["llm_configs"][0]
    assert llm["model_loading_config"]["model_source"] == of.model
    assert llm["engine_kwargs"]["chat_template"] == f"x{argument}"
    assert llm["runtime_env"]["env_vars"] == {"SOME_VARIABLE": variable}
    (ray,) = documents(artefact("kuberay", of))
    assert yaml.safe_load(ray["spec"]["serveConfigV2"])["applications"] == serve["applications"]


@pytest.mark.parametrize("text", _AWKWARD)
def test_values_that_yaml_would_read_as_something_else_stay_text(text: str) -> None:
    of = deployment(config(env={"A": text}, args={"chat-template": text}))
    for line in artefact("kubernetes", of).splitlines():
        # Readers of YAML 1.2, as Go's, take other bare words for numbers than PyYAML does.
        if match := re.match(r"\s*(?:- |value: )(?P<bare>[^\"'\s|{].*)$", line):
            assert not re.fullmatch(r"[-+.\d][\deE.+_x-]*|no|on|yes|off|~|null", match["bare"])
    pod = documents(artefact("kubernetes", of))[0]["spec"]["template"]["spec"]
    assert kubernetes_env(pod["containers"][0]) == {"A": text, "HF_HOME": CACHE}
    (chart,) = documents(artefact("llm-d", of))
    env = {entry["name"]: entry for entry in chart["decode"]["containers"][0]["env"]}
    assert env["A"]["value"].replace("$$", "$") == text


def test_a_chart_does_not_read_braces_as_a_template() -> None:
    (chart,) = documents(artefact("llm-d", deployment(config(env={"A": "{{ .Values }}"}))))
    assert chart["decode"]["containers"][0]["env"][0]["value"] == "{{`{{`}} .Values }}"


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("target", ["command", "docker", "slurm"])
def test_tensorrt_llms_file_is_there_when_its_servers_start(
    target: str, servers: int, tmp_path: Path
) -> None:
    wanted = config("tensorrt_llm", layout=ParallelLayout(tp=2, dp=servers), env={})
    of = deployment(wanted)
    program = {"command": "trtllm-serve", "docker": "docker", "slurm": "srun"}[target]
    argv, _ = executed(artefact(target, of), tmp_path, [program], **_TOKEN)
    if target != "command":
        inner = docker_argv(argv) if target == "docker" else argv[1:]
        assert inner[:2] == ["sh", "-c"]
        argv, _ = executed(f"#!/bin/sh\n{inner[2]}", tmp_path, ["trtllm-serve"])
    assert argv.count("trtllm-serve") == servers
    assert argv[argv.index("--port") + 1] in ("8000", "8001")
    planned = create_engine("tensorrt_llm").plan(wanted).processes[0].files["trtllm.yaml"]
    assert (tmp_path / "trtllm.yaml").read_text("utf-8") == planned


@pytest.mark.parametrize("target", ["command", "docker", "compose", "slurm"])
def test_servers_need_as_many_ports(target: str) -> None:
    of = deployment(config("tensorrt_llm", layout=ParallelLayout(tp=2, dp=2)))
    assert "65534" in artefact(target, of, port=65534)
    with pytest.raises(UserError, match="65534 is the last to begin with"):
        artefact(target, of, port=65535)


@pytest.mark.parametrize("cpus", ["", "32"])
def test_slurms_steps_have_the_cpus_of_the_job(cpus: str, tmp_path: Path) -> None:
    job = {"SLURM_CPUS_PER_TASK": cpus} if cpus else {}
    _, env = executed(artefact("slurm"), tmp_path, ["srun"], **_TOKEN, **job)
    assert env.get("SRUN_CPUS_PER_TASK", "") == cpus


def test_replicas_of_tensorrt_llm_are_pods() -> None:
    of = deployment(config("tensorrt_llm", layout=ParallelLayout(tp=2, dp=3)))
    spec = documents(artefact("kubernetes", of, replicas=2))[0]["spec"]
    assert spec["replicas"] == 6
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert kubernetes_argv(container)[2].count("trtllm-serve") == 1


def test_dynamo_reads_tensorrt_llms_options_from_its_file(tmp_path: Path) -> None:
    wanted = config("tensorrt_llm", args={"max_batch_size": 64, "reasoning_parser": "qwen3"})
    text = artefact("dynamo", deployment(wanted))
    assert "no such option: --reasoning_parser qwen3" in text
    worker = documents(text)[0]["spec"]["components"][1]
    (container,) = worker["podTemplate"]["spec"]["containers"]
    script = kubernetes_argv(container)[2]
    argv, _ = executed(f"#!/bin/sh\n{script}", tmp_path, ["python3"])
    assert argv[:3] == ["python3", "-m", "dynamo.trtllm"]
    assert argv[-2:] == ["--extra-engine-args", "trtllm.yaml"]
    read = yaml.safe_load((tmp_path / "trtllm.yaml").read_text("utf-8"))
    assert (read["tensor_parallel_size"], read["max_batch_size"]) == (4, 64)


_KWARGS: Mapping[str, Json] = {
    "max-num-seqs": 64,
    "gpu-memory-utilization": 0.9,
    "enable-prefix-caching": False,
    "enforce-eager": True,
    "speculative-config": {"method": "ngram", "num_speculative_tokens": 3},
    "kv-cache-dtype": "fp8",
    "cudagraph-capture-sizes": [1, 2, 4],
    "max-model-len": "8K",
    "compilation-config.mode": 3,
    "middleware": ["a.B", "c.D"],
}


def test_ray_gets_every_argument_in_its_own_type() -> None:
    wanted = config(args=_KWARGS, revision="abc123")
    (serve,) = documents(artefact("ray-serve", deployment(wanted)))
    kwargs = serve["applications"][0]["args"]["llm_configs"][0]["engine_kwargs"]
    expected: dict[str, Json] = {
        name.replace("-", "_"): value for name, value in _KWARGS.items() if "." not in name
    }
    expected |= {
        "max_model_len": 8192,
        "compilation_config": {"mode": 3},
        "revision": "abc123",
        "tensor_parallel_size": 4,
    }
    assert json.dumps(kwargs, sort_keys=True) == json.dumps(expected, sort_keys=True)


_NODES = {
    **{name: case for name, case in LAYOUTS.items() if case.nodes > 1},
    **{f"sglang: {name}": case for name, case in CASES.items() if case.nodes > 1},
}


@pytest.mark.parametrize("name", _NODES)
def test_the_commands_of_further_nodes_are_the_engines_own(name: str) -> None:
    wanted: EngineConfig = _NODES[name]
    plan = create_engine(wanted.engine).plan(wanted)
    assert nodes_of(wanted.engine, plan.deploy) == wanted.nodes == len(plan.processes)
    made = [node_command(wanted.engine, plan.deploy, node) for node in range(wanted.nodes)]
    assert made == [pasted(process.argv) for process in plan.processes]


@pytest.mark.parametrize("name", _NODES)
def test_slurm_starts_every_node_where_the_first_one_is(name: str, tmp_path: Path) -> None:
    wanted: EngineConfig = _NODES[name]
    of = deployment(wanted)
    script = artefact("slurm", of).replace("wait -n", "wait")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text("#!/bin/sh\nprintf 'gpu-07\\ngpu-08\\n'\n")
    (tools / "scontrol").chmod(0o755)
    argv, _ = executed(script, tmp_path, ["srun"], SLURM_JOB_NODELIST="gpu-[07-08]", **_TOKEN)
    assert argv.count("srun") == wanted.nodes
    assert {part for part in argv if part.startswith("--relative=")} == {
        f"--relative={node}" for node in range(wanted.nodes)
    }
    assert sum("gpu-07" in part for part in argv) == wanted.nodes
    assert f"#SBATCH --nodes={wanted.nodes}" in script


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_that_is_written_is_one_of_the_engines(engine: str) -> None:
    table = create_engine(engine).flags(None)
    assert table is not None
    of = deployment(config(engine))
    pod = documents(artefact("kubernetes", of))[0]["spec"]["template"]["spec"]
    worker = documents(artefact("dynamo", of))[0]["spec"]["components"][1]
    (own,) = pod["containers"]
    (theirs,) = worker["podTemplate"]["spec"]["containers"]
    for part in [*kubernetes_argv(own), *kubernetes_argv(theirs)]:
        if part.startswith("--"):
            assert table.knows(part.removeprefix("--").partition("=")[0]), part


def test_a_run_without_a_completed_trial_is_pointed_to_by_its_folder() -> None:
    data = replace(run_data([]), folder="/data/none")
    with pytest.raises(UserError, match="`servetune status /data/none` says why"):
        chosen_trial(data, "best")
