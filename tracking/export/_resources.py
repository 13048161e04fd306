"""What a server asks of its node besides GPUs: the rule that every target takes it from.

A starting point, which nobody measured: the record has no figures of a host's memory or CPUs.

    CPUs            2 × (2 + GPUs): an API server, an engine core and a worker per GPU have a
                    physical core each, of two hardware threads (vLLM's documentation, "CPU
                    Resources for GPU Deployments")
    memory          the node's share of the weights, which are read through the page cache, and
                    8 GiB per GPU for processes and pinned buffers
    shared memory   8 GiB per GPU at most, for what the workers tell each other
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tracking.export._deployment import Deployment

_GIB = 1 << 30
_THREADS_PER_CORE = 2
_SERVER_PROCESSES = 2
_HOST_GIB_PER_GPU = 8
_SHM_GIB_PER_GPU = 8


@dataclass(frozen=True, slots=True)
class HostNeeds:
    """What is asked of a node for one server, or for what stands beside it.

    Attributes:
        cpus: hardware threads.
        memory_gib: main memory. `shm_gib`: how much of /dev/shm may be filled.
    """

    cpus: int
    memory_gib: int
    shm_gib: int = 0


WITHOUT_GPUS = HostNeeds(cpus=2, memory_gib=8)
"""Of what stands beside the servers: the head of a Ray cluster, Dynamo's frontend."""


def host_needs(deployment: Deployment, gpus: int) -> HostNeeds:
    """What the deployment asks of a node where it has `gpus` GPUs."""
    weights_gib = math.ceil((deployment.weight_bytes or 0) / deployment.nodes / _GIB)
    return HostNeeds(
        cpus=_THREADS_PER_CORE * (_SERVER_PROCESSES + gpus),
        memory_gib=weights_gib + _HOST_GIB_PER_GPU * gpus,
        shm_gib=_SHM_GIB_PER_GPU * gpus,
    )


def resource_notes(deployment: Deployment) -> tuple[str, ...]:
    """Where the figures come from, and that they are to be adapted."""
    whose = "the weights" if deployment.nodes == 1 else "the node's share of the weights"
    weights = (
        f"{whose} ({deployment.weight_bytes / _GIB:,.0f} GiB)"
        if deployment.weight_bytes
        else "no weights, whose size is not known: add them"
    )
    return (
        "CPUs and memory are a starting point to adapt, by rule and not measured: 2 × (2 + GPUs) "
        f"CPUs; {_HOST_GIB_PER_GPU} GiB per GPU and {weights}.",
    )
