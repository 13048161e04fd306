"""What there is to measure: a GPU, or else the CPU."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

_MIB = 1 << 20


class Device(NamedTuple):
    """What is measured.

    Attributes:
        kind: `cuda` (AMD's GPUs too) or `cpu`.
        devices: GPUs, or cores.
        cache_bytes: its last cache.
    """

    kind: str
    name: str
    vendor: str
    memory_bytes: int
    cache_bytes: int
    devices: int
    software: dict[str, str]

    @property
    def on_gpu(self) -> bool:
        return self.kind == "cuda"


def describe() -> Device:
    """The first GPU that torch sees, or else the CPU."""
    import torch

    software = {"torch": str(torch.__version__), "python": platform.python_version()}
    if torch.cuda.is_available():
        for name in ("cuda", "hip"):
            if getattr(torch.version, name, None):
                software[name] = str(getattr(torch.version, name))
        facts = torch.cuda.get_device_properties(0)
        cache = int(getattr(facts, "L2_cache_size", 0)) or 64 * _MIB
        vendor = "amd" if "hip" in software else "nvidia"
        count = torch.cuda.device_count()
        return Device("cuda", facts.name, vendor, facts.total_memory, cache, count, software)
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    known = {key.strip(): value.strip() for key, _, value in lines}
    vendor = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(known.get("vendor_id", ""), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cache = max(_last_cache_bytes(), 32 * _MIB)
    name = known.get("model name", platform.machine())
    return Device("cpu", name, vendor, memory, cache, len(os.sched_getaffinity(0)), software)


def _last_cache_bytes() -> int:
    """Of the first core; 0 where the system does not say."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
    except OSError:
        return 0
    return int(text[:-1]) << 10 if text.endswith("K") else 0
