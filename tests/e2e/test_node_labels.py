"""An engine that is installed on some nodes only runs there: labels of a real Ray."""

from __future__ import annotations

import json
import queue

import pytest

from orchestrator.cluster.base import ClusterSettings, create_cluster
from orchestrator.messages import ClusterEvent, FoundBundle
from tests.e2e.ray_head import ray_head

pytestmark = pytest.mark.ray
LABELS = "engine=engine-toy,retired=false,ray.io/node-group=workers"
RESOURCES = json.dumps({"engine-vllm": 1})


def test_labels_and_resources_of_a_node_are_those_of_its_bundle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = (f"--labels={LABELS}", f"--resources={RESOURCES}")
    with ray_head(gpus=2, options=options) as head:
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
        cluster = create_cluster(ClusterSettings("ray", head.address, simulated_gpus=2), events.put)
        try:
            cluster.start()
            found = events.get(timeout=90)
        finally:
            cluster.close()
    assert isinstance(found, FoundBundle)
    labels = found.bundle.labels
    assert labels >= {"engine", "engine-toy", "engine=engine-toy", "engine-vllm", "workers"}
    assert not labels & {"retired", "false", "CPU", "GPU", "memory", "node:127.0.0.1"}
    assert not any("node-id" in label or label.startswith("node:") for label in labels)
