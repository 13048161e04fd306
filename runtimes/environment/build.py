"""What building an environment takes: a lock that outlives its holder's death, guarded commands."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from runtimes.environment.launch import environment_failed
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.secrets import mask_credentials
from runtimes.supervisor import EngineProcess, engine_environment

Report = Callable[[str], None]
"""Called with what is being done, in words."""

_GRACE_S = 2.0
_LOCK_POLL_S = 0.2
_PROGRESS_POLL_S = 1.0
_PROGRESS_CHARACTERS = 120
# They send an installation elsewhere than into the environment that is being built.
_MISLEADING = frozenset({"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"})


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the commands of one build log, what they see, and who hears of progress."""

    log: Path
    env: Mapping[str, str]
    report: Report

    @classmethod
    def of(cls, log: Path, env: Mapping[str, str], report: Report) -> Tools:
        """`env` freed of what points a Python, or pip, elsewhere."""
        base = {name: value for name, value in env.items() if name not in _MISLEADING}
        clean = engine_environment(base, extra={}, secrets={}, visible_devices=None)
        return cls(log, clean, report)

    async def run(self, argv: Sequence[str], *, lock: int) -> tuple[int, str]:
        """Run `argv` under the guard; its exit status and the log's tail.

        `lock` stays held until all that `argv` started is gone, even if this process is killed.
        """
        async with EngineProcess.running(
            argv,
            env=self.env,
            log_path=self.log,
            cwd=Path("/"),
            grace_s=_GRACE_S,
            held_fds=(lock,),
        ) as process:
            ended = asyncio.ensure_future(process.wait())
            try:
                last = process.log_tail(1)  # the log may have lines of an earlier command
                while not ended.done():
                    await asyncio.wait({ended}, timeout=_PROGRESS_POLL_S)
                    line = process.log_tail(1)
                    if line and line != last:
                        self.report(mask_credentials(line)[:_PROGRESS_CHARACTERS])
                    last = line
                return ended.result(), process.log_tail()
            finally:
                ended.cancel()


@asynccontextmanager
async def building_once(target: Path, tools: Tools, what: str) -> AsyncIterator[int]:
    """Hold the lock of `target` while the block builds it; yields the lock's file.

    An `EngineError` in the block is also raised in whoever was waiting for the lock meanwhile:
    eight processes that ask for what cannot be built learn so from one attempt.

    Args:
        target: what is built; the lock and the last failure are files beside it.
        tools: hears that one waits.
        what: is built, in words.

    Raises:
        EngineError: an attempt failed since this one began to wait, or the folder of `target`
            cannot be written or locked.
    """
    asked_ns = time.time_ns()
    failed = target.with_name(f"{target.name}.failed")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise environment_failed(
            f"{target.parent} cannot be written: {error}",
            "set SERVETUNE_CACHE to a folder of the node that can",
        ) from error
    try:
        waited = False
        while not _taken(lock, target):
            if not waited:
                tools.report(f"waiting for another process that builds {what}")
            waited = True
            await asyncio.sleep(_LOCK_POLL_S)
        if waited:
            _raise_failure(failed, since_ns=asked_ns)
        try:
            yield lock
        except EngineError as error:
            _record_failure(failed, error.failure)
            raise
        failed.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _taken(lock: int, target: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise environment_failed(
            f"{target.parent} is on a file system without locks: {error}",
            "set SERVETUNE_CACHE to a folder on a disk of the node",
        ) from error
    return True


def _record_failure(path: Path, failure: Failure) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a full disk may be the very failure
        draft.write_text(json.dumps(asdict(failure) | {"kind": failure.kind.value}))
        draft.replace(path)


def _raise_failure(path: Path, *, since_ns: int) -> None:
    try:
        if path.stat().st_mtime_ns < since_ns:
            return
        fields = json.loads(path.read_text())
    except OSError:
        return
    raise EngineError(Failure(**fields | {"kind": FailureKind(fields["kind"])}))
