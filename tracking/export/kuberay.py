"""kuberay: a RayService that serves the trial's model."""

from __future__ import annotations

from typing import ClassVar

from runtimes.json_types import Json
from tracking.export import _pods, _ray
from tracking.export._deployment import Deployment
from tracking.export._images import CHOOSE, require_nvidia
from tracking.export._resources import resource_notes
from tracking.export._yaml import Block, documents, plain
from tracking.export.base import TARGETS, Settings, Target

_IMAGE = "rayproject/ray-llm:2.50.1-py311-cu124"
_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000}
"""Ports of the head, by the names that KubeRay looks for: where any is named, it adds no other
(ray-operator/controllers/ray/common/service.go), and without `dashboard` it deploys nothing."""


@TARGETS.register("kuberay")
class KubeRay(Target):
    """A Ray cluster with as many GPU pods as the trial's nodes, and the application on it."""

    name: ClassVar[str] = "kuberay"
    filename: ClassVar[str] = "rayservice.yaml"
    use: ClassVar[str] = "kubectl apply -f {file}"
    options: ClassVar[frozenset[str]] = frozenset({"replicas", "namespace", "image"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        _ray.require_vllm(deployment)
        require_nvidia(deployment)
        notes = [
            _ray.NOTE,
            *_pods.secret_notes(deployment, settings),
            *_pods.volume_notes(deployment),
            *_pods.selector_notes(deployment),
            *resource_notes(deployment),
        ]
        if not settings.image:
            notes.append(
                f"{CHOOSE} the image (--image): Ray's images bring a vLLM of their own, and "
                f"{deployment.version or 'an unknown version'} was measured."
            )
        return documents(deployment, [_service(deployment, settings)], notes)


def _service(deployment: Deployment, settings: Settings) -> dict[str, Json]:
    image = settings.image or _IMAGE
    served: dict[str, Json] = {
        "applications": [_ray.application(deployment, settings.replicas)],
    }
    pods = settings.replicas * deployment.nodes
    head: dict[str, Json] = {
        "name": "ray-head",
        "image": image,
        "ports": [{"name": name, "containerPort": port} for name, port in _PORTS.items()],
        "env": _pods.environment(deployment, settings),
        "resources": _pods.resources_without_gpus(),
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": _pods.metadata(settings),
        "spec": {
            "serveConfigV2": Block(plain(served)),
            "rayClusterConfig": {
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
                    "template": {"spec": {"containers": [head]}},
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "gpu",
                        "replicas": pods,
                        "minReplicas": pods,
                        "maxReplicas": pods,
                        "rayStartParams": {"num-gpus": str(deployment.gpus_per_node)},
                        "template": {"spec": _worker(deployment, settings, image)},
                    }
                ],
            },
        },
    }


def _worker(deployment: Deployment, settings: Settings, image: str) -> dict[str, Json]:
    volumes, mounts = _pods.volumes(deployment)
    selector = _pods.node_selector(deployment)
    return {
        **({"nodeSelector": selector} if selector else {}),
        "containers": [
            {
                "name": "ray-worker",
                "image": image,
                "env": _pods.environment(deployment, settings),
                "resources": _pods.resources(deployment),
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
