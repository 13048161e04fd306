"""What a prepared environment is, and how a planned command is started in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.secrets import mask_credentials
from runtimes.supervisor import ContainerRef


@dataclass(frozen=True, slots=True)
class Launch:
    """What to hand to `EngineProcess.running`.

    Attributes:
        argv: the command.
        env: the whole environment of the process that is started.
        container: what the guard ends beside the process tree; None without a container.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    container: ContainerRef | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An environment that is there, on this node.

    Attributes:
        bin: fills the `{bin}` placeholder; None when there is nothing to fill in.
        fingerprint: hash of the environment as it was found: installed distributions, image id.
        path: folder of commands put first on PATH, as activating it would: engines call programs
            that were installed beside them (`ninja`, for one). None leaves PATH alone.
    """

    bin: str | None
    fingerprint: str
    path: str | None = None

    def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        devices: Sequence[str] | None,
        files: Path,
        model: str,
        names: Collection[str] = (),
    ) -> Launch:
        """How `argv` is started here.

        Args:
            argv: the command, every placeholder filled in.
            env: the engine's whole environment (see `engine_environment`).
            devices: ids of the GPUs to use; None for simulated devices or a CPU.
            files: folder that is the process's own, with its configuration files; it must stay
                until the process has been waited for.
            model: what the engine loads: a Hub id or a local folder.
            names: variables of `env` that were set for the engine, secrets included. A container
                sees these and none of the node's own but proxies and the Hub's.
        """
        made = dict(env)
        if self.path is not None:
            made["PATH"] = os.pathsep.join(filter(None, [self.path, made.get("PATH")]))
        return Launch(tuple(argv), made)


def environment_failed(message: str, remedy: str, log_tail: str = "") -> EngineError:
    """The error of an environment that cannot be made; credentials in addresses are masked."""
    return EngineError(
        Failure(
            FailureKind.ENVIRONMENT_FAILED,
            mask_credentials(message),
            remedy,
            log_tail=mask_credentials(log_tail),
        )
    )
