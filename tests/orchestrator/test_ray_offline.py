"""A Ray that is started for an offline study tells nobody of its use."""

from __future__ import annotations

import os
import queue
from dataclasses import replace

import pytest

from orchestrator.cluster.base import create_cluster
from orchestrator.messages import ClusterEvent
from orchestrator.spec import Experiment
from orchestrator.wiring import wire
from tests.e2e import studies

RAY = {"kind": "ray", "address": "local", "simulated_gpus": 1, "accelerator": "H100"}


def test_the_cluster_is_told() -> None:
    for offline in (True, False):
        study = wire(Experiment.from_dict(studies.experiment(cluster=RAY, offline=offline)))
        assert study.cluster_settings().offline is offline


@pytest.mark.ray
def test_nothing_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    settings = wire(Experiment.from_dict(studies.experiment(cluster=RAY))).cluster_settings()
    events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
    with studies.ray_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        cluster = create_cluster(replace(settings, offline=True), events.put)
        try:
            cluster.start()
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        finally:
            cluster.close()
