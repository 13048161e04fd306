"""slurm: a batch script, on one node or several."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import ClassVar

from runtimes.plan import HOST, MASTER_HOST, PORT
from tracking.export import _shell
from tracking.export._deployment import Deployment, filled, vendor
from tracking.export._nodes import node_command, tasks_of
from tracking.export._resources import host_needs, resource_notes
from tracking.export.base import TARGETS, Settings, Target

_MEETING_PORT = 29500
_RPC_PORT = 29550
_FIRST = "first_node"
_CPUS = '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
"""Since 22.05 srun does not heed the job's --cpus-per-task of itself (Slurm's RELEASE_NOTES)."""

_CPU_NOTES = (
    "Slurm gives a task one CPU, and memory by it, unless the site or the job says more: add "
    "--cpus-per-task and --mem.",
)


@TARGETS.register("slurm")
class Slurm(Target):
    """One job that holds the nodes and GPUs of the trial and runs its command on each."""

    name: ClassVar[str] = "slurm"
    filename: ClassVar[str] = "serve.sbatch"
    use: ClassVar[str] = "sbatch {file}"
    options: ClassVar[frozenset[str]] = frozenset({"host", "port"})

    def render(self, deployment: Deployment, settings: Settings) -> str:
        gpus = deployment.gpus_per_node * deployment.servers
        tasks = tasks_of(deployment.argv)
        per_node = deployment.gpus_per_node if tasks else 1
        directives = [
            f"#SBATCH --job-name={settings.name}",
            f"#SBATCH --nodes={deployment.nodes}",
            f"#SBATCH --ntasks-per-node={per_node}",
            *([] if vendor(deployment) == "none" else _resources(deployment, gpus, per_node)),
            "#SBATCH --output=%x-%j.log",
        ]
        notes = [
            "Partition, account and limits are the site's: add --partition, --account, --time.",
            *(_CPU_NOTES if vendor(deployment) == "none" else resource_notes(deployment)),
            f"It listens on {settings.host}; other hosts reach it with --host 0.0.0.0 only.",
        ]
        body = _over_mpi if tasks else _on_nodes if deployment.nodes > 1 else _on_one
        return _shell.script(
            [
                "#!/bin/bash",
                *directives,
                *_shell.comments(deployment, notes),
                "set -eu",
                _CPUS,
                *_shell.variables(deployment.env, deployment.secrets),
                *body(deployment, settings),
            ]
        )


def _resources(deployment: Deployment, gpus: int, tasks: int) -> list[str]:
    """What each node gives, its CPUs shared out among its tasks; Slurm's G is 1024³ bytes."""
    needs = host_needs(deployment, gpus)
    return [
        f"#SBATCH --gres=gpu:{gpus}",
        f"#SBATCH --cpus-per-task={-(-needs.cpus // tasks)}",
        f"#SBATCH --mem={needs.memory_gib}G",
    ]


def _on_one(deployment: Deployment, settings: Settings) -> Iterator[str]:
    yield _shell.command(deployment.all_started(settings.host, settings.port), "exec srun")


def _on_nodes(deployment: Deployment, settings: Settings) -> Iterator[str]:
    """A step a node; the job ends with the first of them, since the others wait for it."""
    yield f'{_FIRST}="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"'
    for node in range(deployment.nodes):
        argv = node_command(deployment.engine, deployment.argv, node)
        step = f"srun --nodes=1 --ntasks=1 --relative={node}"
        yield f"{step} {_met(argv, settings)} &"
    yield "wait -n"


def _over_mpi(deployment: Deployment, settings: Settings) -> Iterator[str]:
    """Slurm starts the ranks that `mpirun` would."""
    for name, text in deployment.files.items():
        lines = shlex.join(text.rstrip("\n").split("\n"))
        yield f"printf '%s\\n' {lines} > {name}"
    ranks = tasks_of(deployment.argv)
    argv = filled(deployment.argv[3:], host=settings.host, port=settings.port)
    yield _shell.command(argv, f"exec srun --mpi=pmix --ntasks={ranks}")


def _met(argv: Sequence[str], settings: Settings) -> str:
    """`argv` quoted; the first node's name is known where it runs."""
    values = {
        HOST: settings.host,
        PORT: str(settings.port),
        "{master_port}": str(_MEETING_PORT),
        "{rpc_port}": str(_RPC_PORT),
    }
    parts = filled(tuple(argv), **{name.strip("{}"): value for name, value in values.items()})
    return " ".join(
        f'"{part.replace(MASTER_HOST, f"${{{_FIRST}}}")}"' if _meets(old) else shlex.quote(part)
        for old, part in zip(argv, parts, strict=True)
    )


def _meets(part: str) -> bool:
    """True for a part that a plan made of the meeting point, and no text of a user's."""
    return filled((part,), master_host="") != (part,)
