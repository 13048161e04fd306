"""dynamo: a DynamoGraphDeployment of a frontend and the trial's workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from runtimes.errors import UserError
from runtimes.json_types import Json
from tracking.export import _pods
from tracking.export._deployment import Deployment
from tracking.export._dynamo_worker import WORKERS, worker_argv
from tracking.export._images import CHOOSE, require_nvidia
from tracking.export._resources import resource_notes
from tracking.export._yaml import documents
from tracking.export.base import TARGETS, Settings, Target

_BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm"}
_IMAGES = {
    "vllm": "nvcr.io/nvidia/ai-dynamo/vllm-runtime",
    "sglang": "nvcr.io/nvidia/ai-dynamo/sglang-runtime",
    "tensorrt_llm": "nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime",
}
_NEWEST = "1.6.0"
_RELEASES: Mapping[tuple[str, str], str] = {
    ("vllm", "0.23.0"): "1.3.1",
    ("sglang", "0.5.14"): "1.3.1",
    ("tensorrt_llm", "1.3.0rc19"): "1.3.1",
    ("vllm", "0.26.0"): "1.4.2",
    ("sglang", "0.5.16"): "1.4.2",
    ("tensorrt_llm", "1.3.0rc22"): "1.4.2",
    ("vllm", "0.28.0"): "1.5.1",
    ("sglang", "0.5.18"): "1.5.1",
    ("tensorrt_llm", "1.3.0rc25"): "1.5.1",
    ("vllm", "0.31.0"): _NEWEST,
    ("sglang", "0.5.21"): _NEWEST,
    ("tensorrt_llm", "1.3.0rc29"): _NEWEST,
}
"""Engine and version → the release of Dynamo whose image has it (docs.nvidia.com/dynamo,
"Compatibility by version", November 2026)."""


@TARGETS.register("dynamo")
class Dynamo(Target):
    """The trial's arguments on Dynamo's workers of the same engine, behind its frontend."""

    name: ClassVar[str] = "dynamo"
    filename: ClassVar[str] = "dynamo.yaml"
    use: ClassVar[str] = "kubectl apply -f {file}"
    options: ClassVar[frozenset[str]] = frozenset({"replicas", "namespace", "image"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        if deployment.engine not in _BACKENDS:
            raise UserError(
                f"trial {deployment.trial} ran {deployment.engine}; Dynamo has workers for "
                f"{', '.join(_BACKENDS)}"
            )
        require_nvidia(deployment)
        image, chosen = _image(deployment, settings)
        argv, worker_notes = worker_argv(deployment)
        notes = [
            "Dynamo's workers take the engine's arguments, but serve behind its frontend: measure "
            "again what is close to its limits.",
            *chosen,
            *worker_notes,
            *_pods.secret_notes(deployment, settings),
            *_pods.volume_notes(deployment),
            *_pods.selector_notes(deployment),
            *resource_notes(deployment),
        ]
        top: dict[str, Json] = {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": _pods.metadata(settings),
            "spec": {
                "backendFramework": _BACKENDS[deployment.engine],
                "components": [
                    _frontend(image),
                    _worker(deployment, settings, image, argv),
                ],
            },
        }
        return documents(deployment, [top], notes)


def _image(deployment: Deployment, settings: Settings) -> tuple[str, tuple[str, ...]]:
    if settings.image:
        return settings.image, ()
    release = _RELEASES.get((deployment.engine, deployment.version))
    image = f"{_IMAGES[deployment.engine]}:{release or _NEWEST}"
    if release is not None:
        return image, ()
    return image, (
        f"{CHOOSE} the image (--image): no release of Dynamo is known to bring {deployment.engine} "
        f"{deployment.version or 'of an unknown version'}, which was measured.",
    )


def _frontend(image: str) -> dict[str, Json]:
    container: dict[str, Json] = {
        "name": "main",
        "image": image,
        "resources": _pods.resources_without_gpus(),
    }
    return {
        "name": "Frontend",
        "type": "frontend",
        "replicas": 1,
        "podTemplate": {"spec": {"containers": [container]}},
    }


def _worker(
    deployment: Deployment, settings: Settings, image: str, argv: tuple[str, ...]
) -> dict[str, Json]:
    program, *arguments = argv
    volumes, mounts = _pods.volumes(deployment)
    selector = _pods.node_selector(deployment)
    container: dict[str, Json] = {
        "name": "main",
        "image": image,
        "command": [_pods.literal(program)],
        "args": [_pods.literal(argument) for argument in arguments],
        "env": _pods.environment(deployment, settings),
        "resources": _pods.resources(deployment),
        # Dynamo mounts shared memory itself.
        "volumeMounts": mounts[1:],
    }
    spread: dict[str, Json] = (
        {"multinode": {"nodeCount": deployment.nodes}} if deployment.nodes > 1 else {}
    )
    return {
        "name": WORKERS[deployment.engine],
        "type": "worker",
        "replicas": settings.replicas * deployment.servers,
        **spread,
        "sharedMemorySize": _pods.shm_size(deployment),
        "podTemplate": {
            "spec": {
                **({"nodeSelector": selector} if selector else {}),
                "containers": [container],
                "volumes": volumes[1:],
            }
        },
    }
