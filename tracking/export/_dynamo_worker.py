"""The command of a worker of NVIDIA Dynamo, from the command of the engine's own server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import yaml

from runtimes.json_types import Json
from tracking.export._deployment import Deployment
from tracking.export._kwargs import without
from tracking.export._nodes import tasks_of
from tracking.export._yaml import plain

WORKERS: Mapping[str, str] = {
    "vllm": "VllmWorker",
    "sglang": "SglangWorker",
    "tensorrt_llm": "TrtllmWorker",
}

_ADDRESS = {"--host": 1, "--port": 1}
# The operator adds what tells the nodes of one server apart.
_NODES = {
    "--nnodes": 1,
    "--node-rank": 1,
    "--master-addr": 1,
    "--master-port": 1,
    "--dist-init-addr": 1,
    "--data-parallel-size-local": 1,
    "--data-parallel-address": 1,
    "--data-parallel-rpc-port": 1,
}
_KEYS: Mapping[str, str] = {
    "tp_size": "tensor_parallel_size",
    "pp_size": "pipeline_parallel_size",
    "cp_size": "context_parallel_size",
    "ep_size": "moe_expert_parallel_size",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "context_parallel_size": "context_parallel_size",
    "moe_expert_parallel_size": "moe_expert_parallel_size",
    "moe_cluster_parallel_size": "moe_cluster_parallel_size",
    "gpus_per_node": "gpus_per_node",
    "max_batch_size": "max_batch_size",
    "max_num_tokens": "max_num_tokens",
    "max_seq_len": "max_seq_len",
    "max_beam_width": "max_beam_width",
    "backend": "backend",
    "revision": "revision",
    "tokenizer": "tokenizer",
    "trust_remote_code": "trust_remote_code",
    "enable_chunked_prefill": "enable_chunked_prefill",
    "num_postprocess_workers": "num_postprocess_workers",
}
"""Options of `trtllm-serve` → keys of its YAML file that mean the same (llmapi/llm_args.py)."""
_FILE = "trtllm.yaml"


def worker_argv(deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The command, and what it leaves out, one sentence each."""
    module = ("python3", "-m", f"dynamo.{deployment.engine}")
    if deployment.engine == "tensorrt_llm":
        return _trtllm_argv(deployment)
    argv = without(deployment.argv, {**_ADDRESS, **_NODES})
    if deployment.engine == "vllm":
        own = ("--model", *argv[2:]) if argv[1:2] == ("serve",) else argv[3:]
        return (*module, *own), ()
    return (*module, *argv[argv.index("--model-path") :]), ()


def _trtllm_argv(deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Everything in the YAML file, which wins over the worker's own options."""
    argv = deployment.argv[4:] if tasks_of(deployment.argv) else deployment.argv
    model, options = argv[1], without(argv[2:], {**_ADDRESS, "--extra_llm_api_options": 1})
    tree: dict[str, Json] = dict(yaml.safe_load("".join(deployment.files.values())) or {})
    left: list[str] = []
    at = 0
    while at < len(options):
        name, equals, value = options[at].removeprefix("--").partition("=")
        at += 1
        if not equals and at < len(options) and not options[at].startswith("--"):
            value, at = options[at], at + 1
        if name in _KEYS:
            tree[_KEYS[name]] = yaml.safe_load(value) if value else True
        else:
            left.append(f"--{name} {value}".rstrip())
    lines = shlex.join(plain(tree).rstrip("\n").split("\n"))
    own = ("--model-path", model, "--served-model-name", model, "--extra-engine-args", _FILE)
    start = shlex.join(("python3", "-m", "dynamo.trtllm", *own))
    notes = [f"Left out, since Dynamo's worker has no such option: {option}" for option in left]
    return ("sh", "-c", f"printf '%s\\n' {lines} > {_FILE} && exec {start}"), tuple(notes)
