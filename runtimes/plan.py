"""Frozen values between deciding and doing: what to run, and on which devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtimes.json_types import Json, short_hash
from runtimes.parallel import ParallelLayout

HOST = "{host}"
"""Stands in a planned command where the address goes."""
PORT = "{port}"
"""Stands in a planned command where the port goes."""
PYTHON = "{python}"
"""Stands first in the command of a process that is one of our own modules: the interpreter of
whoever starts it, since paths differ from node to node."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where an engine's interpreter comes from.

    Attributes:
        python: path of the interpreter the engine is installed for; None takes the engine's
            own command from PATH.
    """

    python: str | None = None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine, configured: what `materialize` makes of a trial's parameters.

    Attributes:
        engine: registered name of the engine.
        model: what the engine is told to load: a Hub id or a local folder.
        revision: commit or branch of a Hub model; None for the default or a local folder.
        layout: degrees of parallelism.
        args: engine arguments by their long name without leading dashes (`max-num-seqs`).
            True stands for the bare flag, None for "leave it to the engine".
        env: environment variables set for the engine; never a secret.
        secrets: names of the variables whose values reach the engine's environment only.
        environment: where the interpreter comes from.
        options: settings of the servetune engine itself, not of its command (`imitates`).
    """

    engine: str
    model: str
    revision: str | None = None
    layout: ParallelLayout = field(default_factory=ParallelLayout)
    args: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process to start.

    Attributes:
        argv: the command; `{host}` and `{port}` are filled in when the port is known.
        env: variables to set beside the inherited ones; never a secret.
        gpus: GPUs the process uses.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1

    def command(self, host: str, port: int) -> tuple[str, ...]:
        """The argv with address and port filled in."""
        return tuple(part.replace(HOST, host).replace(PORT, str(port)) for part in self.argv)


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """Everything needed to serve one configuration.

    Attributes:
        engine: registered name of the engine.
        process: the serving process.
        deploy: the command a user pastes to serve the same configuration: the process's own,
            or the real engine's where a simulated one stood in.
        simulated: True when nothing real is served, so that results say so.
        secrets: names of secret variables to pass from servetune's environment.
    """

    engine: str
    process: ProcessPlan
    deploy: tuple[str, ...]
    simulated: bool = False
    secrets: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment."""
        return self.process.gpus

    @property
    def config_id(self) -> str:
        """Hash of the effective command and environment, ports left out."""
        return short_hash([list(self.process.argv), dict(self.process.env)])


@dataclass(frozen=True, slots=True)
class Allocation:
    """Devices given to one trial.

    Attributes:
        bundle: id of the bundle actor that owns them.
        node: host name or address of its node.
        gpu_ids: device ids as the bundle knows them, ascending.
        visible: True exports CUDA_VISIBLE_DEVICES to the engine; False for simulated devices.
    """

    bundle: str
    node: str
    gpu_ids: tuple[str, ...]
    visible: bool = True
