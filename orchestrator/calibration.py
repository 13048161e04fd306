"""What `servetune calibrate` is told: an environment, devices, a name; as values."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.detection import accelerator_of, find_free_gpus
from runtimes.engines.base import ENGINES
from runtimes.errors import MissingToolError, UnknownNameError, UserError
from runtimes.hardware import Accelerator, find_accelerator
from runtimes.plan import Environment
from runtimes.telemetry.gpus import usable_gpus
from runtimes.telemetry.nvml import GpuState

if TYPE_CHECKING:
    from runtimes.calibration.run import Device

_FORMS = "name an interpreter, a virtual environment's folder, or X.yaml:ENGINE"


def environment_called(text: str) -> Environment:
    """The environment that `--environment` names, with an interpreter or requirements.

    Raises:
        UserError: there is none, or it is not one of this node.
    """
    file, colon, engine = text.rpartition(":")
    if colon and Path(file).suffix in (".yaml", ".yml"):
        return _of_engine(Path(file), engine)
    path = Path(text).expanduser()
    if path.suffix in (".yaml", ".yml"):
        raise UserError(f"--environment {text}: names no engine; write {text}:ENGINE")
    if path.is_dir():
        found = _python_in(path / "bin")
        if found is None:
            raise UserError(f"--environment {text}: has no bin/python; {_FORMS}")
        return Environment(python=found)
    command = shutil.which(str(path))
    if command is None:
        raise MissingToolError(f"--environment {text}: there is no such command; {_FORMS}")
    # Links stay links: an interpreter knows its virtual environment by the path it is called by.
    return Environment(python=os.path.abspath(command))  # noqa: PTH100  # pathlib resolves them


def _of_engine(file: Path, engine: str) -> Environment:
    from orchestrator.spec.environments import environment_of
    from orchestrator.spec.experiment import Experiment

    engines = Experiment.load(file).spec.engines
    if engine not in engines:
        raise UserError(f"{file}: has no engine {engine!r}; it has {', '.join(engines)}")
    environment = environment_of(engines[engine].environment)
    where = f"{file}: engines.{engine}.environment"
    if environment.image is not None:
        raise UserError(
            f"{where}: an image cannot be calibrated from outside (got {environment.image}); run "
            "servetune calibrate in a container of it, with --environment python3"
        )
    if environment.interpreter is not None:
        return environment
    executable = ENGINES.get(engine).executable
    command = shutil.which(executable) if executable is not None else None
    found = None if command is None else _python_in(Path(command).resolve().parent)
    if found is None:
        raise UserError(f"{where}: names no interpreter, and none is beside a command on PATH; "
                        "name one with --environment")  # fmt: skip
    return Environment(python=found)


def _python_in(folder: Path) -> str | None:
    """The interpreter in a folder of commands."""
    found = (folder / name for name in ("python", "python3"))
    return next((str(path.absolute()) for path in found if os.access(path, os.X_OK)), None)


def free_devices() -> tuple[str, ...] | None:
    """GPUs of this node to measure: those that nobody uses; None where the driver tells of none.

    Raises:
        MissingToolError: all are in use, so that nothing true could be measured.
    """
    if usable_gpus(os.environ):
        return tuple(gpu.index for gpu in find_free_gpus())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else tuple(visible.split(","))


def known_accelerator(device: Device, name: str | None) -> Accelerator | None:
    """The accelerator that `device` is: the one called `name`, or else the one its driver means."""
    if name is not None:
        try:
            return find_accelerator(name)
        except UnknownNameError:
            return None
    if device.kind == "cpu":
        return None
    return accelerator_of(GpuState("0", "", device.name, device.memory_bytes, 0))
