"""llm-d: values of its modelservice chart."""

from __future__ import annotations

import re
from typing import ClassVar

from runtimes.errors import UserError
from runtimes.json_types import Json
from tracking.export import _pods
from tracking.export._containers import TOKEN, container_argv, one_node
from tracking.export._deployment import Deployment
from tracking.export._images import CHOOSE, image_of
from tracking.export._resources import resource_notes
from tracking.export._yaml import documents
from tracking.export.base import TARGETS, Settings, Target


@TARGETS.register("llm-d")
class LlmD(Target):
    """Decode pods that run the trial's own command; prefill is not split off."""

    name: ClassVar[str] = "llm-d"
    filename: ClassVar[str] = "values.yaml"
    use: ClassVar[str] = "helm install NAME llm-d-modelservice/llm-d-modelservice -f {file}"
    options: ClassVar[frozenset[str]] = frozenset({"port", "replicas", "image"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        one_node(deployment, "--to dynamo or --to slurm")
        if deployment.local_model:
            raise UserError(
                f"trial {deployment.trial} loads its model from the folder {deployment.model!r}, "
                "and llm-d takes it from the Hub or from a volume; use --to kubernetes"
            )
        image, notes = image_of(deployment, settings.image)
        notes = (
            *notes,
            *_pods.secret_notes(deployment, settings),
            f"A model behind a gate needs modelArtifacts.authSecretName, the Secret with {TOKEN}.",
            f"{CHOOSE} modelArtifacts.size: the volume that the model is loaded to.",
            *resource_notes(deployment),
            "The labels are those that an InferencePool of yours selects by.",
        )
        return documents(deployment, [_values(deployment, settings, image)], notes)


def _values(deployment: Deployment, settings: Settings, image: str) -> dict[str, Json]:
    layout = _parallelism(deployment)
    return {
        "fullnameOverride": settings.name,
        "modelArtifacts": {
            "name": deployment.model,
            "uri": f"hf://{deployment.model}",
            "size": "1Ti",
            "authSecretName": _pods.secret_name(settings) if TOKEN in deployment.secrets else "",
            "labels": {"llm-d.ai/inferenceServing": "true", "llm-d.ai/model": settings.name},
        },
        "multinode": False,
        "accelerator": {"type": "nvidia"},
        # Without prefill pods there is nothing to send prompts to.
        "routing": {"servicePort": settings.port, "proxy": {"enabled": False}},
        "decode": {
            "create": True,
            "replicas": settings.replicas * deployment.servers,
            "parallelism": layout,
            **_node_affinity(deployment),
            "containers": [_container(deployment, settings, image)],
            "volumes": [_pods.shm_volume(deployment)],
        },
        "prefill": {"create": False},
    }


def _container(deployment: Deployment, settings: Settings, image: str) -> dict[str, Json]:
    program, *arguments = container_argv(deployment, settings.port)
    return {
        "name": "engine",
        "image": image,
        "modelCommand": "custom",
        "command": [_pods.literal(program)],
        "args": [_pods.literal(argument) for argument in arguments],
        "env": _environment(deployment, settings),
        "ports": [{"name": "http", "containerPort": settings.port, "protocol": "TCP"}],
        "resources": _pods.resources(deployment),
        "mountModelVolume": True,
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
        "extraConfig": _pods.probes(deployment),
    }


def _environment(deployment: Deployment, settings: Settings) -> list[Json]:
    """Variables, which the chart reads as templates; those of the Hub it sets itself."""
    made = []
    for entry in _pods.environment(deployment, settings):
        if isinstance(entry, dict) and entry["name"] not in (TOKEN, "HF_HOME"):
            value = entry.get("value")
            made.append({**entry, "value": _escaped(value)} if isinstance(value, str) else entry)
    return [*made]


def _escaped(value: str) -> str:
    return re.sub(r"\{\{", "{{`{{`}}", value)


def _parallelism(deployment: Deployment) -> dict[str, Json]:
    """The GPUs of a pod as the chart counts them: tensor times local data parallel."""
    return {"tensor": deployment.gpus, "data": 1, "dataLocal": 1, "workers": 1}


def _node_affinity(deployment: Deployment) -> dict[str, Json]:
    selector = _pods.node_selector(deployment)
    if not selector:
        return {}
    ((key, value),) = selector.items()
    return {"acceleratorTypes": {"labelKey": key, "labelValues": [value]}}
