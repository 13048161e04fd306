"""A process tree that does not want to end, as a script: what a guard has to cope with.

    process_tree.py RECORD ENDING

    engine
    ├── child ── stubborn              ignores SIGTERM
    ├── detached ── detached-child     in a session of their own; the child ignores SIGTERM
    ├── respawner                      on SIGTERM leaves a new process that ignores it
    └── (gone) ── daemon               double fork, own session

Every process appends a line `role pid started` to RECORD. Once all are there the engine does
as ENDING says: `serve` until told otherwise, `ignore` SIGTERM and serve, `exit` with status 7,
`abort`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROLES = ("engine", "child", "stubborn", "detached", "detached-child", "respawner", "daemon")
RECORD = Path(sys.argv[1])


def record(role: str) -> None:
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    with RECORD.open("a") as file:
        file.write(f"{role} {os.getpid()} {started}\n")


def serve(role: str) -> NoReturn:
    record(role)
    while True:
        signal.pause()


def fork(body: Callable[[], NoReturn]) -> None:
    if os.fork() == 0:
        body()


def ignore_sigterm(role: str) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(role)


def child() -> NoReturn:
    fork(lambda: ignore_sigterm("stubborn"))
    serve("child")


def detached() -> NoReturn:
    os.setsid()
    fork(lambda: ignore_sigterm("detached-child"))
    serve("detached")


def respawner() -> NoReturn:
    def respawn(_number: int, _frame: FrameType | None) -> None:
        fork(lambda: ignore_sigterm("respawned"))
        os._exit(0)

    signal.signal(signal.SIGTERM, respawn)
    serve("respawner")


def daemon() -> NoReturn:
    os.setsid()
    fork(lambda: serve("daemon"))
    os._exit(0)


def main(ending: str) -> None:
    for body in (child, detached, respawner):
        fork(body)
    middle = os.fork()
    if middle == 0:
        daemon()
    os.waitpid(middle, 0)
    if ending == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record("engine")
    while len(RECORD.read_text().splitlines()) < len(ROLES):
        time.sleep(0.01)
    if ending == "exit":
        sys.exit(7)
    if ending == "abort":
        os.abort()
    while True:
        signal.pause()


main(sys.argv[2])
