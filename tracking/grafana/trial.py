"""Trial detail: one running trial, or several, from second to second."""

from __future__ import annotations

from dataclasses import replace

from runtimes.json_types import Json
from tracking.grafana.board import board, choice
from tracking.grafana.panels import Panel, Query, Row, lines, stat
from tracking.grafana.promql import TRIAL, metric, selector, total


def trial() -> dict[str, Json]:
    """The dashboard as Grafana imports it."""
    return board(
        "trial",
        "trial detail",
        "Trials while they run. Their series end with them: what a finished trial showed is in "
        "the record of its run.",
        [
            Row(4, _numbers()),
            Row(8, [_output_rate(), _progress(), _in_flight()], "Load"),
            Row(
                8,
                [
                    _latency("TTFT", "Time to first token", "time_to_first_token", "ttft"),
                    _latency("TPOT", "Time per output token", "time_per_output_token", "tpot"),
                ],
            ),
            Row(8, [_queue(), _kv_cache(), _prefix_hits()], "Engines"),
            Row(8, [_own_running(), _own_kv_cache()], "The engine's own metrics"),
        ],
        choice("trial", "Trial", 'label_values(servetune_trial_gpus{run=~"$run"}, trial)'),
    )


def _of(name: str) -> str:
    return metric(name, TRIAL)


def _named(panel: Panel, legend: str) -> Panel:
    (query,) = panel.queries
    return replace(panel, queries=(replace(query, legend=legend),), show_name=True)


def _numbers() -> list[Panel]:
    phase = f"{_of('trial_phase')} == 1"
    return [
        _named(stat("Phase", "What each trial does now.", 6, phase), "trial {{trial}}: {{phase}}"),
        _named(
            stat("Engine", "The engine that each trial runs.", 6, _of("trial_gpus")),
            "trial {{trial}}: {{engine}}",
        ),
        stat("GPUs", "Devices that the trials hold.", 4, total(_of("trial_gpus"))),
        stat(
            "Engines ready",
            "Trials whose engine is ready: neither starting nor stopping.",
            4,
            total(_of("engine_up")),
        ),
        stat(
            "Output rate",
            "Output tokens per second and GPU over about the last second, mean of the trials.",
            4,
            f"avg({_of('trial_output_tokens_per_second_per_gpu')})",
            "suffix: tok/s",
        ),
    ]


def _output_rate() -> Panel:
    return lines(
        "Output tokens per second and GPU",
        "Over about the last second.",
        "suffix: tok/s",
        8,
        Query(_of("trial_output_tokens_per_second_per_gpu"), "trial {{trial}}"),
    )


def _progress() -> Panel:
    return lines(
        "Progress of the stage",
        "Requests done over requests planned; it begins anew with each load stage.",
        "percentunit",
        8,
        Query(_of("trial_progress_ratio"), "trial {{trial}}"),
    )


def _in_flight() -> Panel:
    return lines(
        "Requests in flight",
        "Sent by the load generator and not ended: with a closed loop, its concurrency.",
        "short",
        8,
        Query(_of("trial_requests_in_flight"), "trial {{trial}}"),
    )


def _latency(short: str, long: str, name: str, limit: str) -> Panel:
    return lines(
        f"{short}, mean",
        f"{long} of the requests that ended over about the last second, and the limits of the "
        "service-level objective.",
        "s",
        12,
        Query(_of(f"trial_{name}_seconds"), "trial {{trial}}"),
        Query(metric("slo_limit_seconds", f'metric="{limit}"'), "limit on {{statistic}}"),
    )


def _queue() -> Panel:
    return lines(
        "Requests in the engine",
        "Requests the engine works on, and those that wait in it.",
        "short",
        8,
        Query(_of("engine_requests_running"), "trial {{trial}} running"),
        Query(_of("engine_requests_waiting"), "trial {{trial}} waiting"),
    )


def _kv_cache() -> Panel:
    return lines(
        "KV cache in use",
        "Share of the KV cache; at 1 the engine preempts or queues.",
        "percentunit",
        8,
        Query(_of("engine_kv_cache_usage_ratio"), "trial {{trial}}"),
    )


def _prefix_hits() -> Panel:
    return lines(
        "Prefix cache hits",
        "Prompt tokens found in the prefix cache over those looked up, since the stage began.",
        "percentunit",
        8,
        Query(_of("engine_prefix_cache_hit_ratio"), "trial {{trial}}"),
    )


def _own_running() -> Panel:
    return lines(
        "Requests in each replica",
        "As the engine itself says where Prometheus scrapes it; vLLM counts per data-parallel "
        "rank, SGLang per process.",
        "short",
        12,
        Query(selector("vllm:num_requests_running", TRIAL), "trial {{trial}} at {{instance}}"),
        Query(selector("sglang:num_running_reqs", TRIAL), "trial {{trial}} at {{instance}}"),
    )


def _own_kv_cache() -> Panel:
    return lines(
        "KV cache of each replica",
        "As the engine itself says where Prometheus scrapes it; replicas that differ share the "
        "load unevenly.",
        "percentunit",
        12,
        Query(selector("vllm:kv_cache_usage_perc", TRIAL), "trial {{trial}} at {{instance}}"),
        Query(selector("sglang:token_usage", TRIAL), "trial {{trial}} at {{instance}}"),
    )
