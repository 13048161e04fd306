"""GPUs of this node, as the driver's own tool lists them."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_QUERY = "index,uuid,name,memory.total,memory.used"
_BUSY_BYTES = 1 << 30
"""A device with more than this in use belongs to somebody: a bare CUDA context is about half."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. Sizes in bytes, as the driver reports them."""

    index: str
    uuid: str
    name: str
    memory_bytes: int
    used_bytes: int

    @property
    def is_free(self) -> bool:
        return self.used_bytes < _BUSY_BYTES


def usable_gpus(environment: Mapping[str, str]) -> list[Gpu]:
    """Devices of this node that `CUDA_VISIBLE_DEVICES` of `environment` leaves; all if unset."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list_gpus()
    names = {name.strip() for name in visible.split(",")}
    return [gpu for gpu in list_gpus() if gpu.index in names or gpu.uuid in names]


def list_gpus(command: str = "nvidia-smi") -> list[Gpu]:
    """Devices of this node; empty when the tool is absent or finds none."""
    tool = shutil.which(command)
    if tool is None:
        return []
    argv = [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_listing(done.stdout) if done.returncode == 0 else []


def parse_listing(text: str) -> list[Gpu]:
    """Devices of `nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used` (MiB)."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == 5 and row[3].isdigit() and row[4].isdigit():
            index, uuid, name, total, used = row
            found.append(Gpu(index, uuid, name, int(total) << 20, int(used) << 20))
    return found
