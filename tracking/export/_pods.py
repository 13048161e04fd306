"""Parts of Kubernetes pods that several targets write."""

from __future__ import annotations

import re

from runtimes.json_types import Json
from tracking.export._containers import (
    CACHE,
    TOKEN,
    container_env,
    container_secrets,
    probe,
    start_limit_s,
)
from tracking.export._deployment import HEALTH_PATH, Deployment
from tracking.export._resources import WITHOUT_GPUS, HostNeeds, host_needs
from tracking.export.base import Settings

_PRODUCT = "nvidia.com/gpu.product"
"""Label of NVIDIA's GPU feature discovery: the driver's name of the GPU, dashes for spaces."""


def literal(text: str) -> str:
    """`text` past Kubernetes, which replaces `$(NAME)` in commands and variables."""
    return text.replace("$", "$$")


def secret_name(settings: Settings) -> str:
    """The Secret that holds every secret of the deployment, each under its variable's name."""
    return f"{settings.name}-secrets"


def environment(deployment: Deployment, settings: Settings) -> list[Json]:
    """Variables of the container; the Hub's token may be absent from the Secret."""
    made: list[Json] = [
        {"name": name, "value": literal(value)} for name, value in container_env(deployment).items()
    ]
    for name in container_secrets(deployment):
        reference: dict[str, Json] = {"name": secret_name(settings), "key": name}
        if name == TOKEN and name not in deployment.secrets:
            reference["optional"] = True
        made.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return made


def secret_notes(deployment: Deployment, settings: Settings) -> tuple[str, ...]:
    """How the Secret is made."""
    names = container_secrets(deployment)
    if not names:
        return ()
    literals = " ".join(f'--from-literal={name}="${name}"' for name in names)
    needed = "Needs" if deployment.secrets else "For gated models:"
    where = f" --namespace={settings.namespace}" if settings.namespace else ""
    return (f"{needed} kubectl create secret generic {secret_name(settings)}{where} {literals}",)


def resources(deployment: Deployment) -> dict[str, Json]:
    """What the container of one node's share of a server is given.

    GPUs are limit and request, which Kubernetes wants to be equal; CPUs and memory are requests
    alone, since they are an estimate and a limit would throttle or kill the server.
    """
    gpus = deployment.gpus_per_node
    count: dict[str, Json] = {"nvidia.com/gpu": str(gpus)}
    return {"limits": count, "requests": {**_requests(host_needs(deployment, gpus)), **count}}


def resources_without_gpus() -> dict[str, Json]:
    """What a pod beside the servers asks for."""
    return {"requests": _requests(WITHOUT_GPUS)}


def shm_size(deployment: Deployment) -> str:
    """How much of /dev/shm a pod may fill."""
    return f"{host_needs(deployment, deployment.gpus_per_node).shm_gib}Gi"


def shm_volume(deployment: Deployment) -> dict[str, Json]:
    """The volume behind /dev/shm."""
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm_size(deployment)}}


def _requests(needs: HostNeeds) -> dict[str, Json]:
    return {"cpu": str(needs.cpus), "memory": f"{needs.memory_gib}Gi"}


def probes(deployment: Deployment) -> dict[str, Json]:
    """Probes on the engine's health path; the start is given a multiple of what was measured."""
    limit_s = start_limit_s(deployment)
    return {
        "startupProbe": probe(HEALTH_PATH, period_s=10, limit_s=limit_s),
        "readinessProbe": probe(HEALTH_PATH, period_s=5, limit_s=15),
        "livenessProbe": probe(HEALTH_PATH, period_s=10, limit_s=60),
    }


def volumes(deployment: Deployment) -> tuple[list[Json], list[Json]]:
    """Volumes of the pod and mounts of the container: shared memory, the Hub's cache, the model."""
    made: list[Json] = [shm_volume(deployment)]
    mounts: list[Json] = [{"name": "shm", "mountPath": "/dev/shm"}]
    if deployment.local_model:
        folder = deployment.model
        made.append({"name": "model", "hostPath": {"path": folder, "type": "Directory"}})
        mounts.append({"name": "model", "mountPath": folder, "readOnly": True})
    else:
        made.append({"name": "cache", "emptyDir": {}})
        mounts.append({"name": "cache", "mountPath": CACHE})
    return made, mounts


def volume_notes(deployment: Deployment) -> tuple[str, ...]:
    """What to do about where the model comes from."""
    if deployment.local_model:
        return (
            f"The folder {deployment.model} has to be on the node; put a persistentVolumeClaim in "
            "place of hostPath where it is not.",
        )
    return (
        "Every new pod loads the model from the Hub; put a persistentVolumeClaim in place of the "
        "emptyDir `cache` to keep it.",
    )


def node_selector(deployment: Deployment) -> dict[str, Json]:
    """Nodes with the GPU that was measured; empty when only a name of the user's is known."""
    if not deployment.gpu_model.startswith("NVIDIA "):
        return {}
    return {_PRODUCT: re.sub(r"[^A-Za-z0-9._-]+", "-", deployment.gpu_model).strip("-._")[:63]}


def selector_notes(deployment: Deployment) -> tuple[str, ...]:
    if node_selector(deployment) or not deployment.gpu_model:
        return ()
    return (
        f"Measured on {deployment.gpu_model}: choose its nodes by a nodeSelector, as {_PRODUCT}, "
        "if others have other GPUs.",
    )


def metadata(settings: Settings) -> dict[str, Json]:
    """Name and, where one was asked for, namespace."""
    space: dict[str, Json] = {"namespace": settings.namespace} if settings.namespace else {}
    return {"name": settings.name, **space, "labels": {"app.kubernetes.io/name": settings.name}}
