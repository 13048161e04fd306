"""kubernetes: a Deployment and a Service, with probes and resources."""

from __future__ import annotations

from typing import ClassVar

from runtimes.json_types import Json
from tracking.export import _pods
from tracking.export._containers import container_argv, one_node
from tracking.export._deployment import Deployment
from tracking.export._images import image_of
from tracking.export._resources import resource_notes
from tracking.export._yaml import documents
from tracking.export.base import TARGETS, Settings, Target


@TARGETS.register("kubernetes")
class Kubernetes(Target):
    """A pod a server, behind one address of the cluster."""

    name: ClassVar[str] = "kubernetes"
    filename: ClassVar[str] = "kubernetes.yaml"
    use: ClassVar[str] = "kubectl apply -f {file}"
    options: ClassVar[frozenset[str]] = frozenset({"port", "replicas", "namespace", "image"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        one_node(deployment, "--to kuberay (vLLM), --to dynamo or --to slurm")
        image, notes = image_of(deployment, settings.image)
        notes = (
            *notes,
            *_pods.secret_notes(deployment, settings),
            *_pods.volume_notes(deployment),
            *_pods.selector_notes(deployment),
            *resource_notes(deployment),
        )
        tops = [_deployment(deployment, settings, image), _service(settings)]
        return documents(deployment, tops, notes)


def _deployment(deployment: Deployment, settings: Settings, image: str) -> dict[str, Json]:
    labels: dict[str, Json] = {"app.kubernetes.io/name": settings.name}
    selector = _pods.node_selector(deployment)
    pod: dict[str, Json] = {
        # A service called `vllm` would set VLLM_PORT, which vLLM reads.
        "enableServiceLinks": False,
        # An engine has nothing to ask of the cluster, and may run a model's code.
        "automountServiceAccountToken": False,
        **({"nodeSelector": selector} if selector else {}),
        "containers": [_container(deployment, settings, image)],
        "volumes": _pods.volumes(deployment)[0],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _pods.metadata(settings),
        "spec": {
            "replicas": settings.replicas * deployment.servers,
            "selector": {"matchLabels": labels},
            # A node's GPUs are taken until the old pod is gone.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
            # Loading a model takes longer than the ten minutes after which a rollout has failed.
            "progressDeadlineSeconds": 86400,
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def _container(deployment: Deployment, settings: Settings, image: str) -> dict[str, Json]:
    program, *arguments = container_argv(deployment, settings.port)
    return {
        "name": "engine",
        "image": image,
        "command": [_pods.literal(program)],
        "args": [_pods.literal(argument) for argument in arguments],
        "ports": [{"name": "http", "containerPort": settings.port}],
        "env": _pods.environment(deployment, settings),
        "resources": _pods.resources(deployment),
        **_pods.probes(deployment),
        "volumeMounts": _pods.volumes(deployment)[1],
    }


def _service(settings: Settings) -> dict[str, Json]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _pods.metadata(settings),
        "spec": {
            "selector": {"app.kubernetes.io/name": settings.name},
            "ports": [{"name": "http", "port": settings.port, "targetPort": "http"}],
        },
    }
