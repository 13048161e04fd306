"""vLLM: one `vllm serve` process; commands hold for vLLM 0.32 and 0.33."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import ClassVar

from runtimes.engines._vllm_args import render_args
from runtimes.engines._vllm_report import read_report
from runtimes.engines._vllm_rules import broken_rule
from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import HOST, PORT, DeploymentPlan, EngineConfig, ProcessPlan

_MODULE = "vllm.entrypoints.openai.api_server"


@ENGINES.register("vllm")
class VllmEngine(Engine):
    """vLLM, started as a plain subprocess with the multiprocessing executor.

    Options:
        entrypoint: "serve" (default) runs the `vllm` command; "module" runs the OpenAI server's
            module with the environment's interpreter, for environments without that command.
    """

    name: ClassVar[str] = "vllm"
    distribution: ClassVar[str] = "vllm"
    executable: ClassVar[str | None] = "vllm"
    options: ClassVar[Mapping[str, Json]] = {"entrypoint": "serve"}
    api_key_env: ClassVar[str | None] = "VLLM_API_KEY"
    request_fields: ClassVar[Mapping[str, Json]] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "ignore_eos": True,
    }
    metrics: ClassVar[Mapping[str, str]] = {
        "vllm:num_requests_running": "requests_running",
        "vllm:num_requests_waiting": "requests_waiting",
        "vllm:kv_cache_usage_perc": "kv_cache_usage_ratio",
        "vllm:prompt_tokens_total": "prompt_tokens_total",
        "vllm:generation_tokens_total": "generation_tokens_total",
        "vllm:prefix_cache_queries_total": "prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total": "prefix_cache_hits_total",
        "vllm:num_preemptions_total": "preemptions_total",
        "vllm:request_success_total": "requests_finished_total",
    }
    reserved_args: ClassVar[frozenset[str]] = frozenset(
        # set from the experiment's model, layout and allocation
        {"model", "model-tag", "revision", "served-model-name", "host", "port", "uds"}
        | {"tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"}
        # would change how many GPUs or servers one process stands for
        | {"prefill-context-parallel-size", "nnodes", "node-rank", "headless", "grpc"}
        | {"data-parallel-rank", "data-parallel-external-lb", "data-parallel-hybrid-lb"}
        # would hide arguments, metrics or the plain HTTP port from servetune
        | {"config", "disable-log-stats", "ssl-keyfile", "ssl-certfile"}
        # secrets: they reach the engine through its environment
        | {"api-key", "hf-token"}
    )

    def gpus(self, layout: ParallelLayout) -> int:
        """Product of tp, pp, pcp and dp (config/parallel.py of 0.33); dcp and ep are free."""
        return layout.tp * layout.pp * layout.pcp * layout.dp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """One process on all the GPUs of the layout.

        Raises:
            UserError: option `entrypoint` is unknown, or "module" without an interpreter.
        """
        revision = ("--revision", config.revision) if config.revision else ()
        argv = (
            *_entry(config),
            *("--host", HOST, "--port", PORT),
            *revision,
            *_layout_flags(config.layout, config.args),
            *render_args(config.args),
        )
        process = ProcessPlan(argv=argv, env=dict(config.env), gpus=self.gpus(config.layout))
        return DeploymentPlan(
            engine=self.name,
            processes=(process,),
            deploy=argv,
            secrets=config.secrets,
            environment=config.environment,
        )

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        broken = broken_rule(config, model, accelerator)
        return None if broken is None else Refusal("vllm", broken)

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return read_report(log=log, metrics_text=metrics_text, version_json=version_json)


def _entry(config: EngineConfig) -> tuple[str, ...]:
    python = config.environment.python
    entrypoint = config.options.get("entrypoint", "serve")
    if entrypoint == "serve":
        command = str(PurePath(python).with_name("vllm")) if python else "vllm"
        return (command, "serve", config.model)
    if entrypoint != "module":
        raise UserError(f"vllm: option entrypoint is 'serve' or 'module', got {entrypoint!r}")
    if not python:
        raise UserError(
            "vllm: option entrypoint 'module' needs an interpreter; set environment.python"
        )
    return (python, "-m", _MODULE, "--model", config.model)


def _layout_flags(layout: ParallelLayout, args: Mapping[str, Json]) -> tuple[str, ...]:
    degrees = {
        "--tensor-parallel-size": layout.tp,
        "--pipeline-parallel-size": layout.pp,
        "--data-parallel-size": layout.dp,
    }
    flags = [part for flag, n in degrees.items() if n > 1 for part in (flag, str(n))]
    # Started from inside a Ray actor, vLLM would otherwise look for a placement group and choose
    # its ray executor (config/parallel.py of 0.33).
    if layout.tp * layout.pp > 1 and args.get("distributed-executor-backend") is None:
        flags += ["--distributed-executor-backend", "mp"]
    return tuple(flags)
