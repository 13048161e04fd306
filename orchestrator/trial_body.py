"""What a bundle does for one attempt: start, make ready, warm up, measure, stop."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from orchestrator.engine_log import read_all
from orchestrator.engine_ready import until_ready
from orchestrator.engine_session import EngineSession
from orchestrator.engine_start import started
from orchestrator.messages import (
    AttemptDone,
    Broken,
    CrossChecked,
    Facts,
    Measured,
    Phase,
    PhaseEntered,
    StartStep,
    Stopped,
    TrialEvent,
    TrialOrder,
    secrets_of,
)
from orchestrator.stage import StageFailedError, StageRunner
from orchestrator.stage_gpus import GPU_THROTTLED
from orchestrator.start_steps import StartSteps
from orchestrator.trial_devices import TrialDevices
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.arrivals import Load
from runtimes.load.program import Bracket, StageOutcome
from runtimes.secrets import mask
from tracking.parquet.sample_file import SampleFile
from tracking.records import StageRecord

Emit: TypeAlias = Callable[[TrialEvent], None]


_KEEP_S = 10.0
"""How long an interrupted stage may take until its record is made."""


class TrialBody:
    """One attempt. `run` emits its events and ends with exactly one `AttemptDone`."""

    def __init__(self, order: TrialOrder, emit: Emit) -> None:
        self._order = order
        self._emit = emit
        self._phase_began = time.monotonic()
        self._phase: Phase | None = None
        self._durations: dict[Phase, float] = {}
        self._samples = SampleFile(run=order.run, number=order.number, attempt=order.attempt)
        self._session: EngineSession | None = None
        self._devices = TrialDevices(order, emit)
        self._steps = StartSteps(lambda words: emit(StartStep(self._masked(words))))
        self._limit: asyncio.Timeout | None = None
        self._held_s: float | None = None
        self._flags: set[str] = set()
        self._slo_rates = Bracket()
        self._work: asyncio.Task[Measured | Broken] | None = None
        self._cancelled = False
        self._runner: StageRunner | None = None
        self._log = ""

    def cancel(self) -> None:
        """Stop the attempt, begun or not; `run` still ends in good order."""
        again, self._cancelled = self._cancelled, True
        if self._work is None:
            return
        if not again and self._runner is not None and self._runner.interrupt():
            # What was measured of the stage is kept, if that does not take long.
            asyncio.get_running_loop().call_later(_KEEP_S, self._work.cancel)
        else:
            self._work.cancel()

    async def run(self) -> None:
        """Run the attempt to its end, whatever that is. Stop it with `cancel`."""
        started_unix_s = time.time()
        result: Measured | Broken | Stopped
        samples = b""
        try:
            try:
                result = await self._in_scratch()
            finally:
                await self._devices.until_released()
            self._enter(None)
            await self._keep_samples()
            samples = await asyncio.to_thread(self._samples.complete)
        except Exception as error:  # noqa: BLE001  # the boundary of a trial: a bug ends one trial
            result = self._broken(_bug(error))
        self._emit(AttemptDone(result, self._facts(started_unix_s), samples, self._log))

    async def _in_scratch(self) -> Measured | Broken | Stopped:
        """The attempt in a folder of its own, of which only the engine's log is kept."""
        scratch = Path(tempfile.mkdtemp(prefix="servetune-"))
        try:
            self._work = asyncio.ensure_future(self._attempt(scratch))
            if self._cancelled:
                self._work.cancel()
            return await self._work
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            return Stopped("cancelled")
        finally:
            self._steps.close()
            self._log = self._masked(read_all(scratch))
            shutil.rmtree(scratch, ignore_errors=True)

    async def _attempt(self, scratch: Path) -> Measured | Broken:
        limit_s = self._order.timeouts.trial_s
        try:
            async with asyncio.timeout(limit_s) as self._limit:
                return await self._serve_and_measure(scratch)
        except EngineError as error:
            return self._broken(error.failure)
        except TimeoutError:
            words = f"the trial took longer than {limit_s:g} s"
            remedy = "raise `timeouts.trial`, or send fewer requests"
            return self._broken(Failure(FailureKind.TRIAL_TIMEOUT, words, remedy))

    async def _serve_and_measure(self, scratch: Path) -> Measured:
        order = self._order
        self._enter(Phase.STARTING)
        await self._devices.until_free()
        async with started(order, scratch, self._steps, hold=self._hold) as session:
            self._session = session
            self._phase_began = session.began_s
            self._enter(Phase.STARTING, announce=True)
            try:
                await until_ready(session, self._steps)
                deciding = await self._stages(session)
            except StageFailedError as failed:
                # Requests measured before a failure are part of the record.
                self._emit(failed.stage_done)
                self._flags.update(failed.stage_done.record.measurement.flags)
                raise EngineError(failed.failure) from None
            finally:
                self._enter(Phase.STOPPING)
                self._stop_clock()
        # From here on no process of the engine lives.
        self._flags.update(deciding.measurement.flags)
        return Measured(deciding.stage, deciding.measurement, self._slo_rates)

    def _hold(self, waiting: bool) -> None:
        """Stop the trial's clock while it waits for another trial, and let it go on."""
        if self._limit is None:
            return
        now_s = asyncio.get_running_loop().time()
        until_s = self._limit.when()
        if waiting and until_s is not None:
            self._held_s = until_s - now_s
            self._limit.reschedule(None)
        elif not waiting and self._held_s is not None:
            self._limit.reschedule(now_s + self._held_s)
            self._held_s = None

    def _stop_clock(self) -> None:
        """What was measured, or why it failed, stands: the time an engine takes to end, which its
        own limits bound, does not turn it into a timeout.
        """
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(None)

    async def _stages(self, session: EngineSession) -> StageRecord:
        """Run the stages that the program asks for; the one whose measurement is the trial's."""
        program = self._order.program
        runner = self._runner = StageRunner(
            session,
            self._order,
            devices=self._devices,
            enter=self._enter,
            live=self._emit,
        )
        done: list[StageOutcome] = []
        records: list[StageRecord] = []
        while (load := program.next_stage(done)) is not None:
            index = records[-1].stage + 1 if records else 0
            record = await self._settled(runner, index, load)
            done.append(StageOutcome(load, record.measurement))
            records.append(record)
        deciding = program.deciding(done)
        self._slo_rates = program.bracket(done)
        if self._order.cross_check:
            self._stop_clock()  # it has a limit of its own, and what was measured stands
            checked = await runner.cross_checked(done[deciding].load, records[deciding])
            self._emit(CrossChecked(checked))
        return records[deciding]

    async def _settled(self, runner: StageRunner, index: int, load: Load) -> StageRecord:
        """Measure `load` as stage `index`; where a device was throttled in it, once more as the
        next one, and that one counts.
        """
        first = await self._measured(runner, index, load)
        if GPU_THROTTLED not in first.measurement.flags:
            return first
        return await self._measured(runner, index + 1, load, repeat_of=index)

    async def _measured(
        self, runner: StageRunner, index: int, load: Load, *, repeat_of: int | None = None
    ) -> StageRecord:
        stage = await runner.run(index, load, repeat_of=repeat_of)
        self._emit(stage)
        await self._keep_samples()
        if self._cancelled:
            self._flags.update(stage.record.measurement.flags)
            raise asyncio.CancelledError
        return stage.record

    async def _keep_samples(self) -> None:
        """Compress the samples taken so far: of a long attempt they would fill the memory."""
        if self._session is not None:
            await asyncio.to_thread(self._samples.add, self._session.taken_samples())

    def _enter(self, phase: Phase | None, *, announce: bool = False) -> None:
        """Count the time of the phase before and tell the driver of the new one."""
        now = time.monotonic()
        pids = self._session.process_ids if self._session is not None else ()
        urls = self._session.metrics_urls if self._session is not None else ()
        if phase is self._phase and not announce:
            return
        spent = now - self._phase_began
        if self._phase is not None and phase is not self._phase:
            self._durations[self._phase] = self._durations.get(self._phase, 0.0) + spent
        if phase is not self._phase:
            self._phase, self._phase_began = phase, now
        if phase is not None:
            self._emit(PhaseEntered(phase, pids, spent, urls))

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
        return mask(text, secrets_of(self._order))

    def _facts(self, started_unix_s: float) -> Facts:
        session = self._session
        report = session.report if session is not None else None
        flags = (
            self._flags | self._devices.flags | (session.flags if session is not None else set())
        )
        return Facts(
            started_unix_s=started_unix_s,
            ended_unix_s=time.time(),
            startup_s=self._durations.get(Phase.STARTING),
            warmup_s=self._durations.get(Phase.WARMING),
            measure_s=self._durations.get(Phase.MEASURING),
            stop_s=self._durations.get(Phase.STOPPING),
            process_ids=session.process_ids if session is not None else (),
            engine_version=self._masked(report.version) if report is not None else "",
            engine_config=(
                {name: self._masked(value) for name, value in report.config.items()}
                if report is not None
                else {}
            ),
            flags=tuple(sorted(flags)),
            dirty=self._devices.dirty,
            gpu_uuids=self._devices.uuids,
            driver=self._devices.driver,
        )


def _bug(error: Exception) -> Failure:
    text = "".join(traceback.format_exception(error))
    words = f"a bug in servetune or its machine: {type(error).__name__}: {error}"
    return Failure(FailureKind.INTERNAL, words, "report it with the log", None, text)
