"""The study overview: what a study does now, what it found, and what went wrong."""

from __future__ import annotations

from dataclasses import replace

from runtimes.json_types import Json
from tracking.grafana.board import board, latencies
from tracking.grafana.panels import Panel, Query, Row, bars, lines, stat
from tracking.grafana.promql import (
    mean_of,
    metric,
    quantile,
    quantile_so_far,
    rate,
    share_of,
    total,
)


def overview() -> dict[str, Json]:
    """The dashboard as Grafana imports it."""
    return board(
        "overview",
        "study overview",
        "Studies as their drivers see them.",
        [
            Row(4, _progress()),
            Row(4, _health()),
            Row(8, [_running()]),
            Row(8, [_best(), _trials_by_state(), _gpus()], "Search"),
            Row(8, [_output_rate(), _phases(), _suggestions()]),
            Row(
                8,
                [
                    latencies("TTFT", "Time to first token", "time_to_first_token", "ttft", 12),
                    latencies("TPOT", "Time per output token", "time_per_output_token", "tpot", 12),
                ],
                "Requests",
            ),
            Row(8, [_requests(), _attainment(), _generator_lag()]),
            Row(8, [_failures(), _flags(), _predictions()], "What to doubt"),
        ],
    )


def _progress() -> list[Panel]:
    study = stat(
        "Study", "Name of the study, and the model it serves.", 6, metric("study_info"), "short"
    )
    named = Query(metric("study_info"), "{{name}} · {{model}}")
    return [
        replace(study, queries=(named,), show_name=True),
        stat(
            "Trials ended",
            "Attempts that ended since the driver started, whatever their state.",
            3,
            total(metric("trials_total")),
        ),
        stat(
            "Planned",
            "Trials the budget or the space allows in all.",
            3,
            total(metric("trials_planned")),
        ),
        stat("Running", "Trials that hold devices now.", 3, total(metric("trials_running"))),
        stat("Queued", "Trials that wait for devices now.", 3, total(metric("trials_queued"))),
        stat(
            "Pareto front",
            "Completed trials that no other one beats in every objective.",
            3,
            total(metric("pareto_trials")),
        ),
        stat(
            "Failures",
            "Attempts that ended with a failure since the driver started.",
            3,
            total(metric("trial_failures_total")),
            alarm_from=1,
        ),
    ]


def _health() -> list[Panel]:
    gpus = total(metric("gpus"))
    seconds = metric("gpu_seconds_total")
    used = share_of(total(metric("gpu_seconds_total", 'state="busy"')), total(seconds))
    met = share_of(
        total(metric("request_slo_met_total")), total(metric("request_slo_evaluated_total"))
    )
    return [
        stat(
            "Since last progress",
            "Time since a stage or a trial ended; the alert ServetuneStudyStalled watches it.",
            4,
            f"time() - max({metric('last_progress_timestamp_seconds')})",
            "s",
            alarm_from=3600,
        ),
        stat(
            "GPUs busy",
            "Share of the study's GPUs that hold a trial now.",
            4,
            share_of(total(metric("gpus", 'state="busy"')), gpus),
            "percentunit",
        ),
        stat(
            "GPU time used",
            "Busy GPU-seconds over all GPU-seconds since the driver started.",
            4,
            used,
            "percentunit",
        ),
        stat(
            "SLO met",
            "Requests within a limit of the SLO over requests judged by one, since the driver "
            "started.",
            4,
            met,
            "percentunit",
        ),
        stat(
            "Trials flagged",
            "Flags given to trials since the driver started: what makes a result doubtful.",
            4,
            total(metric("trials_flagged_total")),
            alarm_from=1,
        ),
        stat(
            "Scrapes failed",
            "Reads of engines' metrics that brought nothing, in measured stages, since the driver "
            "started.",
            4,
            total(metric("scrape_errors_total")),
            alarm_from=1,
        ),
    ]


def _running() -> Panel:
    def of(name: str) -> str:
        return total(metric(name), "trial")

    return Panel(
        "table",
        "Trials that run now",
        "One row a trial that holds devices; what has ended is in the record.",
        "short",
        24,
        (
            Query(of("trial_gpus"), "GPUs"),
            Query(of("trial_progress_ratio"), "Progress of the stage", "percentunit"),
            Query(of("trial_requests_in_flight"), "In flight"),
            Query(
                of("trial_output_tokens_per_second_per_gpu"),
                "Output per second and GPU",
                "suffix: tok/s",
            ),
            Query(of("trial_time_to_first_token_seconds"), "TTFT, mean", "s"),
            Query(of("trial_time_per_output_token_seconds"), "TPOT, mean", "s"),
            Query(of("engine_kv_cache_usage_ratio"), "KV cache", "percentunit"),
            Query(of("engine_requests_waiting"), "Waiting"),
        ),
        key="trial",
    )


def _best() -> Panel:
    return lines(
        "Best objective so far",
        "Objectives of the best trial so far, each in its own unit.",
        "short",
        8,
        Query(metric("best_objective_value"), "{{objective}}"),
    )


def _trials_by_state() -> Panel:
    return lines(
        "Trials by state",
        "Attempts that ended since the driver started, by state.",
        "short",
        8,
        Query(total(metric("trials_total"), "state"), "{{state}}"),
        stacked=True,
    )


def _gpus() -> Panel:
    return lines(
        "GPUs busy and idle",
        "GPUs the study holds, with a trial on them and without.",
        "short",
        8,
        Query(total(metric("gpus"), "state"), "{{state}}"),
        stacked=True,
    )


def _output_rate() -> Panel:
    return lines(
        "Output tokens per second and GPU, running trials",
        "Live figures of trials that run now; a series ends with its trial.",
        "suffix: tok/s",
        8,
        Query(metric("trial_output_tokens_per_second_per_gpu"), "trial {{trial}}"),
    )


def _phases() -> Panel:
    return bars(
        "Mean time of a trial's phases",
        "Where the time of attempts that ended since the driver started went: starting, warming, "
        "measuring, stopping.",
        "s",
        8,
        Query(mean_of("trial_duration_seconds", "phase"), "{{phase}}"),
    )


def _suggestions() -> Panel:
    return lines(
        "Time for one proposal",
        "How long the sampler took for half and for 99 % of its proposals since the driver "
        "started; GPUs may wait for it.",
        "s",
        8,
        *(
            Query(
                quantile_so_far(share, "suggest_duration_seconds", "sampler"),
                f"p{share * 100:g} {{{{sampler}}}}",
            )
            for share in (0.5, 0.99)
        ),
    )


def _requests() -> Panel:
    return lines(
        "Measured requests",
        "Requests by outcome, counted as stages end.",
        "reqps",
        8,
        Query(total(rate(metric("requests_total")), "outcome"), "{{outcome}}"),
    )


def _attainment() -> Panel:
    met = total(metric("request_slo_met_total"), "slo")
    evaluated = total(metric("request_slo_evaluated_total"), "slo")
    return bars(
        "Requests within each limit of the SLO",
        "Requests that met the limit over those it judged, since the driver started; exact, as "
        "each request is judged by itself.",
        "percentunit",
        8,
        Query(share_of(met, evaluated), "{{slo}}"),
    )


def _generator_lag() -> Panel:
    return lines(
        "Lag of the load generator",
        "The longest that one of its timers ran late in each second. Where that nears the "
        "latencies measured, the client and not the engine was the limit.",
        "s",
        8,
        Query(quantile(0.5, "load_generator_lag_seconds"), "p50"),
        Query(quantile(0.99, "load_generator_lag_seconds"), "p99"),
    )


def _failures() -> Panel:
    return bars(
        "Failures by kind",
        "Attempts that failed since the driver started; kinds that did not occur are left out.",
        "short",
        8,
        Query(f"{total(metric('trial_failures_total'), 'kind')} > 0", "{{kind}}"),
    )


def _flags() -> Panel:
    return bars(
        "Flags of trials",
        "Trials given a flag since the driver started; flags that did not occur are left out.",
        "short",
        8,
        Query(f"{total(metric('trials_flagged_total'), 'flag')} > 0", "{{flag}}"),
    )


def _predictions() -> Panel:
    return bars(
        "Error of the predictions, mean",
        "How far predicted figures were from the measured ones since the driver started, as a "
        "share of the measured.",
        "percentunit",
        8,
        Query(mean_of("prediction_error_ratio", "figure"), "{{figure}}"),
    )
