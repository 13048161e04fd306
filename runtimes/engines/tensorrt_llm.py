"""TensorRT-LLM: `trtllm-serve` with a YAML file beside its command line, for the 1.2 line."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import ClassVar

from runtimes.engines import _trtllm_metrics, _trtllm_precision, _trtllm_rules
from runtimes.engines._flags import FlagTable
from runtimes.engines._search import SearchHint
from runtimes.engines._trtllm_arguments import argument_problems, unlisted
from runtimes.engines._trtllm_command import (
    FILE,
    deploy_command,
    over_mpi,
    server_argv,
    yaml_text,
)
from runtimes.engines._trtllm_limits import serving_limits
from runtimes.engines._trtllm_search import hints
from runtimes.engines._trtllm_settings import (
    CLUSTERS,
    EXPERT_RANKS,
    EXPERT_SHARDS,
    KV_DTYPE,
    Settings,
    canonical,
    context_degree,
    effective_layout,
    everything,
    expert_ranks,
    precision_of,
    settle,
)
from runtimes.engines.base import ENGINES, Engine, EngineReport, Refusal
from runtimes.hardware import Accelerator
from runtimes.json_types import Json, canonical_json, short_hash
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import DeploymentPlan, EngineConfig, ProcessPlan
from runtimes.quantization import LOSSLESS, Quantization
from runtimes.serving_limits import ServingLimits

_VERSION_IN_LOG = re.compile(r"TensorRT[- ]LLM version: (\d[\w.]*)")
_CACHE_SIZES: tuple[str, ...] = ("maxNumBlocks", "tokensPerBlock")
_COMPILED_FOR = ("moe_config.backend", "attn_backend", KV_DTYPE, "dtype")


@ENGINES.register("tensorrt_llm")
class TensorRtLlmEngine(Engine):
    """TensorRT-LLM's own server, one process per replica, on one node.

    Arguments are options of `trtllm-serve` (`max_batch_size`) or keys of its YAML file, dotted
    (`kv_cache_config.enable_block_reuse`) or nested; which of the two stands where is decided
    here. Dashes and underscores are alike.
    """

    name: ClassVar[str] = "tensorrt_llm"
    distribution: ClassVar[str] = "tensorrt-llm"
    executable: ClassVar[str | None] = "trtllm-serve"
    request_fields: ClassVar[Mapping[str, Json]] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,  # off (sampling_params.py, `_validate`)
        "repetition_penalty": 1.0,
        "ignore_eos": True,
    }
    metrics: ClassVar[Mapping[str, str]] = _trtllm_metrics.TEXT_METRICS
    cache_env: ClassVar[Mapping[str, str]] = {
        "FLASHINFER_WORKSPACE_BASE": "flashinfer",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "TRTLLM_DG_CACHE_DIR": "deep_gemm",
    }
    offline_env: ClassVar[Mapping[str, str]] = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRTLLM_NO_USAGE_STATS": "1",
    }
    reserved_args: ClassVar[frozenset[str]] = frozenset(
        # set from the experiment's model, layout and allocation
        {"model", "revision", "host", "port", "backend", "config", "gpus_per_node"}
        | {"tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size"}
        | {"cp_config.cp_type", "extra_llm_api_options"}
        # would make one process stand for several servers
        | {"disagg_cluster_uri", "metadata_server_config_file"}
        # what is measured is read there
        | {"enable_iter_perf_stats", "return_perf_metrics"}
    )

    def gpus(self, layout: ParallelLayout) -> int:
        """Product of tp, pp and cp (`mapping.py`) for each of dp servers; the rest is free."""
        return layout.tp * layout.pp * context_degree(layout) * layout.dp

    def plan(self, config: EngineConfig) -> DeploymentPlan:
        settings = settle(config)
        servers = config.layout.dp
        gpus = self.gpus(config.layout) // servers
        argv = server_argv(config, settings)
        if config.nodes > 1:
            argv = over_mpi(argv, ranks=gpus, gpus_per_node=-(-gpus // config.nodes))
        text = yaml_text(settings.file)
        processes = tuple(
            ProcessPlan(
                argv=argv, env=dict(config.env), gpus=gpus, files={FILE: text}, server=server
            )
            for server in range(servers)
        )
        return DeploymentPlan(
            engine=self.name,
            processes=processes,
            deploy=deploy_command(argv, text, servers=servers, gpus=gpus),
            secrets=config.secrets,
            environment=config.environment,
            effective=_effective(config, settings),
            compiles=_compiles(config, settings),
            notes=_notes(config, settings),
            lossy=_lossy(settings),
        )

    def refuse(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> Refusal | None:
        broken = _trtllm_rules.broken_rule(config, model)
        return broken or _trtllm_precision.broken_rule(config, model, accelerator)

    def serving_limits(
        self, config: EngineConfig, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> ServingLimits:
        return serving_limits(settle(config), model)

    def layout(self, config: EngineConfig) -> ParallelLayout:
        return effective_layout(config.layout, settle(config))

    def precision(self, config: EngineConfig, model: ModelFacts | None) -> Quantization:
        return precision_of(config)

    def describe(self, *, log: str, metrics_text: str, version_json: str) -> EngineReport:
        """Its version, from `/version` or the log, and the size of its KV cache."""
        cache = _trtllm_metrics.last_iteration(metrics_text).get("kvCacheStats")
        sizes = cache if isinstance(cache, dict) else {}
        found = {name: str(sizes[name]) for name in _CACHE_SIZES if name in sizes}
        return EngineReport(_version(log, version_json), found, _trtllm_metrics.prefix_cache(sizes))

    def read_metrics(self, body: str) -> dict[str, tuple[str, float]]:
        return _trtllm_metrics.read(body)

    def flags(self, version: str | None) -> FlagTable | None:
        """Options and dotted keys in one table."""
        return everything(version)

    def search_hints(
        self, model: ModelFacts | None, accelerator: Accelerator | None
    ) -> tuple[SearchHint, ...]:
        return hints(model, accelerator)

    def check_args(self, args: Mapping[str, Json]) -> list[str]:
        reserved = self.reserved_args
        return sorted(name for name in args if name in reserved or canonical(name) in reserved)

    def argument_problems(self, args: Mapping[str, Json], version: str | None) -> dict[str, str]:
        return argument_problems(args)


def _effective(config: EngineConfig, settings: Settings) -> Json:
    """What one server is told beyond its defaults, and how many there are of it."""
    values = settings.deviating
    # Shards and ranks of experts are one thing said in two ways.
    values.pop(EXPERT_SHARDS, None)
    values[EXPERT_RANKS] = expert_ranks(config.layout, settings)
    if values.get(CLUSTERS) == 1:
        del values[CLUSTERS]
    return {
        "engine": "tensorrt_llm",
        "environment": _environment(config),
        "model": [config.model, config.revision],
        "servers": config.layout.dp,
        "nodes": config.nodes,
        "values": values,
        "env": dict(config.env),
        "secrets": list[Json](sorted(config.secrets)),
    }


def _environment(config: EngineConfig) -> Json:
    identity: Json = json.loads(canonical_json(dataclasses.asdict(config.environment)))
    return identity


def _compiles(config: EngineConfig, settings: Settings) -> str:
    layout = config.layout
    degrees: list[Json] = [layout.tp, layout.pp, context_degree(layout)]
    chosen = [settings.values.get(name) for name in (*_COMPILED_FOR, EXPERT_RANKS)]
    return "tensorrt_llm-" + short_hash([config.model, _environment(config), degrees, chosen])


def _notes(config: EngineConfig, settings: Settings) -> tuple[str, ...]:
    notes = list(settings.overridden)
    if config.layout.dp > 1:
        notes.append(
            f"dp={config.layout.dp} is so many servers: TensorRT-LLM has no flag for replicas, "
            "and clients balance between them"
        )
    if config.quantization.gemm not in (None, *LOSSLESS):
        notes.append(
            f"gemm={config.quantization.gemm} is what the checkpoint has to be: TensorRT-LLM "
            "quantises no weights at start"
        )
    notes += [
        f"{name} is in no list of TensorRT-LLM's keys; it goes into {FILE} as it is"
        for name in settings.values
        if unlisted(name)
    ]
    return tuple(notes)


def _lossy(settings: Settings) -> tuple[str, ...]:
    found = []
    if settings.values.get(KV_DTYPE) in ("fp8", "fp8_ds_mla", "nvfp4"):
        found.append(f"KV cache in {settings.values[KV_DTYPE]}")
    if settings.values.get("force_dynamic_quantization") is True:
        found.append("activations quantised as they come")
    return tuple(found)


def _version(log: str, version_json: str) -> str:
    try:
        answer = json.loads(version_json)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("version"), str):
        return str(answer["version"])
    match = _VERSION_IN_LOG.search(log)
    return match[1] if match is not None else ""
