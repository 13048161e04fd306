"""SGLang: `sglang serve` processes, one per node; commands hold for SGLang 0.5.23."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from runtimes.engines._flags import FlagTable, table_for
from runtimes.engines._search import SearchHint
from runtimes.engines._sglang_args import render_args
from runtimes.engines._sglang_case import Case
from runtimes.engines._sglang_effective import compiled_kernels, effective, lossy_parts
from runtimes.engines._sglang_limits import serving_limits
from runtimes.engines._sglang_notes import notes_on
from runtimes.engines._sglang_report import read_report
from runtimes.engines._sglang_rules import broken_rule
from runtimes.engines._sglang_search import search_hints
from runtimes.engines._sglang_settings import NAME, Settings, precision_of, settings_of, table_of
from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import (
    HOST,
    MASTER_HOST,
    MASTER_PORT,
    PORT,
    DeploymentPlan,
    EngineConfig,
    ProcessPlan,
    pasted,
)
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits

_MODULE = "sglang.launch_server"

# server_args.py, `PortArgs`, and data_parallel_controller.py: with attention groups the ranks meet
# at the port given to `--dist-init-addr`, six ports above it and one 13 above it; without that
# address at the server's own port plus 233, and 13 above the server's own.
_MEETING_PORTS = (0, 1, 2, 3, 4, 5, 6, 13)
_LOCAL_MEETING_PORTS = (0, 13, 233, 234, 235, 236, 237, 238, 239)
_PREFILL = '{stage="prefill_forward",pp_rank="0"}'


@ENGINES.register(NAME)
class SglangEngine(Engine):
    """SGLang's HTTP server.

    A secret key cannot be demanded of its clients: SGLang takes one on its command line only,
    where every user of the machine can read it.

    Options:
        entrypoint: "serve" (default) runs the `sglang` command; "module" runs the server's module
            with the environment's interpreter, for environments without that command.
    """

    name: ClassVar[str] = NAME
    distribution: ClassVar[str] = "sglang"
    executable: ClassVar[str | None] = "sglang"
    options: ClassVar[Mapping[str, Json]] = {"entrypoint": "serve"}
    version_path: ClassVar[str] = "/server_info"
    cache_reset_path: ClassVar[str | None] = "/flush_cache"
    request_fields: ClassVar[Mapping[str, Json]] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": -1,  # off (sampling_params.py, `verify`)
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,
    }
    # Every pipeline stage reports the requests and the cache of its scheduler, which are the same:
    # the first one's count (observability/metrics_collector.py). Other ranks of one attention
    # group report nothing; the groups and replicas report their own, to be summed.
    metrics: ClassVar[Mapping[str, str]] = {
        'sglang:num_running_reqs{pp_rank="0"}': "requests_running",
        'sglang:num_queue_reqs{pp_rank="0"}': "requests_waiting",
        "sglang:token_usage": "kv_cache_usage_ratio",
        "sglang:prompt_tokens_total": "prompt_tokens_total",
        "sglang:generation_tokens_total": "generation_tokens_total",
        # Hits are counted among the prompts' tokens, so that these are the queries as well.
        "sglang:prompt_tokens_total{}": "prefix_cache_queries_total",
        "sglang:cached_tokens_total": "prefix_cache_hits_total",
        'sglang:num_retracted_requests_total{pp_rank="0"}': "preemptions_total",
        "sglang:num_requests_total": "requests_finished_total",
        'sglang:queue_time_seconds_sum{pp_rank="0"}': "queue_seconds_total",
        'sglang:queue_time_seconds_count{pp_rank="0"}': "queue_requests_total",
        f"sglang:per_stage_req_latency_seconds_sum{_PREFILL}": "prefill_seconds_total",
        f"sglang:per_stage_req_latency_seconds_count{_PREFILL}": "prefill_requests_total",
        # No stage of its own: the gaps between a request's tokens add up to it.
        "sglang:inter_token_latency_seconds_sum": "decode_seconds_total",
        "sglang:e2e_request_latency_seconds_count": "decode_requests_total",
        # served only while speculation is on
        "sglang:spec_verify_calls_total": "spec_decode_drafts_total",
    }
    # The other kernel caches follow it (environ.py, `third_party_cache_defaults`).
    cache_env: ClassVar[Mapping[str, str]] = {
        "SGLANG_CACHE_DIR": "sglang",
        "SGLANG_JIT_CACHE_DIR": "sglang-jit",
    }
    # SGLang itself reports to nobody; what it loads models with does.
    offline_env: ClassVar[Mapping[str, str]] = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    reserved_args: ClassVar[frozenset[str]] = frozenset(
        # set from the experiment's model, layout and allocation
        {"model-path", "revision", "served-model-name", "host", "port"}
        | {"tp-size", "pp-size", "dp-size", "enable-dp-attention", "base-gpu-id", "gpu-id-step"}
        | {"nnodes", "node-rank", "dist-init-addr", "nccl-port", "use-ray", "gated-launch-port"}
        # would make it another kind of server, or hide arguments, metrics or plain HTTP
        | {"config", "enable-metrics", "enable-metrics-for-all-schedulers", "encoder-only"}
        | {"disaggregation-mode", "smg-grpc-mode", "grpc-mode", "grpc-port", "enable-http2"}
        | {"fastapi-root-path", "ssl-keyfile", "ssl-certfile", "ssl-ca-certs"}
        | {"ssl-keyfile-password", "enable-ssl-refresh"}
        # secrets, which would stand on the command line
        | {"api-key", "admin-api-key"}
    )

    def gpus(self, layout: ParallelLayout) -> int:
        """Product of dp, tp and pp (server_args.py, `compute_world_size`).

        Attention groups, context and expert parallelism share the tensor-parallel ranks.
        """
        return layout.dp * layout.tp * layout.pp

    def flags(self, version: str | None) -> FlagTable | None:
        return table_for(NAME, version)

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        """One process per node, each on its share of the layout's GPUs.

        Raises:
            UserError: option `entrypoint` is unknown, or "module" without an interpreter.
        """
        settings = settings_of(config)
        processes = tuple(_process(config, settings, node) for node in range(config.nodes))
        return DeploymentPlan(
            engine=self.name,
            processes=processes,
            deploy=pasted(processes[0].argv),
            secrets=config.secrets,
            environment=config.environment,
            effective=effective(config),
            compiles=compiled_kernels(config),
            notes=notes_on(settings),
            lossy=lossy_parts(config),
        )

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        return broken_rule(config, model, accelerator)

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        return read_report(log=log, version_json=version_json)

    def serving_limits(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> ServingLimits:
        return serving_limits(Case.of(config, model, accelerator))

    def layout(self, config: EngineConfig) -> ParallelLayout:
        return Case.of(config, None, None).layout

    def precision(self, config: EngineConfig, model: ModelFacts | None) -> Quantization:
        return precision_of(settings_of(config), config.quantization)

    def search_hints(
        self, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> tuple[SearchHint, ...]:
        return search_hints(model, accelerator)


def _process(config: EngineConfig, settings: Settings, node: int) -> ProcessPlan:
    revision = ("--revision", config.revision) if config.revision else ()
    argv = (
        *_entry(config),
        *("--model-path", config.model, *revision, "--served-model-name", config.model),
        *("--host", HOST, "--port", PORT, "--enable-metrics"),
        *_meeting(config.nodes, node),
        *render_args(settings.values, table_of(config)),
    )
    gpus = SglangEngine().gpus(config.layout)
    return ProcessPlan(
        argv=argv,
        env=dict(config.env),
        gpus=_share(gpus, config.nodes, node),
        node=node,
        ports=_ports(config.nodes, node, groups=settings.degree("attn-dp-size")),
    )


def _entry(config: EngineConfig) -> tuple[str, ...]:
    entrypoint = config.options.get("entrypoint", "serve")
    if entrypoint == "serve":
        return (config.environment.command("sglang"), "serve")
    if entrypoint != "module":
        raise UserError(f"sglang: option entrypoint is 'serve' or 'module', got {entrypoint!r}")
    python = config.environment.interpreter
    if not python:
        raise UserError(
            "sglang: option entrypoint 'module' needs an interpreter; set environment.python"
        )
    return (python, "-m", _MODULE)


def _meeting(nodes: int, node: int) -> tuple[str, ...]:
    """Where the ranks of a server over several nodes meet, and which of them this one has."""
    if nodes == 1:
        return ()
    address = f"{MASTER_HOST}:{MASTER_PORT}"
    return ("--nnodes", str(nodes), "--node-rank", str(node), "--dist-init-addr", address)


def _ports(nodes: int, node: int, *, groups: int) -> dict[str, tuple[int, ...]]:
    """Ports that the process of `node` binds; each node answers health checks on its own."""
    if nodes == 1:
        return {"port": _LOCAL_MEETING_PORTS if groups > 1 else (0,)}
    if node:
        return {"port": (0,)}
    return {"port": (0,), "master_port": _MEETING_PORTS if groups > 1 else (0,)}


def _share(gpus: int, nodes: int, node: int) -> int:
    """GPUs on one of `nodes`; a count that does not divide is refused, and shared out here."""
    return gpus // nodes + (1 if node < gpus % nodes else 0)
