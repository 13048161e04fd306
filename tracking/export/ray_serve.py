"""ray-serve: a configuration for `serve run` or `serve deploy`."""

from __future__ import annotations

from typing import ClassVar

from runtimes.json_types import Json
from tracking.export import _ray
from tracking.export._deployment import Deployment
from tracking.export._images import require_nvidia
from tracking.export._yaml import documents
from tracking.export.base import TARGETS, Settings, Target


@TARGETS.register("ray-serve")
class RayServe(Target):
    """An application of `ray.serve.llm` on a Ray cluster that is there; vLLM only."""

    name: ClassVar[str] = "ray-serve"
    filename: ClassVar[str] = "serve.yaml"
    use: ClassVar[str] = "serve run {file}"
    options: ClassVar[frozenset[str]] = frozenset({"host", "port", "replicas"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        _ray.require_vllm(deployment)
        require_nvidia(deployment)
        notes = [_ray.NOTE, f"Needs ray[serve,llm] with vLLM {deployment.version or '(any)'}."]
        if deployment.secrets:
            names = ", ".join(deployment.secrets)
            notes.append(f"Set {names} on every node before `ray start`: no value stands here.")
        top: dict[str, Json] = {
            "http_options": {"host": settings.host, "port": settings.port},
            "applications": [_ray.application(deployment, settings.replicas)],
        }
        return documents(deployment, [top], notes)
