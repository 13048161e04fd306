"""Which targets a study names to Prometheus, and when its file is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.messages import Phase
from orchestrator.observer import Status
from orchestrator.scheduler import Waiting
from orchestrator.service_discovery import ServiceDiscovery
from runtimes.json_types import Json
from runtimes.plan import Allocation
from search.trial import Params
from tests.tracking.run_samples import trial_record

_STATUS = Status(0.0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, {}, None)


class _Cluster:
    def __init__(self) -> None:
        self.targets: tuple[str, ...] = ()
        self.asked = 0

    def __call__(self) -> tuple[str, ...]:
        self.asked += 1
        return self.targets


@pytest.fixture
def cluster() -> _Cluster:
    return _Cluster()


@pytest.fixture
def discovery(tmp_path: Path, cluster: _Cluster) -> ServiceDiscovery:
    path = tmp_path / "targets.json"
    made = ServiceDiscovery(path, run="r-1", study="s", cluster_targets=cluster, node="here")
    made.driver_at("http://127.0.0.1:9100/metrics")
    return made


def _launch(discovery: ServiceDiscovery, number: int, node: str = "here") -> None:
    trial = Waiting(number, Params("vllm"), 1)
    discovery.launched(trial, Allocation("bundle", node, ("0",)))


def _groups(discovery: ServiceDiscovery) -> list[dict[str, Json]]:
    groups: list[dict[str, Json]] = json.loads(discovery.text())
    return groups


def test_the_driver_is_a_target_from_the_start(discovery: ServiceDiscovery) -> None:
    assert _groups(discovery) == [
        {
            "targets": ["127.0.0.1:9100"],
            "labels": {"job": "servetune", "run": "r-1", "study": "s"},
        }
    ]


def test_an_engine_is_a_target_from_ready_until_it_stops(discovery: ServiceDiscovery) -> None:
    _launch(discovery, 3)
    assert len(_groups(discovery)) == 1
    discovery.serving(3, 0, ("http://127.0.0.1:8001/metrics", "http://127.0.0.1:8002/metrics"))
    _, first, second = _groups(discovery)
    assert first["targets"] == ["127.0.0.1:8001"]
    assert second["targets"] == ["127.0.0.1:8002"]
    assert first["labels"] == {
        "job": "servetune-engine",
        "engine": "vllm",
        "trial": "3",
        "run": "r-1",
        "study": "s",
    }
    discovery.phase(3, 0, Phase.STOPPING, 1.0)
    assert len(_groups(discovery)) == 1
    discovery.finished(trial_record(3), retry=False)
    discovery.serving(3, 0, ("http://127.0.0.1:8001/metrics",))  # told too late
    assert len(_groups(discovery)) == 1


def test_what_differs_from_prometheus_defaults_is_said(discovery: ServiceDiscovery) -> None:
    _launch(discovery, 0)
    discovery.serving(0, 0, ("https://gpu-7.example:8443/llm/metrics",))
    labels = _groups(discovery)[1]["labels"]
    assert isinstance(labels, dict)
    assert labels["__scheme__"] == "https"
    assert labels["__metrics_path__"] == "/llm/metrics"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8001/metrics", "http://localhost:8001/metrics", "http://[::1]:80/metrics"],
)
def test_the_loopback_of_another_node_is_left_out(discovery: ServiceDiscovery, url: str) -> None:
    _launch(discovery, 0, node="there")
    discovery.serving(0, 0, (url, "http://10.0.0.7:8001/metrics"))
    assert [group["targets"] for group in _groups(discovery)[1:]] == [["10.0.0.7:8001"]]


def test_a_driver_on_every_address_is_named_by_its_host(
    tmp_path: Path, discovery: ServiceDiscovery
) -> None:
    discovery.driver_at("http://0.0.0.0:9100/metrics")
    (group,) = _groups(discovery)
    assert isinstance(group["targets"], list)
    (target,) = group["targets"]
    assert str(target).endswith(":9100")
    assert "0.0.0.0" not in str(target)


def test_the_clusters_own_targets_are_asked_for_now_and_then(
    discovery: ServiceDiscovery, cluster: _Cluster
) -> None:
    cluster.targets = ("10.0.0.1:8080", "10.0.0.2:8080")
    for _ in range(5):
        discovery.status(_STATUS)
    assert cluster.asked == 1
    group = _groups(discovery)[1]
    assert group["targets"] == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert group["labels"] == {"job": "ray", "run": "r-1", "study": "s"}


def test_the_file_is_replaced_when_something_changed_but_not_at_once(
    discovery: ServiceDiscovery, tmp_path: Path
) -> None:
    path = tmp_path / "targets.json"
    discovery.status(_STATUS)
    written = path.read_text()
    assert json.loads(written) == _groups(discovery)
    _launch(discovery, 0)
    discovery.serving(0, 0, ("http://127.0.0.1:8001/metrics",))
    discovery.status(_STATUS)
    assert path.read_text() == written  # within the second
    discovery.close()
    assert json.loads(path.read_text()) == []


def test_it_names_no_more_than_what_runs(discovery: ServiceDiscovery) -> None:
    for number in range(300):
        _launch(discovery, number)
        discovery.serving(number, 0, ("http://127.0.0.1:8001/metrics",))
        assert len(_groups(discovery)) == 2
        discovery.finished(trial_record(number), retry=False)
    assert len(_groups(discovery)) == 1
