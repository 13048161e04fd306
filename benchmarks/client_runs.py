"""One client as a subprocess on one core, and the CPU that it and its children use, over time."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICK_S = 0.02
_CLOCK_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ClientRun:
    """A client that has ended.

    Attributes:
        said: the JSON object it printed last.
        cpu: (CLOCK_MONOTONIC ns, CPU-seconds of the process and all below it) readings.
    """

    said: Mapping[str, Any]
    cpu: Sequence[tuple[int, float]]

    def cpu_between(self, start_ns: int, end_ns: int) -> float:
        """CPU-seconds used between two instants, from the readings around them."""
        return self._cpu_at(end_ns) - self._cpu_at(start_ns)

    def _cpu_at(self, at_ns: int) -> float:
        before, after = self.cpu[0], self.cpu[-1]
        for reading in self.cpu:
            if reading[0] <= at_ns:
                before = reading
            else:
                after = reading
                break
        span_ns = after[0] - before[0]
        if span_ns <= 0:
            return before[1]
        share = (at_ns - before[0]) / span_ns
        return before[1] + (after[1] - before[1]) * min(1.0, max(0.0, share))


def run_client(
    argv: Sequence[str], *, core: int, env: Mapping[str, str] | None = None
) -> ClientRun:
    """Run `argv` pinned to `core` to its end, reading its CPU time 50 times a second.

    Raises:
        RuntimeError: it failed; the message has the end of what it printed.
    """
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=None if env is None else {**os.environ, **env},
    )
    readings: list[tuple[int, float]] = []
    ended = threading.Event()

    def read_cpu() -> None:
        while not ended.wait(_TICK_S):
            readings.append((time.perf_counter_ns(), _tree_cpu_s(process.pid)))

    thread = threading.Thread(target=read_cpu, daemon=True)
    thread.start()
    out, _ = process.communicate()
    ended.set()
    thread.join()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(argv[:4])} …: exit {process.returncode}\n{out[-2000:]}")
    said = next((line for line in reversed(out.splitlines()) if line.startswith("{")), "{}")
    return ClientRun(json.loads(said), _increasing(readings))


def _increasing(readings: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Without the readings at the end, where processes that ended are missing from the sum."""
    kept: list[tuple[int, float]] = []
    for reading in readings:
        if not kept or reading[1] >= kept[-1][1]:
            kept.append(reading)
    return kept


def _tree_cpu_s(root: int) -> float:
    """CPU-seconds of `root`, its descendants, and those of theirs that were waited for."""
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / _CLOCK_HZ
