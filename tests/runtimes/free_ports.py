"""Ports for servers that tests start, and for those that are not there."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

from runtimes.ports import HeldPort


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now.

    Where engines listen. A port that the kernel chooses may be given to another test's socket
    before the server binds it, which for a Ray takes seconds.
    """
    with ExitStack() as stack:
        return [stack.enter_context(HeldPort(Random())).port for _ in range(count)]


def free_port() -> int:
    """A port that nobody listens on now."""
    (port,) = free_ports(1)
    return port
