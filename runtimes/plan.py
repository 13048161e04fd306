"""Frozen values between deciding and doing: what to run, and on which devices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from runtimes.json_types import Json, short_hash
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization

HOST = "{host}"
"""Stands in a planned command where the address goes."""
PORT = "{port}"
"""Stands in a planned command where the port goes."""
MASTER_HOST = "{master_host}"
"""Stands where the address of the deployment's first node goes."""
MASTER_PORT = "{master_port}"
"""Stands where the port goes at which the ranks of one server meet."""
RPC_PORT = "{rpc_port}"
"""Stands where the port goes at which data-parallel ranks of one server meet."""
BIN = "{bin}"
"""Stands where the folder of commands goes of an environment that is built on the node."""
FILES = "{files}"
"""Stands where the folder goes that a process's `files` are written to."""
PYTHON = "{python}"
"""Stands first in the command of a process that is one of our own modules: the interpreter of
whoever starts it, since paths differ from node to node."""

_FILLED_IN = re.compile(r"[\w./:=@\[\]-]*(?:\{[a-z_]+\}[\w./:=@\[\]-]*)+")

PLACEHOLDERS = (HOST, PORT, MASTER_HOST, MASTER_PORT, RPC_PORT, BIN, FILES)


@dataclass(frozen=True, slots=True)
class Environment:
    """Where an engine's interpreter comes from; at most one of the first three ways is given.

    Attributes:
        python: path of the interpreter the engine is installed for; beside `requirements`, of the
            one their virtual environment is made with.
        requirements: what to install with pip into a virtual environment of the node.
        image: container image that has the engine.
        label: label of the nodes on which the engine is installed; may stand beside any of them.
        overrides: requirements installed last and without their dependencies.
        wheels: folders in which pip finds further wheels.
        container: the program that runs images: `docker` or `podman`.
        version: the engine's version, where the user says it or pins it.

    With none of them the engine's own command is taken from PATH.
    """

    python: str | None = None
    requirements: tuple[str, ...] = ()
    image: str | None = None
    label: str | None = None
    overrides: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    container: str = "docker"
    version: str | None = None

    def command(self, name: str) -> str:
        """How the engine's command `name` is called in this environment."""
        if self.requirements:
            return f"{BIN}/{name}"
        return name if self.python is None else str(PurePath(self.python).with_name(name))

    @property
    def interpreter(self) -> str | None:
        """How its Python is called; None where only commands on PATH are known."""
        if self.requirements:
            return f"{BIN}/python"
        if self.python is not None:
            return self.python
        return "python3" if self.image is not None else None

    def version_of(self, distribution: str) -> str | None:
        """The version of `distribution` that is stated or pinned (`vllm==0.33.0`)."""
        if self.version is not None:
            return self.version
        for requirement in (*self.overrides, *self.requirements):
            name, _, version = requirement.replace(" ", "").partition("==")
            if name.partition("[")[0].lower() == distribution and version:
                return version.partition(";")[0]
        return None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine, configured: what `materialize` makes of a trial's parameters.

    Attributes:
        engine: registered name of the engine.
        model: what the engine is told to load: a Hub id or a local folder.
        revision: commit or branch of a Hub model; None for the default or a local folder.
        layout: degrees of parallelism.
        quantization: precision.
        args: engine arguments by their long name without leading dashes (`max-num-seqs`).
            True stands for the bare flag, None for "leave it to the engine". They win over what
            `layout` and `quantization` would set.
        env: environment variables set for the engine; never a secret.
        secrets: names of the variables whose values reach the engine's environment only.
        environment: where the interpreter comes from.
        options: settings of the servetune engine itself, not of its command (`imitates`).
        dummy_weights: True starts the engine with random weights, without downloading any.
        nodes: nodes that one server is spread over.
    """

    engine: str
    model: str
    revision: str | None = None
    layout: ParallelLayout = field(default_factory=ParallelLayout)
    quantization: Quantization = field(default_factory=Quantization)
    args: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    options: Mapping[str, Json] = field(default_factory=dict)
    dummy_weights: bool = False
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process to start.

    Attributes:
        argv: the command; placeholders (`PLACEHOLDERS`) are filled in where it starts.
        env: variables to set beside the inherited ones; never a secret.
        gpus: GPUs the process uses.
        files: configuration files by name, written to `{files}` before the start.
        server: which server of the deployment it belongs to, from 0.
        node: rank of its node within that server; rank 0 answers HTTP, the others answer nobody.
        ports: by placeholder name, the offsets that must be free together with the port given
            (`{"port": (0, 233)}`); engines derive further ports from the one they are told.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    server: int = 0
    node: int = 0
    ports: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"port": (0,)})

    def command(self, **values: object) -> tuple[str, ...]:
        """The argv with placeholders filled in: `command(host="127.0.0.1", port=8000)`.

        Only in parts that are made of placeholders and what paths and addresses are written with:
        a user's own template (`{{x}} {port}`) or JSON stays as it is.
        """
        return tuple(_filled(part, values) for part in self.argv)


def _filled(part: str, values: Mapping[str, object]) -> str:
    if not _FILLED_IN.fullmatch(part):
        return part
    for name, value in values.items():
        part = part.replace(f"{{{name}}}", str(value))
    return part


def pasted(argv: Sequence[str]) -> tuple[str, ...]:
    """A planned command as users paste it: commands of a built environment by their name."""
    return tuple(part.removeprefix(f"{BIN}/") for part in argv)


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """Everything needed to serve one configuration.

    Attributes:
        engine: registered name of the engine.
        processes: what to start, servers in order and node 0 of each first; empty when the
            deployment is somebody else's (`attach`).
        deploy: the command a user pastes to serve the same configuration: the process's own,
            or the real engine's where a simulated one stood in.
        simulated: True when nothing real is served, so that results say so.
        secrets: names of secret variables to pass from servetune's environment.
        environment: where the processes' interpreter comes from.
        attach: URL of a running server to measure, never to be started or stopped.
        attached_gpus: GPUs that stand behind `attach`.
        dropped_fields: fields of requests that it refuses and that are therefore not sent.
        effective: what two plans have in common that serve alike, whatever their spelling; None
            takes the commands as they are.
        compiles: names the kernels that a first start compiles; equal for configurations that
            share them, empty when nothing is compiled.
        notes: what a user should know of the mapping, one sentence each.
        lossy: what of its precision may cost accuracy, in words (`KV cache in fp8`).
    """

    engine: str
    processes: tuple[ProcessPlan, ...]
    deploy: tuple[str, ...]
    simulated: bool = False
    secrets: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    attach: str | None = None
    attached_gpus: int = 0
    dropped_fields: frozenset[str] = frozenset()
    effective: Json = None
    compiles: str = ""
    notes: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment."""
        return sum(process.gpus for process in self.processes) + self.attached_gpus

    @property
    def servers(self) -> tuple[ProcessPlan, ...]:
        """The processes that answer HTTP: clients balance between them."""
        return tuple(process for process in self.processes if process.node == 0)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command of the first server; empty for an attached one."""
        return self.processes[0].argv if self.processes else ()

    @property
    def env(self) -> Mapping[str, str]:
        """The variables of the first server, which are those of all."""
        return self.processes[0].env if self.processes else {}

    @property
    def config_id(self) -> str:
        """Hash of the effective command and environment, ports left out."""
        if self.effective is not None:
            return short_hash(self.effective)
        commands: list[Json] = [
            [list(process.argv), dict(process.env), dict(process.files)]
            for process in self.processes
        ]
        return short_hash([self.attach, commands])


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
