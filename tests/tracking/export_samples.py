"""Trials to export, made of the engines' own plans, and artefacts read back as their users do."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from runtimes.engines.base import create_engine
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.secrets import MASK
from tests.tracking.run_samples import run_data, trial_record
from tracking.export._deployment import Deployment, deployment_of
from tracking.export.base import Settings, create_target
from tracking.records import TrialRecord
from tracking.run_data import RunData

VERSIONS = {"vllm": "0.33.0", "sglang": "0.5.23", "tensorrt_llm": "1.2.1"}
MODEL = "meta-llama/Llama-3.3-70B-Instruct"
NAME = "chat"


def config(engine: str = "vllm", **changes: Any) -> EngineConfig:
    """A configuration on four GPUs, with an argument, a variable and a secret."""
    arguments = {
        "vllm": {"max-num-seqs": 64},
        "sglang": {"max-running-requests": 64},
        "tensorrt_llm": {"max_batch_size": 64},
    }
    base = EngineConfig(
        engine,
        MODEL,
        layout=ParallelLayout(tp=4),
        args=arguments.get(engine, {}),
        env={"NCCL_P2P_LEVEL": "NVL"},
        secrets=("HF_TOKEN",),
    )
    return replace(base, **changes)


def trial(wanted: EngineConfig, **changes: Any) -> TrialRecord:
    """A completed trial of a configuration, recorded as a study records it."""
    plan = create_engine(wanted.engine).plan(wanted)
    measured = replace(
        trial_record(3, gpus=plan.gpus, engine=wanted.engine),
        command=plan.argv,
        deploy_command=plan.deploy,
        env={**plan.env, **dict.fromkeys(plan.secrets, MASK)},
        layout=wanted.layout,
        model=wanted.model,
        model_revision=wanted.revision,
        gpu_model="NVIDIA H200",
        engine_version=VERSIONS.get(wanted.engine, ""),
        startup_s=240.0,
    )
    return replace(measured, **changes)


def run_of(record: TrialRecord, **experiment: Json) -> RunData:
    data = run_data([record])
    return replace(data, experiment={**data.experiment, **experiment})


def deployment(wanted: EngineConfig | None = None, **changes: Any) -> Deployment:
    record = trial(wanted or config(), **changes)
    return deployment_of(run_of(record), record)


def artefact(target: str, of: Deployment | None = None, **settings: Any) -> str:
    return create_target(target).render(of or deployment(), Settings(NAME, **settings))


def documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def executed(
    script: str, folder: Path, programs: Sequence[str], **env: str
) -> tuple[list[str], dict[str, str]]:
    """What a script starts: the arguments of the first of `programs`, and its variables.

    The programs are stand-ins on PATH which write down what they were given.

    Raises:
        AssertionError: the script failed.
    """
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    told, said = folder / "argv", folder / "env"
    told.unlink(missing_ok=True)
    for program in programs:
        tool = tools / program
        tool.write_text(
            f'#!/bin/sh\nprintf "%s\\0" {program} "$@" >> {told}\nenv -0 > {said}\n',
            encoding="utf-8",
        )
        tool.chmod(0o755)
    path = folder / "script"
    path.write_text(script, encoding="utf-8")
    interpreter = script.partition("\n")[0].removeprefix("#!")
    done = subprocess.run(
        [interpreter, str(path)],
        env={"PATH": f"{tools}:{os.environ['PATH']}", "HOME": "/root", **env},
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    variables = dict(line.split("=", 1) for line in said.read_text("utf-8").split("\0") if line)
    return told.read_text("utf-8").split("\0")[:-1], variables


def expanded(text: str) -> str:
    """What Kubernetes makes of `$$`, and of no reference that it knows."""
    return re.sub(r"\$\$", "$", text)


def kubernetes_argv(container: Mapping[str, Any]) -> list[str]:
    return [expanded(part) for part in [*container["command"], *container["args"]]]


def kubernetes_env(container: Mapping[str, Any]) -> dict[str, str]:
    return {
        entry["name"]: expanded(entry["value"]) for entry in container["env"] if "value" in entry
    }


def docker_argv(arguments: Sequence[str]) -> list[str]:
    """The command that `docker run …` starts in its container."""
    at = next(index for index, part in enumerate(arguments) if part.startswith("--entrypoint="))
    return [arguments[at].removeprefix("--entrypoint="), *arguments[at + 2 :]]


def docker_env(arguments: Sequence[str]) -> dict[str, str]:
    given = [part.removeprefix("--env=") for part in arguments if part.startswith("--env=")]
    return dict(item.split("=", 1) for item in given if "=" in item)
