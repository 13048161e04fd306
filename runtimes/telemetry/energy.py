"""Energy that the devices of one attempt used."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from runtimes.guard import descendants
from runtimes.telemetry.gpus import find_gpu
from runtimes.telemetry.nvml import GpuState, read_nvml


def read_energy(gpu_ids: Sequence[str]) -> Mapping[str, int] | None:
    """Energy counter by device, millijoules; blocks for some milliseconds.

    None where a device has no counter or cannot be asked (a slice of a device has none of its
    own), and where a process that is not of this one's tree computes on a device as well.
    """
    states = read_nvml()
    if states is None or not gpu_ids:
        return None
    ours = {process.pid for process in descendants(os.getpid())} | {os.getpid()}
    return counters(states, gpu_ids, ours)


def counters(
    states: Sequence[GpuState], gpu_ids: Sequence[str], ours: Collection[int]
) -> Mapping[str, int] | None:
    """See `read_energy`; `ours` are pids of processes that belong to the attempt.

    A process that cannot be seen from here, as one of the engine's in a container, is taken to be
    ours: nobody else was on the devices when the attempt began.
    """
    found: dict[str, int] = {}
    for gpu in gpu_ids:
        state = find_gpu(states, gpu)
        if state is None or state.energy_mj is None:
            return None
        if any(process.command and process.pid not in ours for process in state.processes):
            return None
        found[gpu] = state.energy_mj
    return found


def used_j(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> float | None:
    """Joules between two readings of the same devices; None where either is missing, or where a
    counter fell because its driver was loaded anew.
    """
    if before is None or after is None or before.keys() != after.keys():
        return None
    steps = [after[gpu] - before[gpu] for gpu in before]
    return sum(steps) / 1e3 if min(steps) >= 0 else None
