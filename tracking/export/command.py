"""command: a shell script that becomes the server."""

from __future__ import annotations

from typing import ClassVar

from runtimes.errors import UserError
from tracking.export import _shell
from tracking.export._deployment import Deployment
from tracking.export.base import TARGETS, Settings, Target


@TARGETS.register("command")
class Command(Target):
    """Sets the variables and runs the engine's own command in its place."""

    name: ClassVar[str] = "command"
    filename: ClassVar[str] = "serve.sh"
    use: ClassVar[str] = "sh {file}"
    options: ClassVar[frozenset[str]] = frozenset({"host", "port"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        if deployment.nodes > 1:
            raise UserError(
                f"trial {deployment.trial} serves on {deployment.nodes} nodes at once, and a "
                "command runs on one; use --to slurm"
            )
        argv = deployment.all_started(settings.host, settings.port)
        return _shell.script(
            [
                *_shell.header("#!/bin/sh", deployment),
                *_shell.variables(deployment.env, deployment.secrets),
                _shell.command(argv, "exec"),
            ]
        )
