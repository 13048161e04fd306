"""One part of the measurement, in processes of its own that cannot take the others along."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .device import Device
from .kernels import Figure
from .said import say
from .timer import Timer

PART_S = 180.0
"""Deadline of one part."""


class Part(NamedTuple):
    """One kernel in one number format, at several sizes.

    Attributes:
        prepare: makes what all sizes share; runs in the part's own process.
        ranks: processes that take part, each with a device of its own.
    """

    name: str
    sizes: Sequence[int]
    prepare: Callable[[Device, Timer], Figure]
    ranks: int = 1

    def measure(self, device: Device, timer: Timer, *, quiet: bool = False) -> None:
        figure = self.prepare(device, timer)
        for size in self.sizes:
            value = figure(size)
            if not quiet:
                say({"part": self.name, "size": size, "value": value})

    def fail(self, reason: object) -> None:
        lines = str(reason).strip().splitlines() or [type(reason).__name__]
        say({"part": self.name, "reason": lines[0][:200]})


def attempt(part: Part, body: Callable[[], None]) -> None:
    """Run `body` in a process of its own until its deadline; what is left of it then is killed."""

    def lead() -> None:
        os.setpgid(0, 0)
        body()

    pid = forked(part, lead)
    ended = select.poll()
    ended.register(os.pidfd_open(pid), select.POLLIN)
    in_time = bool(ended.poll(PART_S * 1e3))
    if not in_time:
        part.fail(f"took longer than {PART_S:g} s")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if in_time and os.WIFSIGNALED(status):
        part.fail(ending(status))


def ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was ended by signal {os.WTERMSIG(status)}"
    return f"ended with status {os.WEXITSTATUS(status)}"


def measure_in_ranks(part: Part, device: Device, timer: Timer) -> None:
    """Measure `part` by as many processes as it has ranks; the first one tells the figures.

    Raises:
        RuntimeError: there are too few devices, or a rank ended early; the others are ended.
    """
    if part.ranks > device.devices:
        what = "GPUs" if device.on_gpu else "cores"
        raise RuntimeError(f"{part.ranks} ranks need as many {what}; there are {device.devices}")
    pids = [forked(part, partial(be_rank, rank, part, device, timer)) for rank in range(part.ranks)]
    waiting = set(pids)
    while waiting:
        pid, status = os.wait()
        waiting.discard(pid)
        if status:
            for other in waiting:  # they would wait for it
                os.kill(other, signal.SIGKILL)
            raise RuntimeError(f"rank {pids.index(pid)} {ending(status)}")


def be_rank(rank: int, part: Part, device: Device, timer: Timer) -> None:
    import torch
    import torch.distributed as group

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    if device.on_gpu:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    # They meet through a file: no port has to be free.
    meeting = Path(f"ranks-{part.ranks}").absolute()
    group.init_process_group(
        "nccl" if device.on_gpu else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=part.ranks,
        timeout=timedelta(seconds=PART_S),
    )
    part.measure(device, timer, quiet=rank != 0)
    group.destroy_process_group()


def forked(part: Part, body: Callable[[], None]) -> int:
    """Run `body` in a process of its own, which says why it fails; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    except Exception as error:  # noqa: BLE001  # torch may raise anything
        part.fail(error)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
