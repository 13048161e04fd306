"""What the targets that run containers have in common."""

from __future__ import annotations

import math

from runtimes.errors import UserError
from runtimes.json_types import Json
from tracking.export._checks import is_address
from tracking.export._deployment import HEALTH_PATH, Deployment
from tracking.export._images import inside
from tracking.export.base import Settings

CACHE = "/cache/huggingface"
"""Where containers keep what they load from the Hub, whoever they run as."""

_HUB_FOLDERS = frozenset({"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"})
"""Variables that name folders of the node that it was measured on."""

ANYWHERE = "0.0.0.0"
"""What a server inside a container listens on: who reaches it is decided outside."""

TOKEN = "HF_TOKEN"

_PATIENCE = 10
"""How many times the measured start-up a start may take: nothing was downloaded in that one."""
_MIN_PATIENCE_S = 600.0
_DOWNLOAD_BYTES_PER_S = 100e6
"""Of a slow day at the Hub, so that a start is not given up while the weights still come."""


def container_argv(deployment: Deployment, port: int, *, whole: bool = False) -> tuple[str, ...]:
    """The command inside a container: of one server, or of the `whole` deployment."""
    start = deployment.all_started if whole else deployment.started
    return inside(start(ANYWHERE, port))


def container_env(deployment: Deployment) -> dict[str, str]:
    """Variables of a container: the trial's, less its folders, and where the Hub's cache is."""
    env = {name: value for name, value in deployment.env.items() if name not in _HUB_FOLDERS}
    return env if deployment.local_model else {**env, "HF_HOME": CACHE}


def container_secrets(deployment: Deployment) -> tuple[str, ...]:
    """Secrets that a container is given, the Hub's token among them where it may be needed."""
    token = () if deployment.local_model or TOKEN in deployment.secrets else (TOKEN,)
    return (*deployment.secrets, *token)


def published(deployment: Deployment, settings: Settings) -> list[str]:
    """Each server's port on the address, as docker and Compose write it.

    Raises:
        UserError: the address is a name, which docker does not look up.
    """
    host = settings.host
    if not is_address(host):
        raise UserError(
            f"--host {host}: a container's port is published on an IP address; write 127.0.0.1 for "
            "this machine alone, 0.0.0.0 for every address that it has"
        )
    shown = f"[{host}]" if ":" in host else host
    ports = range(settings.port, settings.port + deployment.servers)
    return [f"{shown}:{port}:{port}" for port in ports]


def start_limit_s(deployment: Deployment) -> float:
    """Seconds that a start may take, a download of the weights included if their size is known."""
    start_s = max(_MIN_PATIENCE_S, _PATIENCE * (deployment.startup_s or 0.0))
    loaded = 0 if deployment.local_model else deployment.weight_bytes or 0
    return start_s + loaded / _DOWNLOAD_BYTES_PER_S


def health_probe(port: int) -> list[Json]:
    """A check that needs nothing but the Python that every image has."""
    url = f"http://127.0.0.1:{port}{HEALTH_PATH}"
    return ["CMD", "python3", "-c", f"import urllib.request as u; u.urlopen('{url}', timeout=5)"]


def one_node(deployment: Deployment, instead: str = "--to slurm") -> None:
    """Refuse a server that is spread over nodes.

    Raises:
        UserError: it is.
    """
    if deployment.nodes > 1:
        raise UserError(
            f"trial {deployment.trial} serves on {deployment.nodes} nodes at once, and this target "
            f"starts a server on one; use {instead}"
        )


def probe(path: str, *, period_s: int, limit_s: float) -> dict[str, Json]:
    """A probe of Kubernetes that fails for good after `limit_s`."""
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": math.ceil(limit_s / period_s),
    }
