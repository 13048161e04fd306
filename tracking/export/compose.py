"""compose: a Compose file with device reservations and a health check."""

from __future__ import annotations

from typing import ClassVar

from runtimes.json_types import Json
from tracking.export import _containers
from tracking.export._deployment import Deployment
from tracking.export._images import image_of
from tracking.export._yaml import documents
from tracking.export.base import TARGETS, Settings, Target


@TARGETS.register("compose")
class Compose(Target):
    """One service with the trial's GPUs, its port published on one address."""

    name: ClassVar[str] = "compose"
    filename: ClassVar[str] = "compose.yaml"
    use: ClassVar[str] = "docker compose -f {file} up"
    options: ClassVar[frozenset[str]] = frozenset({"host", "port", "image"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        _containers.one_node(deployment)
        image, notes = image_of(deployment, settings.image)
        service = _service(deployment, settings, image)
        top: dict[str, Json] = {"name": settings.name, "services": {settings.name: service}}
        return documents(deployment, [top], notes)


def _service(deployment: Deployment, settings: Settings, image: str) -> dict[str, Json]:
    program, *arguments = _containers.container_argv(deployment, settings.port, whole=True)
    devices: Json = {
        "driver": "nvidia",
        "count": deployment.gpus * deployment.servers,
        "capabilities": ["gpu"],
    }
    return {
        "image": image,
        "entrypoint": [_literal(program)],
        "command": [_literal(argument) for argument in arguments],
        "environment": _environment(deployment),
        "ports": [*_containers.published(deployment, settings)],
        "ipc": "host",
        "init": True,
        "restart": "unless-stopped",
        "volumes": _volumes(deployment),
        "deploy": {"resources": {"reservations": {"devices": [devices]}}},
        "healthcheck": {
            "test": _containers.health_probe(settings.port),
            "interval": "10s",
            "timeout": "10s",
            "retries": 3,
            "start_period": f"{_containers.start_limit_s(deployment):.0f}s",
        },
    }


def _environment(deployment: Deployment) -> dict[str, Json]:
    """Variables; what has no value is taken from the environment of whoever starts it."""
    plain: dict[str, Json] = {
        name: _literal(value) for name, value in _containers.container_env(deployment).items()
    }
    passed = dict.fromkeys(_containers.container_secrets(deployment))
    demanded = {name: f"${{{name}:?set it}}" for name in deployment.secrets}
    return {**plain, **passed, **demanded}


def _volumes(deployment: Deployment) -> list[Json]:
    hub = "${HF_HOME:-${HOME}/.cache/huggingface}"
    if not deployment.local_model:
        # Without the folder, Compose would refuse to start.
        made: Json = {"create_host_path": True}
        return [{"type": "bind", "source": hub, "target": _containers.CACHE, "bind": made}]
    folder = _literal(deployment.model)
    return [{"type": "bind", "source": folder, "target": folder, "read_only": True}]


def _literal(text: str) -> str:
    """`text` past Compose, which replaces what stands behind a dollar sign."""
    return text.replace("$", "$$")
