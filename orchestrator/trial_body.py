"""What a bundle does for one attempt: start, make ready, warm up, measure, stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from orchestrator.engine_session import EngineSession
from orchestrator.messages import (
    AttemptDone,
    Broken,
    Facts,
    Measured,
    Phase,
    PhaseEntered,
    StageDone,
    Stopped,
    TrialEvent,
    TrialOrder,
)
from orchestrator.stage import StageFailedError, run_stage
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.secrets import mask, secret_values
from tracking.parquet.write import encode_samples
from tracking.records import Sample

Emit: TypeAlias = Callable[[TrialEvent], None]

_LOG_BYTES = 1 << 20
"""A longer engine log keeps its two ends; the middle is left out, and says so."""


class TrialBody:
    """One attempt. `run` emits its events and ends with exactly one `AttemptDone`."""

    def __init__(self, order: TrialOrder, emit: Emit) -> None:
        self._order = order
        self._emit = emit
        self._phase_began = time.monotonic()
        self._phase: Phase | None = None
        self._durations: dict[Phase, float] = {}
        self._samples: list[Sample] = []
        self._session: EngineSession | None = None
        self._flags: set[str] = set()

    async def run(self) -> None:
        """Run the attempt to its end, whatever that is; cancelling the task stops the engine."""
        started_unix_s = time.time()
        scratch = Path(tempfile.mkdtemp(prefix="servetune-"))
        try:
            result = await self._attempt(scratch)
        finally:
            log = self._masked(read_ends(scratch / "engine.log", _LOG_BYTES))
            shutil.rmtree(scratch, ignore_errors=True)
        self._enter(None)
        samples = await asyncio.to_thread(
            encode_samples,
            run=self._order.run,
            number=self._order.number,
            attempt=self._order.attempt,
            samples=self._samples,
        )
        self._emit(AttemptDone(result, self._facts(started_unix_s), samples, log))

    async def _attempt(self, scratch: Path) -> Measured | Broken | Stopped:
        limit_s = self._order.timeouts.trial_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._serve_and_measure(scratch)
        except asyncio.CancelledError:
            return Stopped("cancelled")
        except EngineError as error:
            return self._broken(error.failure)
        except TimeoutError:
            words = f"the trial took longer than {limit_s:g} s"
            remedy = "raise `timeouts.trial`, or send fewer requests"
            return self._broken(Failure(FailureKind.TRIAL_TIMEOUT, words, remedy))
        except Exception:  # noqa: BLE001  # the boundary of a trial: a bug here ends one trial, not the study
            last = traceback.format_exc()
            words = f"a bug in servetune: {last.strip().splitlines()[-1]}"
            failure = Failure(FailureKind.INTERNAL, words, "report it with the log", None, last)
            return self._broken(failure)

    async def _serve_and_measure(self, scratch: Path) -> Measured:
        order = self._order
        self._enter(Phase.STARTING)
        async with EngineSession.started(order, scratch / "engine.log") as session:
            self._session = session
            self._enter(Phase.STARTING, announce=True)
            try:
                await session.ready()
                done = [await self._stage(session, index) for index in range(len(order.stages))]
            except StageFailedError as failed:
                self._keep(failed.stage_done)
                raise EngineError(failed.failure) from None
            finally:
                self._samples = session.samples
                self._enter(Phase.STOPPING)
        last = done[-1].record
        return Measured(last.stage, last.measurement)

    async def _stage(self, session: EngineSession, index: int) -> StageDone:
        done = await run_stage(
            session, self._order, index, enter=self._enter, live=self._emit, flags=self._flags
        )
        self._emit(done)
        return done

    def _keep(self, done: StageDone | None) -> None:
        """Requests measured before a failure are part of the record."""
        if done is not None:
            self._emit(done)

    def _enter(self, phase: Phase | None, *, announce: bool = False) -> None:
        """Count the time of the phase before and tell the driver of the new one."""
        now = time.monotonic()
        pids = self._session.process_ids if self._session is not None else ()
        if phase is self._phase and not announce:
            return
        spent = now - self._phase_began
        if self._phase is not None and phase is not self._phase:
            self._durations[self._phase] = self._durations.get(self._phase, 0.0) + spent
        if phase is not self._phase:
            self._phase, self._phase_began = phase, now
        if phase is not None:
            self._emit(PhaseEntered(phase, pids, spent))

    def _broken(self, failure: Failure) -> Broken:
        masked = Failure(
            failure.kind,
            self._masked(failure.message),
            failure.remedy,
            failure.exit_code,
            self._masked(failure.log_tail),
        )
        return Broken(masked)

    def _masked(self, text: str) -> str:
        """`text` without the secrets of the order and of this process, which engines inherit."""
        return mask(text, [*self._order.secrets.values(), *secret_values(os.environ)])

    def _facts(self, started_unix_s: float) -> Facts:
        session = self._session
        report = session.report if session is not None else None
        return Facts(
            started_unix_s=started_unix_s,
            ended_unix_s=time.time(),
            startup_s=self._durations.get(Phase.STARTING),
            warmup_s=self._durations.get(Phase.WARMING),
            measure_s=self._durations.get(Phase.MEASURING),
            stop_s=self._durations.get(Phase.STOPPING),
            process_ids=session.process_ids if session is not None else (),
            engine_version=report.version if report is not None else "",
            engine_config=(
                {name: self._masked(value) for name, value in report.config.items()}
                if report is not None
                else {}
            ),
            flags=tuple(sorted(self._flags)),
        )


def read_ends(path: Path, limit_bytes: int) -> str:
    """The file's text; of a longer one, its first and last halves of `limit_bytes`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= limit_bytes:
                return file.read().decode(errors="replace")
            head = file.read(limit_bytes // 2)
            file.seek(-(limit_bytes // 2), 2)
            tail = file.read()
    except FileNotFoundError:
        return ""
    left_out = size - len(head) - len(tail)
    gap = f"\n… {left_out} bytes left out …\n"
    return head.decode(errors="replace") + gap + tail.decode(errors="replace")
