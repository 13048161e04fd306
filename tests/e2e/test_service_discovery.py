"""A real Prometheus finds the driver and every engine of a running study, over HTTP and by file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import yaml

from orchestrator.service_discovery import ServiceDiscovery
from tests.e2e import studies
from tests.tracking.metric_samples import counts, exporter_of
from tests.tracking.prometheus_server import Prometheus, prometheus
from tracking.layout import RunLayout

_OURS = {"run", "study", "engine", "trial"}


def _config(folder: Path, sd_url: str, targets: Path) -> Path:
    def job(name: str, discovery: dict[str, object]) -> dict[str, object]:
        seen = [{"target_label": "found_by", "replacement": name}]
        return {"job_name": name, **discovery, "relabel_configs": seen}

    path = folder / "prometheus.yml"
    jobs = [
        job("http", {"http_sd_configs": [{"url": sd_url, "refresh_interval": "1s"}]}),
        job("file", {"file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}),
    ]
    path.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    return path


def _series(server: Prometheus, expr: str) -> list[dict[str, str]]:
    """Labels of the series that `expr` gives now."""
    return [series["metric"] for series in server.get("query", query=expr)["result"]]


def _kept_busy(folder: Path) -> Path:
    """A study whose trials measure until they are interrupted."""
    load = {"kind": "concurrency", "value": 4, "requests": 20_000}
    workload = {"input_tokens": 32, "output_tokens": 64, "load": load}
    return studies.write(folder, studies.experiment(workload=workload))


def test_prometheus_finds_the_driver_and_the_engines(tmp_path: Path) -> None:
    experiment, results = _kept_busy(tmp_path), tmp_path / "runs"
    with studies.started("run", experiment, "--results", results) as study:
        studies.wait_for(lambda: list(results.glob("*/live/status.json")), "the study runs")
        layout = RunLayout(studies.only_run(results))
        metrics_url = json.loads(layout.live_status.read_text())["metrics"]
        sd_url = metrics_url.replace("/metrics", "/sd")
        config = _config(tmp_path, sd_url, layout.live_targets)
        with prometheus(config, tmp_path) as server:
            for found_by in ("http", "file"):
                chosen = f'found_by="{found_by}"'
                engines = f'up{{job="servetune-engine",{chosen}}} == 1'
                driver = f'servetune_study_info{{job="servetune",{chosen}}}'
                counters = f'{{job="servetune-engine",{chosen},__name__=~".+generation_tokens.*"}}'
                studies.wait_for(
                    lambda e=engines, d=driver, c=counters: (  # type: ignore[misc]  # bound early
                        len(_series(server, e)) == 2 and _series(server, d) and _series(server, c)
                    ),
                    f"targets are found by {found_by}",
                )
                found = _series(server, engines)
                assert {one["trial"] for one in found} == {"0", "1"}
                assert {one["engine"] for one in found} == {"simulated"}
                assert {one["run"] for one in found} == {layout.run}
                assert all(one.keys() >= _OURS for one in _series(server, counters))
            studies.interrupt(study)
            study.wait(timeout=60)
    assert json.loads(layout.live_targets.read_text()) == []


def _exemplars(server: Prometheus) -> list[dict[str, str]]:
    now = time.time()
    query = "servetune_request_time_to_first_token_seconds_bucket"
    found = server.get("query_exemplars", query=query, start=now - 60, end=now + 60)
    return [one["labels"] for series in found for one in series["exemplars"]]


def test_prometheus_keeps_the_trial_of_a_slow_request(tmp_path: Path) -> None:
    exporter = exporter_of("vllm")
    discovery = ServiceDiscovery(tmp_path / "targets.json", run="r", study="s")
    url = exporter.serve("127.0.0.1", 0, targets=discovery.text)
    discovery.driver_at(url)
    exporter.requests(12, "vllm", counts())
    config = _config(tmp_path, url.replace("/metrics", "/sd"), tmp_path / "targets.json")
    try:
        with prometheus(config, tmp_path) as server:
            studies.wait_for(lambda: _exemplars(server), "an exemplar is kept")
            assert _exemplars(server)[0] == {"trial": "12"}
    finally:
        exporter.close()
