"""The `/metrics` page: vLLM's own names, and the simulator's lateness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtimes.simulator.replica import Replica
from runtimes.simulator.resolve import Resolved

LATENESS = "servetune_simulator_lateness_seconds_total"
"""How much later than the model's clock steps ended, summed over steps. On a machine that keeps
up it stays below the timers' millisecond per step."""
STEPS = "servetune_simulator_steps_total"
"""Steps played; the lateness per step is the quotient."""

_GAUGES: Mapping[str, Callable[[Replica], float]] = {
    "vllm:num_requests_running": lambda replica: replica.model.running,
    "vllm:num_requests_waiting": lambda replica: replica.model.waiting,
    "vllm:kv_cache_usage_perc": lambda replica: replica.model.kv_usage,
}
_COUNTERS: Mapping[str, Callable[[Replica], float]] = {
    "vllm:prompt_tokens_total": lambda replica: replica.model.counters.prompt_tokens,
    "vllm:generation_tokens_total": lambda replica: replica.model.counters.generation_tokens,
    "vllm:prefix_cache_queries_total": lambda replica: replica.model.counters.prefix_queries,
    "vllm:prefix_cache_hits_total": lambda replica: replica.model.counters.prefix_hits,
    "vllm:num_preemptions_total": lambda replica: replica.model.counters.preemptions,
    LATENESS: lambda replica: replica.lateness_s,
    STEPS: lambda replica: replica.steps,
}
_WAITS: Mapping[str, Callable[[Replica], float]] = {
    "vllm:request_queue_time_seconds": lambda replica: replica.waits.queue_s,
    "vllm:request_prefill_time_seconds": lambda replica: replica.waits.prefill_s,
    "vllm:request_decode_time_seconds": lambda replica: replica.waits.decode_s,
}
"""Histograms of vLLM's, of which only sum and count are told."""
_FINISHED: Mapping[str, Callable[[Replica], float]] = {
    "stop": lambda _: 0,  # the simulated model never ends a sequence by itself
    "length": lambda replica: replica.model.counters.finished_requests,
    "abort": lambda replica: replica.model.counters.aborted_requests,
}


def render(replicas: Sequence[Replica], resolved: Resolved) -> bytes:
    """The page in Prometheus' text format; one series per replica, as vLLM labels its engines."""
    model_name = resolved.arguments.served_name
    labels = [{"engine": str(index), "model_name": model_name} for index in range(len(replicas))]
    lines: list[str] = []
    for kind, metrics in (("gauge", _GAUGES), ("counter", _COUNTERS)):
        for name, read in metrics.items():
            lines.append(f"# TYPE {name} {kind}")
            lines += [
                _line(name, label, read(replica))
                for label, replica in zip(labels, replicas, strict=True)
            ]
    for name, read in _WAITS.items():
        lines.append(f"# TYPE {name} summary")
        for label, replica in zip(labels, replicas, strict=True):
            lines.append(_line(f"{name}_sum", label, read(replica)))
            lines.append(_line(f"{name}_count", label, replica.waits.requests))
    lines.append("# TYPE vllm:request_success_total counter")
    for label, replica in zip(labels, replicas, strict=True):
        for reason, read in _FINISHED.items():
            reasoned = {**label, "finished_reason": reason}
            lines.append(_line("vllm:request_success_total", reasoned, read(replica)))
    lines.append("# TYPE vllm:cache_config_info gauge")
    for label in labels:
        info = {**_cache_config(resolved), "engine": label["engine"]}
        lines.append(_line("vllm:cache_config_info", info, 1))
    return ("\n".join(lines) + "\n").encode()


def _cache_config(resolved: Resolved) -> dict[str, str]:
    limits, arguments = resolved.limits, resolved.arguments
    return {
        "block_size": str(limits.block_size),
        "cache_dtype": arguments.kv_cache_dtype,
        "enable_prefix_caching": str(limits.prefix_caching),
        "gpu_memory_utilization": str(arguments.gpu_memory_utilization),
        "kv_cache_max_concurrency": f"{resolved.max_concurrency:.2f}",
        "kv_cache_size_tokens": str(resolved.kv_tokens),
        "num_gpu_blocks": str(limits.blocks),
        "num_gpu_blocks_override": str(arguments.num_gpu_blocks_override),
    }


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {value!r}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
