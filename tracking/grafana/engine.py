"""Engines: queues, caches, tokens and latencies, by engine and over all their trials."""

from __future__ import annotations

from runtimes.json_types import Json
from tracking.grafana.board import board, choice, latencies
from tracking.grafana.panels import Panel, Query, Row, heatmap, lines, stat
from tracking.grafana.promql import (
    ENGINE,
    distribution,
    metric,
    quantile,
    rate,
    selector,
    share_of,
    total,
)


def engine() -> dict[str, Json]:
    """The dashboard as Grafana imports it."""
    return board(
        "engine",
        "engines",
        "What the engines of running trials say, and the requests measured on them.",
        [
            Row(4, _numbers()),
            Row(8, [_queue(), _kv_cache(), _prefix_hits()], "Engines of running trials"),
            Row(8, [_generated(), _prompts(), _preemptions()], "Tokens"),
            Row(
                8,
                [
                    _latency("TTFT", "Time to first token", "time_to_first_token", "ttft"),
                    _latency("TPOT", "Time per output token", "time_per_output_token", "tpot"),
                ],
                "Latencies of measured requests",
            ),
            Row(
                8,
                [
                    _latency("ITL", "Time between two chunks", "inter_token_latency", "itl"),
                    _latency("E2E", "Time from sending to the end", "duration", "e2e"),
                ],
            ),
            Row(8, _heatmaps()),
            Row(8, [_lengths("input"), _lengths("output")]),
            Row(8, [_own_waiting(), _own_finished()], "The engines' own metrics"),
        ],
        choice("engine", "Engine", 'label_values(servetune_trial_gpus{run=~"$run"}, engine)'),
    )


def _of_running(name: str) -> str:
    """A gauge of running trials, of those on the chosen engines."""
    holds = metric("trial_gpus", ENGINE)
    return f"{metric(name)} and on (run, instance, trial) {holds}"


def _latency(short: str, long: str, histogram: str, limit: str) -> Panel:
    return latencies(short, long, histogram, limit, 12, ENGINE)


def _numbers() -> list[Panel]:
    holds = metric("trial_gpus", ENGINE)
    up = metric("engine_up", ENGINE)
    return [
        stat("Trials", "Trials that hold devices now.", 4, f"count({holds})"),
        stat(
            "Engines ready",
            "Share of the running trials whose engine is ready: neither starting nor stopping.",
            4,
            share_of(total(up), f"count({up})"),
            "percentunit",
        ),
        stat(
            "Requests running",
            "Requests the engines work on now.",
            4,
            total(_of_running("engine_requests_running")),
        ),
        stat(
            "Requests waiting",
            "Requests that wait in the engines now.",
            4,
            total(_of_running("engine_requests_waiting")),
        ),
        stat(
            "Fullest KV cache",
            "The largest share of a KV cache in use now.",
            4,
            f"max({_of_running('engine_kv_cache_usage_ratio')})",
            "percentunit",
            alarm_from=0.95,
        ),
        stat(
            "Preemptions",
            "Requests that engines put back in measured stages, since the driver started.",
            4,
            total(metric("engine_preemptions_total", ENGINE)),
            alarm_from=1,
        ),
    ]


def _queue() -> Panel:
    return lines(
        "Requests in the engines",
        "Requests each running engine works on, and those that wait in it.",
        "short",
        8,
        Query(_of_running("engine_requests_running"), "trial {{trial}} running"),
        Query(_of_running("engine_requests_waiting"), "trial {{trial}} waiting"),
    )


def _kv_cache() -> Panel:
    return lines(
        "KV cache in use",
        "Share of the KV cache each running engine uses; at 1 it preempts or queues.",
        "percentunit",
        8,
        Query(_of_running("engine_kv_cache_usage_ratio"), "trial {{trial}}"),
    )


def _prefix_hits() -> Panel:
    return lines(
        "Prefix cache hits",
        "Prompt tokens found in the prefix cache over those looked up, since the stage began.",
        "percentunit",
        8,
        Query(_of_running("engine_prefix_cache_hit_ratio"), "trial {{trial}}"),
    )


def _counter(title: str, description: str, unit: str, name: str) -> Panel:
    expr = total(rate(metric(name, ENGINE)), "engine")
    return lines(title, description, unit, 8, Query(expr, "{{engine}}"))


def _generated() -> Panel:
    return _counter(
        "Output tokens per second",
        "Tokens that engines generated in measured stages, as they count them.",
        "suffix: tok/s",
        "engine_generation_tokens_total",
    )


def _prompts() -> Panel:
    return _counter(
        "Input tokens per second",
        "Prompt tokens that engines took in in measured stages, as they count them.",
        "suffix: tok/s",
        "engine_prompt_tokens_total",
    )


def _preemptions() -> Panel:
    return _counter(
        "Preemptions per second",
        "Requests that engines put back to make room in the KV cache.",
        "cps",
        "engine_preemptions_total",
    )


def _heatmaps() -> list[Panel]:
    return [
        heatmap(
            f"{short} distribution",
            f"Requests by {words}, as their stages end; rows are the histogram's buckets.",
            "s",
            8,
            distribution(f"request_{name}_seconds", ENGINE),
        )
        for short, words, name in (
            ("TTFT", "time to first token", "time_to_first_token"),
            ("ITL", "time between two chunks", "inter_token_latency"),
            ("E2E", "time from sending to the end", "duration"),
        )
    ]


def _lengths(side: str) -> Panel:
    return lines(
        f"{side.capitalize()} tokens of measured requests",
        f"Percentiles of the {side} length, as stages end.",
        "short",
        12,
        *(
            Query(
                quantile(share, f"request_{side}_tokens", "engine", matchers=(ENGINE,)),
                f"p{share * 100:g} {{{{engine}}}}",
            )
            for share in (0.5, 0.99)
        ),
    )


def _own_waiting() -> Panel:
    return lines(
        "Requests that wait, by server",
        "As the engine itself says where Prometheus scrapes it.",
        "short",
        12,
        Query(selector("vllm:num_requests_waiting", ENGINE), "trial {{trial}} at {{instance}}"),
        Query(selector("sglang:num_queue_reqs", ENGINE), "trial {{trial}} at {{instance}}"),
    )


def _own_finished() -> Panel:
    finished = rate(selector("vllm:request_success_total", ENGINE))
    return lines(
        "Requests by how they finished",
        "As vLLM itself counts them, warm-up included, where Prometheus scrapes it: a measured "
        "request ends by its length.",
        "reqps",
        12,
        Query(total(finished, "finished_reason"), "{{finished_reason}}"),
    )
