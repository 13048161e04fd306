"""An engine that is installed on some nodes only runs there: labels of a real Ray."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.ray_head import ray_head

pytestmark = pytest.mark.ray
LABELS = "engine=engine-toy,retired=false,ray.io/node-group=workers"
RESOURCES = json.dumps({"engine-vllm": 1})

# In a process of its own: Ray keeps the way of authentication that a process began with, and
# other tests begin with another.
_JOIN = """
import json, queue, sys
from orchestrator.cluster.base import ClusterSettings, create_cluster

events = queue.SimpleQueue()
cluster = create_cluster(ClusterSettings("ray", sys.argv[1], simulated_gpus=2), events.put)
try:
    cluster.start()
    print(json.dumps(sorted(events.get(timeout=90).bundle.labels)))
finally:
    cluster.close()
"""


def test_labels_and_resources_of_a_node_are_those_of_its_bundle() -> None:
    options = (f"--labels={LABELS}", f"--resources={RESOURCES}")
    with ray_head(gpus=2, options=options) as head:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _JOIN, head.address],
            env=head.env,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    labels = set(json.loads(done.stdout))
    assert labels >= {"engine", "engine-toy", "engine=engine-toy", "engine-vllm", "workers"}
    assert not labels & {"retired", "false", "CPU", "GPU", "memory", "node:127.0.0.1"}
    assert not any("node-id" in label or label.startswith("node:") for label in labels)
