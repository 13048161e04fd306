"""GPUs of this node: through NVML, else through `nvidia-smi`, else none."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from runtimes.telemetry.nvml import GpuState, read_nvml

_QUERY = "index,uuid,name,memory.total,memory.used"


def usable_gpus(environment: Mapping[str, str]) -> list[GpuState]:
    """Devices of this node that `CUDA_VISIBLE_DEVICES` of `environment` leaves; all if unset."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list_gpus()
    names = {name.strip() for name in visible.split(",")}
    return [gpu for gpu in list_gpus() if gpu.index in names or gpu.uuid in names]


def list_gpus() -> list[GpuState]:
    """Devices of this node; empty when neither library nor tool is there, or they find none."""
    states = read_nvml()
    return ask_tool() if states is None else states


def find_gpu(gpus: Iterable[GpuState], name: str) -> GpuState | None:
    """The device called `name`, by its number or its UUID."""
    return next((gpu for gpu in gpus if name in (gpu.index, gpu.uuid)), None)


def uuids_of(names: Sequence[str]) -> tuple[str, ...]:
    """Identities of the devices called `names`, in that order; empty where none is listed.

    A name that is listed under no other, as that of a slice of a device, is its own identity.
    """
    found = list_gpus()
    states = [find_gpu(found, name) for name in names]
    if not any(states):
        return ()
    return tuple(
        name if state is None else state.uuid for name, state in zip(names, states, strict=True)
    )


def ask_tool(command: str = "nvidia-smi") -> list[GpuState]:
    """Devices that the driver's tool lists; empty when it is absent or finds none."""
    tool = shutil.which(command)
    if tool is None:
        return []
    argv = [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_listing(done.stdout) if done.returncode == 0 else []


def parse_listing(text: str) -> list[GpuState]:
    """Devices of `nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used` (MiB)."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == 5 and row[3].isdigit() and row[4].isdigit():
            index, uuid, name, total, used = row
            found.append(GpuState(index, uuid, name, int(total) << 20, int(used) << 20))
    return found
