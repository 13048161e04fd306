"""A real Prometheus watches a study of eight trials at once from its first second to its last."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
import pytest

from runtimes.json_types import Json
from search.trial import TrialState
from tests.e2e import studies
from tests.tracking.dashboard_panels import PanelQuery, queries
from tests.tracking.metric_samples import exposed
from tests.tracking.prometheus_server import Prometheus, Series, prometheus
from tracking.grafana.alerts import alerts
from tracking.grafana.write import write_grafana
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials

_AT_ONCE = 8
_GROWS = re.compile(r"servetune_\w+_(total|bucket|sum|count)$")
_DRIVER = '{job="servetune",__name__=~"servetune_.+"}'
_ELSEWHERE = {
    "ray_": "Ray; its agent's source has the names, promtool computes two of the expressions",
    "sglang:": "a real SGLang; tests/golden/sglang_metrics.txt has what one said",
}
"""Whose metrics a study on simulated engines without Ray cannot have, by what they begin with."""


@dataclass(frozen=True)
class Watched:
    """A study that ended, and the Prometheus that saw it."""

    server: Prometheus
    layout: RunLayout
    start_s: float
    end_s: float

    def samples(self, selector: str) -> list[Series]:
        return self.server.samples(selector, self.start_s, self.end_s)

    def now(self, expr: str) -> list[dict[str, str]]:
        """Labels of the series that `expr` gives at this moment."""
        return [one["metric"] for one in self.server.get("query", query=expr)["result"]]

    def last(self, selector: str) -> dict[str, float]:
        """Last scraped value of each driver's series, by its name and own labels."""
        return {_own_name(one): one.samples[-1][1] for one in self.samples(selector)}


def _own_name(series: Series) -> str:
    """The series as the driver writes it, without what service discovery added."""
    labels = dict(series.labels)
    name = labels.pop("__name__")
    inside = [f'{key}="{value}"' for key, value in sorted(labels.items()) if key not in _ADDED]
    return f"{name}{{{','.join(inside)}}}" if inside else name


_ADDED = {"instance", "job", "run", "study"}


def _experiment(port: int) -> dict[str, Json]:
    """Twelve trials, half of which crash; half of each are flagged, their accuracy unverified."""
    return studies.experiment(
        model="meta-llama/Llama-3.1-8B",
        engines={
            "simulated": {
                "imitates": "vllm",
                "startup_s": 0.1,
                "env": {studies.FAULT: ["none", "crash"]},
                "search": {"max-num-seqs": [4, 8, 16]},
            }
        },
        quantization={"presets": ["default", "dynamic-fp8"]},
        workload={
            "input_tokens": 64,
            "output_tokens": 32,
            "load": {"kind": "concurrency", "value": 4, "requests": 240},
            "warmup_requests": 2,
        },
        slo={f"{name}_ms": {"p99": 5000} for name in ("ttft", "tpot", "itl", "e2e")},
        budget={"trials": 12},
        cluster={"kind": "local", "simulated_gpus": _AT_ONCE, "accelerator": "H100"},
        metrics={"port": port},
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    port = _free_port()
    write_grafana(folder, [f"127.0.0.1:{port}"], scrape_interval_s=1)
    with prometheus(folder / "prometheus.yml", folder) as server:
        start_s = time.time()
        experiment = studies.write(folder, _experiment(port))
        done = studies.servetune("run", experiment, "--results", folder / "runs")
        assert done.returncode == 0, done.stderr
        run = studies.only_run(folder / "runs")
        yield Watched(server, RunLayout(run), start_s, time.time())


def _needs(query: PanelQuery) -> str | None:
    """What else `query` needs to have data."""
    return next((why for prefix, why in _ELSEWHERE.items() if prefix in query.expr), None)


def test_every_query_of_every_dashboard_has_data(watched: Watched) -> None:
    lacking = []
    for query in queries():
        found = watched.server.over_time(query.substituted("5s"), watched.start_s, watched.end_s)
        if _needs(query):
            assert not found, f"{query}: has data after all"
        elif not found:
            lacking.append(f"{query}: no point of {query.expr}")
        for label in re.findall(r"{{(\w+)}}", query.legend):
            if any(label not in series.labels for series in found):
                lacking.append(f"{query}: its legend names {label!r}, which its series lack")
    assert not lacking, "\n".join(lacking)


def test_few_queries_need_something_else() -> None:
    elsewhere = [query for query in queries() if _needs(query)]
    assert len(elsewhere) == 7
    assert len(queries()) > 80


def test_eight_trials_ran_at_once_and_engines_were_scraped(watched: Watched) -> None:
    (running,) = watched.samples("servetune_trials_running")
    assert max(value for _, value in running.samples) == _AT_ONCE
    engines = watched.samples('up{job="servetune-engine"}')
    completed = {row.number for row in read_trials(watched.layout) if row.objectives}
    assert completed
    assert completed <= {int(series.labels["trial"]) for series in engines}
    assert {series.labels["run"] for series in engines} == {watched.layout.root.name}


def test_no_counter_ever_fell(watched: Watched) -> None:
    counters = [
        series for series in watched.samples(_DRIVER) if _GROWS.match(series.labels["__name__"])
    ]
    assert len(counters) > 100
    for series in counters:
        for (_, before), (_, after) in pairwise(series.samples):
            assert before <= after, series.labels


def test_the_last_scrape_holds_the_last_figures(watched: Watched) -> None:
    scraped = {
        name: value
        for name, value in watched.last(_DRIVER).items()
        if _GROWS.match(name.partition("{")[0])
    }
    written = {
        _sorted_labels(name): value
        for name, value in exposed(watched.layout.final_metrics.read_text()).items()
        if _GROWS.match(name.partition("{")[0])
    }
    assert scraped == written


def _sorted_labels(series: str) -> str:
    name, _, inside = series.rstrip("}").partition("{")
    labels = sorted(re.findall(r'\w+="[^"]*"', inside))
    return f"{name}{{{','.join(labels)}}}" if labels else name


def test_the_last_figures_are_those_of_the_record(watched: Watched) -> None:
    rows = read_trials(watched.layout)
    states = Counter(row.state for row in rows)
    assert states[TrialState.FAILED] and states[TrialState.COMPLETED]
    last = watched.last(_DRIVER)

    def by(metric: str, label: str) -> dict[str, float]:
        pattern = re.compile(rf'servetune_{metric}{{{label}="(.+)"}}')
        found = {match[1]: value for name, value in last.items() if (match := pattern.match(name))}
        return {name: value for name, value in found.items() if value}

    assert by("trials_total", "state") == {state.value: count for state, count in states.items()}
    assert by("trial_failures_total", "kind") == Counter(
        row.failure.kind.value for row in rows if row.failure is not None
    )
    assert by("trials_flagged_total", "flag") == Counter(flag for row in rows for flag in row.flags)
    assert by("gpu_seconds_total", "state")["busy"] == pytest.approx(
        sum(row.gpu_seconds for row in rows), rel=1e-3
    )
    spent_s = by("trial_duration_seconds_sum", "phase")
    for phase, durations in (
        ("starting", [row.startup_s for row in rows]),
        ("warming", [row.warmup_s for row in rows]),
        ("measuring", [row.measure_s for row in rows]),
        ("stopping", [row.stop_s for row in rows]),
    ):
        assert spent_s[phase] == pytest.approx(sum(one for one in durations if one is not None))
    requests = pd.read_parquet(watched.layout.requests_dir)
    failed = int(requests["error"].notna().sum())
    counted = by("requests_total", "outcome")
    assert counted.get("error", 0) == failed
    assert counted["ok"] == len(requests) - failed


def test_every_alert_rule_is_evaluated(watched: Watched) -> None:
    (group,) = watched.server.get("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {alert.name for alert in alerts()}
    for rule in group["rules"]:
        assert rule["health"] == "ok", rule.get("lastError")


def test_after_a_study_no_engine_is_scraped_any_more(watched: Watched) -> None:
    def scraped() -> list[str]:
        active = watched.server.get("targets", state="active")["activeTargets"]
        return [one["scrapeUrl"] for one in active if one["labels"]["job"] == "servetune-engine"]

    studies.wait_for(lambda: not scraped(), "a list of targets without engines", 30)
    silent = next(alert for alert in alerts() if alert.name == "ServetuneEngineSilent")
    assert not watched.now(silent.expr)


def test_the_end_of_a_study_is_no_lost_driver(watched: Watched) -> None:
    lost = next(alert for alert in alerts() if alert.name == "ServetuneDriverLost")
    studies.wait_for(lambda: watched.now('up{job="servetune"} == 0'), "a scrape of no driver", 30)
    assert not watched.now(lost.expr)
