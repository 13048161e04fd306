"""The study overview: what a study does now, what it found, and what went wrong."""

from __future__ import annotations

from runtimes.json_types import Json
from tracking.grafana.panels import DATASOURCE, SELECTOR, Panel, Query, place

UID = "servetune-overview"


def overview() -> dict[str, Json]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": UID,
        "title": "servetune: study overview",
        "description": "One servetune study as its driver sees it.",
        "tags": ["servetune"],
        "editable": True,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "5s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource_variable(), _instance_variable()]},
        "annotations": {"list": []},
        "links": [],
        "panels": place(
            [
                (4, _numbers()),
                (8, [_trials_by_state(), _gpus()]),
                (8, [_best(), _output_rate()]),
                (8, [*_latencies()]),
                (8, [_kv_usage(), _engine_queue(), _requests()]),
                (8, [_failures(), _phases(), _suggestions()]),
            ]
        ),
    }


def _series(name: str, **labels: str) -> str:
    matchers = [SELECTOR, *(f'{label}="{value}"' for label, value in labels.items())]
    return f"servetune_{name}{{{','.join(matchers)}}}"


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }


def _instance_variable() -> Json:
    return {
        "name": "instance",
        "label": "Driver",
        "type": "query",
        "datasource": dict(DATASOURCE),
        "query": {
            "query": "label_values(servetune_study_info, instance)",
            "refId": "instances",
        },
        "refresh": 2,
        "sort": 1,
    }


def _stat(title: str, description: str, width: int, expr: str, unit: str = "short") -> Panel:
    return Panel("stat", title, description, unit, width, (Query(expr, title),))


def _numbers() -> list[Panel]:
    busy_s = f"sum({_series('gpu_seconds_total', state='busy')})"
    all_s = f"sum({_series('gpu_seconds_total')})"
    return [
        Panel(
            "stat",
            "Study",
            "Name of the study, and the model it serves.",
            "short",
            6,
            (Query(_series("study_info"), "{{name}} · {{model}}"),),
            show_name=True,
        ),
        _stat(
            "Trials ended",
            "Attempts that ended since the driver started, whatever their state.",
            3,
            f"sum({_series('trials_total')})",
        ),
        _stat("Running", "Trials that hold devices now.", 3, _series("trials_running")),
        _stat("Queued", "Trials that wait for devices now.", 3, _series("trials_queued")),
        _stat(
            "Failures",
            "Attempts that ended with a failure since the driver started.",
            3,
            f"sum({_series('trial_failures_total')})",
        ),
        _stat(
            "GPUs busy",
            "Share of the study's GPUs that hold a trial now.",
            3,
            f"sum({_series('gpus', state='busy')}) / sum({_series('gpus')})",
            "percentunit",
        ),
        _stat(
            "GPU time used",
            "Busy GPU-seconds over all GPU-seconds since the driver started.",
            3,
            f"{busy_s} / {all_s}",
            "percentunit",
        ),
    ]


def _trials_by_state() -> Panel:
    return Panel(
        "timeseries",
        "Trials by state",
        "Attempts that ended since the driver started, by state.",
        "short",
        12,
        (Query(f"sum by (state) ({_series('trials_total')})", "{{state}}"),),
        stacked=True,
    )


def _gpus() -> Panel:
    return Panel(
        "timeseries",
        "GPUs busy and idle",
        "GPUs the study holds, with a trial on them and without.",
        "short",
        12,
        (Query(f"sum by (state) ({_series('gpus')})", "{{state}}"),),
        stacked=True,
    )


def _best() -> Panel:
    return Panel(
        "timeseries",
        "Best objective so far",
        "Objectives of the best trial so far, each in its own unit.",
        "short",
        12,
        (Query(_series("best_objective_value"), "{{objective}}"),),
    )


def _output_rate() -> Panel:
    return Panel(
        "timeseries",
        "Output tokens per second and GPU, running trials",
        "Live figures of trials that run now; a series ends with its trial.",
        "suffix: tok/s",
        12,
        (Query(_series("trial_output_tokens_per_second_per_gpu"), "trial {{trial}}"),),
    )


def _latencies() -> list[Panel]:
    return [
        _quantiles("TTFT", "Time to first token", "time_to_first_token", "ttft"),
        _quantiles("TPOT", "Time per output token", "time_per_output_token", "tpot"),
    ]


def _quantiles(short: str, long: str, name: str, metric: str) -> Panel:
    bucket = _series(f"request_{name}_seconds_bucket")
    rate = f"sum by (le, engine) (rate({bucket}[$__rate_interval]))"
    quantiles = [
        Query(f"histogram_quantile({quantile}, {rate})", f"p{percentile} {{{{engine}}}}")
        for quantile, percentile in ((0.5, 50), (0.99, 99))
    ]
    limit = Query(_series("slo_limit_seconds", metric=metric), "limit on {{statistic}}")
    return Panel(
        "timeseries",
        f"{short} of measured requests",
        f"{long}, over all trials of an engine, as their stages end; the limits of the "
        "service-level objective are boundaries of the histogram.",
        "s",
        12,
        (*quantiles, limit),
    )


def _kv_usage() -> Panel:
    return Panel(
        "timeseries",
        "KV cache in use, running trials",
        "Share of the KV cache each running engine uses; at 1 it preempts or queues.",
        "percentunit",
        8,
        (Query(_series("engine_kv_cache_usage_ratio"), "trial {{trial}}"),),
    )


def _engine_queue() -> Panel:
    return Panel(
        "timeseries",
        "Requests in the engines",
        "Requests each running engine works on, and those that wait in it.",
        "short",
        8,
        (
            Query(_series("engine_requests_running"), "trial {{trial}} running"),
            Query(_series("engine_requests_waiting"), "trial {{trial}} waiting"),
        ),
    )


def _requests() -> Panel:
    rate = f"rate({_series('requests_total')}[$__rate_interval])"
    return Panel(
        "timeseries",
        "Measured requests",
        "Requests by outcome, counted as stages end.",
        "reqps",
        8,
        (Query(f"sum by (outcome) ({rate})", "{{outcome}}"),),
    )


def _failures() -> Panel:
    return Panel(
        "bargauge",
        "Failures by kind",
        "Attempts that failed since the driver started; kinds that did not occur are left out.",
        "short",
        8,
        (Query(f"sum by (kind) ({_series('trial_failures_total')}) > 0", "{{kind}}"),),
    )


def _phases() -> Panel:
    total = _series("trial_duration_seconds_sum")
    count = _series("trial_duration_seconds_count")
    mean = f"sum by (phase) ({total}) / (sum by (phase) ({count}) > 0)"
    return Panel(
        "bargauge",
        "Mean time of a trial's phases",
        "Where a trial's time goes: starting, warming, measuring, stopping.",
        "s",
        8,
        (Query(mean, "{{phase}}"),),
    )


def _suggestions() -> Panel:
    bucket = _series("suggest_duration_seconds_bucket")
    rate = f"sum by (le, sampler) (rate({bucket}[$__rate_interval]))"
    return Panel(
        "timeseries",
        "Time for one proposal, p99",
        "How long the sampler takes; GPUs may wait for it.",
        "s",
        8,
        (Query(f"histogram_quantile(0.99, {rate})", "{{sampler}}"),),
    )
