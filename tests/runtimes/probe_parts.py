"""Parts of a probe that crash, hang and fail, as a script that needs no torch.

    probe_parts.py DEADLINE_S

With an argument more it measures in two ranks, of which the second is killed; that needs torch.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from runtimes.calibration.probe import part as parts  # noqa: E402
from runtimes.calibration.probe.device import Device  # noqa: E402
from runtimes.calibration.probe.kernels import Figure, all_reduce  # noqa: E402
from runtimes.calibration.probe.part import Part, attempt, measure_in_ranks  # noqa: E402
from runtimes.calibration.probe.timer import Timer  # noqa: E402

DEVICE = Device("cpu", "a CPU", "amd", 1 << 30, 1 << 20, 2, {})
TIMER = Timer(DEVICE, 0.01)


def good(_device: Device, timer: Timer) -> Figure:
    return lambda size: size + timer.seconds(lambda _turn: None)


def fails(_device: Device, _timer: Timer) -> Figure:
    raise LookupError("no such kernel\nand much more")


def crashes(_device: Device, _timer: Timer) -> Figure:
    os.abort()


def hangs(_device: Device, _timer: Timer) -> Figure:
    def figure(size: int) -> float:
        if size > 1:
            if os.fork() == 0:  # what a part has started ends with it
                time.sleep(600)
            time.sleep(600)
        return 1.0

    return figure


def loses_a_rank(device: Device, timer: Timer) -> Figure:
    import torch.distributed

    figure = all_reduce(device, timer)

    def at(size: int) -> float:
        if size > 1024 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return figure(size)

    return at


parts.PART_S = float(sys.argv[1])
if len(sys.argv) > 2:
    lost = Part("all-reduce 2", [1024, 2048], loses_a_rank, 2)
    attempt(lost, lambda: measure_in_ranks(lost, DEVICE, TIMER))
else:
    for prepare in (fails, crashes, hangs, good):
        tried = Part(prepare.__name__, [1, 2], prepare)
        attempt(tried, lambda tried=tried: tried.measure(DEVICE, TIMER))  # type: ignore[misc]
