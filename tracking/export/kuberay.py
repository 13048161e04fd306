"""kuberay: a RayService that serves the trial's model."""

from __future__ import annotations

from typing import ClassVar

from runtimes.json_types import Json
from tracking.export import _pods, _ray
from tracking.export._deployment import Deployment
from tracking.export._images import CHOOSE, require_nvidia
from tracking.export._yaml import Block, documents, plain
from tracking.export.base import TARGETS, Settings, Target

_IMAGE = "rayproject/ray-llm:2.50.1-py311-cu124"
_PORT = 8000
"""Where a RayService's pods answer; its service listens there as well."""


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
        "ports": [{"name": "serve", "containerPort": _PORT}],
        "env": _pods.environment(deployment, settings),
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
                "resources": _pods.gpu_resources(deployment.gpus_per_node),
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
