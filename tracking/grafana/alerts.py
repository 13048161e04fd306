"""Alert rules: what somebody should hear of while a study runs unwatched, and what to do then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runtimes.json_types import Json

_STUDY = "run, instance"
_RECENT = "30m"
_ALIVE = f'and on ({_STUDY}) up{{job="servetune"}} == 1'
"""Limits what looks back in time to studies whose driver answers now."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule.

    Attributes:
        expr: fires while it gives series; each keeps the labels `run` and `instance`.
        hold: how long it must hold first.
        severity: `critical` where the study achieves nothing any more, `warning` where it goes on.
        summary: one line; Prometheus fills in `{{ $labels.… }}` and `{{ $value }}`.
        remedy: what to do.
    """

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    remedy: str


def alerts() -> list[Alert]:
    """Every rule; the expressions need the labels that service discovery gives."""
    return [*_progress(), *_results(), *_devices()]


def rules_file() -> Json:
    """The rules as Prometheus reads them."""
    rules: list[Json] = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": alert.hold,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "description": alert.remedy},
        }
        for alert in alerts()
    ]
    return {"groups": [{"name": "servetune", "rules": rules}]}


def _sum(series: str, *more: str) -> str:
    return f"sum by ({', '.join((_STUDY, *more))}) ({series})"


def _recently(counter: str, *more: str) -> str:
    return _sum(f"increase(servetune_{counter}[{_RECENT}])", *more)


def _progress() -> Iterator[Alert]:
    active = "servetune_trials_running + servetune_trials_queued > 0"
    yield Alert(
        "ServetuneStudyStalled",
        f"time() - servetune_last_progress_timestamp_seconds > 3600 and on ({_STUDY}) {active}",
        "1m",
        "critical",
        "{{ $labels.run }}: no stage and no trial has ended for {{ $value | humanizeDuration }}",
        "`servetune status RUN` shows what each trial waits for; the log of a starting engine is "
        "in the run's logs/. A model that takes so long to load is no fault: raise timeouts.start.",
    )
    yield Alert(
        "ServetuneDriverLost",
        'up{job="servetune"} == 0 and '
        # Where a study came to its end, the last value is 0.
        f"on ({_STUDY}) last_over_time(servetune_trials_running[12h]) > 0",
        "1m",
        "critical",
        "{{ $labels.run }}: its driver does not answer, and trials were running when it last did",
        "`servetune status RUN` says whether a driver still works on it; if not, "
        "`servetune resume RUN` goes on without losing a finished trial. Where the study came to "
        "its end, its last figures were not scraped: set metrics.linger above the interval "
        "between scrapes.",
    )
    yield Alert(
        "ServetuneEngineSilent",
        # Prometheus goes on scraping an engine that stopped until it has read a new list.
        'up{job="servetune-engine"} == 0 and on (run, trial) servetune_engine_up == 1',
        "2m",
        "warning",
        "{{ $labels.run }}: the engine of trial {{ $labels.trial }} at {{ $labels.instance }} "
        "does not answer scrapes",
        "Where Prometheus cannot reach the node, open the port or drop the job servetune-engine. "
        "Otherwise the engine hangs: the trial ends by itself after timeouts.stall, and the end "
        "of its log is in `servetune report RUN`.",
    )


def _results() -> Iterator[Alert]:
    failed = _recently('trials_total{state="failed"}')
    ended = _recently("trials_total")
    yield Alert(
        "ServetuneTrialsFail",
        f"{failed} / {ended} > 0.5 and {failed} > 2.5 {_ALIVE}",
        "1m",
        "critical",
        "{{ $labels.run }}: {{ $value | humanizePercentage }} of the attempts of the last "
        f"{_RECENT} failed",
        "`servetune report RUN` lists failures by kind with the end of their logs and a remedy "
        "each; stop the study with Ctrl-C if all have one cause, mend it, and resume.",
    )
    limited = _recently('trials_flagged_total{flag="client_limited"}')
    yield Alert(
        "ServetuneClientLimited",
        f"{limited} > 0.5 {_ALIVE}",
        "1m",
        "warning",
        "{{ $labels.run }}: trials measured the load generator, not the engine",
        "Their results are not used. Give the node of the trial more processors or raise "
        "workload.load.processes, and see what else runs there.",
    )
    lag = "rate(servetune_load_generator_lag_seconds_bucket[5m])"
    yield Alert(
        "ServetuneLoadGeneratorLate",
        f"histogram_quantile(0.5, {_sum(lag, 'le')}) > 0.05 {_ALIVE}",
        "5m",
        "warning",
        "{{ $labels.run }}: in most seconds the load generator runs late by "
        "{{ $value | humanizeDuration }} or more",
        "Latencies of that order are the client's. Free processors on the node of the trial, or "
        "lower the load.",
    )
    yield Alert(
        "ServetuneMetricsUnread",
        f"{_recently('scrape_errors_total')} > 100 {_ALIVE}",
        "5m",
        "warning",
        "{{ $labels.run }}: engines' metrics could not be read {{ $value | humanize }} times "
        f"within {_RECENT}",
        "Results stay right, their explanation does not: KV cache use and queues are missing. "
        "See the engine's log in the run's logs/.",
    )


def _devices() -> Iterator[Alert]:
    idle = _sum('servetune_gpus{state="idle"}')
    held = _sum("servetune_gpus")
    waiting = f"{_sum('servetune_trials_queued')} > 0"
    yield Alert(
        "ServetuneGpusIdle",
        # While anything is left to run the scheduler has a proposal in the queue.
        f"{idle} / {held} > 0.5 and {waiting}",
        "15m",
        "warning",
        "{{ $labels.run }}: {{ $value | humanizePercentage }} of its GPUs have had no trial for "
        "15 minutes, although trials are queued",
        "The queued trials need more GPUs on one node than are free there. `servetune plan` shows "
        "how many GPUs the layouts can use at once; lower cluster.max_gpus to give the rest back.",
    )
    yield Alert(
        "ServetuneTrialsQueuedBesideIdleGpus",
        f"{idle} > 0 and {waiting}",
        "30m",
        "warning",
        "{{ $labels.run }}: {{ $value }} GPUs are idle although trials are queued",
        "A queued trial needs more GPUs on one node than are free there. Smaller layouts would "
        "fill the gap; see `servetune status RUN`.",
    )
    withheld = 'servetune_gpus{state=~"foreign|quarantined"}'
    yield Alert(
        "ServetuneGpusWithheld",
        f"{_sum(withheld, 'state')} > 0",
        "5m",
        "warning",
        "{{ $labels.run }}: {{ $value }} GPUs are {{ $labels.state }} and get no trial",
        "foreign: somebody else's process uses them; end it or lower cluster.max_gpus. "
        "quarantined: memory stayed in use after a trial; `nvidia-smi` on the node shows by whom.",
    )
