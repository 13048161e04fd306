"""docker: a shell script around `docker run`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import ClassVar

from tracking.export import _shell
from tracking.export._containers import (
    CACHE,
    container_argv,
    container_env,
    container_secrets,
    one_node,
    published,
)
from tracking.export._deployment import Deployment
from tracking.export._images import image_of
from tracking.export.base import TARGETS, Settings, Target


@TARGETS.register("docker")
class Docker(Target):
    """One container with the trial's GPUs, its port published on one address."""

    name: ClassVar[str] = "docker"
    filename: ClassVar[str] = "docker-run.sh"
    use: ClassVar[str] = "sh {file}"
    options: ClassVar[frozenset[str]] = frozenset({"host", "port", "image"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        one_node(deployment)
        image, notes = image_of(deployment, settings.image)
        program, *arguments = container_argv(deployment, settings.port, whole=True)
        run = [
            *("docker", "run", "--rm", "--init", "--name", settings.name),
            *("--gpus", str(deployment.gpus * deployment.servers), "--ipc=host"),
            *(f"--publish={ports}" for ports in published(deployment, settings)),
            *_mounted(deployment),
            *(f"--env={name}={value}" for name, value in container_env(deployment).items()),
            *(f"--env={name}" for name in container_secrets(deployment)),
            *(f"--entrypoint={program}", image),
        ]
        demanded = [line for line in _shell.variables({}, deployment.secrets) if line[0] == ":"]
        start, rest = _shell.command(run[:-2], "exec"), _shell.command([*run[-2:], *arguments])
        return _shell.script(
            [
                *_shell.header("#!/bin/sh", deployment, notes),
                *demanded,
                *([] if deployment.local_model else ['hub="${HF_HOME:-$HOME/.cache/huggingface}"']),
                " \\\n  ".join([start, *_hub(deployment), rest]),
            ]
        )


def _hub(deployment: Deployment) -> Iterator[str]:
    """The Hub's cache of whoever starts it, in a variable of the shell."""
    if not deployment.local_model:
        yield f'--volume="$hub:{CACHE}"'


def _mounted(deployment: Deployment) -> Iterator[str]:
    """The model's folder; docker reads what a mount is as one line of CSV."""
    if deployment.local_model:
        line = io.StringIO()
        fields = [
            "type=bind",
            f"source={deployment.model}",
            f"target={deployment.model}",
            "readonly",
        ]
        csv.writer(line, lineterminator="").writerow(fields)
        yield f"--mount={line.getvalue()}"
