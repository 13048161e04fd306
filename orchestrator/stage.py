"""The load stages of one attempt: warm up, bring the cache into its state, measure, drain."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.cache_reset import prepared
from orchestrator.engine_session import BUSY_S, EngineSession
from orchestrator.messages import Phase, StageDone, TrialOrder, secrets_of
from orchestrator.remedies import remedy_of
from orchestrator.stage_gpus import samples_of, use_of, watched
from orchestrator.stage_live import sampled
from orchestrator.stage_record import StageRun
from orchestrator.trial_devices import TrialDevices
from orchestrator.warmup import WarmUp
from runtimes.cache_state import CacheState, unprimed
from runtimes.client_limits import shortage_remedy
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.arrivals import Load
from runtimes.load.result import LoadResult, LoadStalled, LoadStopped
from runtimes.measurement import Measurement
from runtimes.peers.cross_check import cross_check
from runtimes.secrets import mask
from runtimes.telemetry.energy import used_j
from runtimes.telemetry.gpu_watch import GpuWatch
from runtimes.validity import KEPT_TEXTS
from runtimes.workloads.base import Prompt
from tracking.live import LiveFigures
from tracking.records import StageRecord

_FAILED_SHARE = 0.1
"""A stage in which more requests fail than this share is a failed trial, not a slow one."""
_INTERRUPTED = "interrupted"
_HOPELESS = "hopeless"
"""What stopped a stage that was given up for its latency, whatever became of its requests."""
_LONGEST_STAGGER_S = 30.0
_PEER_START_S = 180.0
_PEER_SLOWER = 3.0
"""Another load generator may take so many times as long as the stage took, and its start."""


class StageFailedError(Exception):
    """The engine failed during a stage; what was measured until then is kept."""

    def __init__(self, failure: Failure, stage_done: StageDone) -> None:
        self.failure = failure
        self.stage_done = stage_done
        super().__init__(failure.message)


class StageRunner:
    """Runs the stages of one attempt on its ready engine, one after the other.

    Args:
        devices: of the attempt.
        enter: told of each phase as it begins.
        live: told figures of the running stage.
    """

    def __init__(
        self,
        session: EngineSession,
        order: TrialOrder,
        *,
        devices: TrialDevices,
        enter: Callable[[Phase], None],
        live: Callable[[LiveFigures], None],
    ) -> None:
        self._session = session
        self._order = order
        self._devices = devices
        self._enter = enter
        self._live = live
        self._measuring = False
        self._warm_up = WarmUp(
            self._send, order.workload, requests=order.warmup_requests, seed=order.seed
        )

    async def run(self, index: int, load: Load, *, repeat_of: int | None = None) -> StageDone:
        """Run `load` as stage `index`, from 0; `repeat_of` is the stage that it repeats.

        Raises:
            EngineError: the engine failed before it was measured.
            StageFailedError: it failed while being measured.
        """
        session = self._session
        self._enter(Phase.WARMING)
        run, prompts = await self._begun(index, load)
        run = replace(run, repeat_of=repeat_of)
        energy_before = await self._devices.energy()
        sampled_before, watch = len(session.samples), self._devices.watch()
        try:
            async with watched(watch):
                self._enter(Phase.MEASURING)
                result = await self._measured(index, load, prompts)
        except LoadStopped as cut:
            run = self._seen(replace(run, result=cut.result), sampled_before, watch)
            failure = await self._cut_short(cut)
            raise StageFailedError(failure, await _done(run)) from None
        run = self._seen(replace(run, result=result), sampled_before, watch)
        energy_j = used_j(energy_before, await self._devices.energy())
        after, _ = await session.idle_counters(index)
        self._warm_up.measured(result.records)
        run = replace(run, after=after, energy_j=energy_j)
        return await self._judged(await _done(run), run)

    def interrupt(self) -> bool:
        """End the measured load that runs, keeping what was measured; False when none does."""
        if self._measuring:
            self._session.interrupt()
        return self._measuring

    async def cross_checked(self, load: Load, done: StageRecord) -> StageRecord:
        """`done`, with what the order's other load generator measures of the same load.

        It runs when the stages are over; whatever becomes of it, `done` stands.
        """
        session, order, measured = self._session, self._order, done.measurement
        if len(session.endpoints) > 1:
            note = f"{order.cross_check}: not run, since it knows no load over several servers"
            return replace(done, cross_check_note=note)
        prompts, _ = await asyncio.to_thread(self._prompts, done.stage, load)
        sent = measured.requests_completed + measured.requests_failed
        (endpoint,) = session.endpoints
        found = await cross_check(
            order.cross_check,
            session.job(prompts[:sent], load),
            endpoint.address,
            programs=session.programs,
            api_key=endpoint.api_key,
            limit_s=_PEER_START_S + _PEER_SLOWER * measured.duration_s,
        )
        note = mask(found.note, secrets_of(order))
        return replace(done, cross_check=found.figures, cross_check_note=note)

    async def _begun(self, index: int, load: Load) -> tuple[StageRun, Sequence[Prompt]]:
        """Everything before the measured load; what is known by then, and what it will send."""
        session, order = self._session, self._order
        prompts, primers = await asyncio.to_thread(self._prompts, index, load)
        try:
            # What is measured first may be lighter than what comes right after it.
            warmed = await self._warm_up.before(load if index else order.program.warm_up, prompts)
            cache = await prepared(session, order, primers)
        except LoadStopped as cut:
            raise EngineError(await self._cut_short(cut)) from None
        before, idle = await session.idle_counters(index, busy_s=BUSY_S)
        run = StageRun(
            order,
            index,
            load,
            LoadResult((), 0, 0, 0.0),
            warmed=warmed,
            cache=cache,
            primer_tokens=sum(len(primer.token_ids) for primer in primers),
            before=before,
            idle=idle,
            prefix_cache=session.prefix_cache,
        )
        return run, prompts

    def _prompts(self, index: int, load: Load) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
        workload, stage = self._order.workload, str(index)
        prompts, primers = workload.prompts(stage, load.requests), workload.primers(stage)
        if primers and self._order.cache is CacheState.COLD:
            prompts = unprimed(prompts, primers)
        return prompts, primers

    async def _measured(self, index: int, load: Load, prompts: Sequence[Prompt]) -> LoadResult:
        kept = KEPT_TEXTS if self._order.workload.content_free else 0
        stagger_s = min(self._warm_up.service_s, _LONGEST_STAGGER_S)
        job = replace(
            self._session.job(prompts, load),
            seed=_arrival_seed(self._order.seed, index),
            stagger_s=stagger_s,
            keep_text=kept,
        )
        self._measuring = True
        try:
            async with sampled(self._session, self._order, index, self._live) as on_progress:
                return await self._session.load(job, on_progress)
        finally:
            self._measuring = False

    def _seen(self, run: StageRun, sampled_before: int, watch: GpuWatch) -> StageRun:
        """`run`, with what its engine and its devices said while its load ran."""
        samples = self._session.samples
        said = tuple(samples[sampled_before:])
        samples += samples_of(watch, run.index)
        return replace(run, samples=said, gpu_use=use_of(watch))

    async def _send(self, prompts: Sequence[Prompt], load: Load) -> LoadResult:
        return await self._session.load(self._session.job(prompts, load))

    async def _judged(self, done: StageDone, run: StageRun) -> StageDone:
        """`done`, unless it shows that the engine failed."""
        session = self._session
        too_few = _too_few_completed(done.record.measurement, run.result, run.load)
        if too_few is not None:
            await session.settle()
        if session.died:
            raise StageFailedError(session.failure("serve"), done)
        if too_few is not None:
            remedy = remedy_of(too_few, attached=session.attached)
            failure = replace(too_few, remedy=remedy, log_tail=session.log_tail())
            raise StageFailedError(failure, done)
        return done

    async def _cut_short(self, cut: LoadStopped) -> Failure:
        """Why a load ended early: the process died, or it lives and does not answer."""
        session = self._session
        if not isinstance(cut, LoadStalled):
            await session.settle()
        if session.died:
            return session.failure("serve")
        remedy = remedy_of(cut.failure, attached=session.attached)
        return replace(cut.failure, remedy=remedy, log_tail=session.log_tail())


def _arrival_seed(seed: int, index: int) -> int:
    """Of the arrivals of stage `index`: a rate that is tried again meets other gaps."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


async def _done(run: StageRun) -> StageDone:
    # Off the loop: other trials of this bundle are being measured on it.
    return await asyncio.to_thread(run.done)


def _too_few_completed(measurement: Measurement, result: LoadResult, load: Load) -> Failure | None:
    failed, total = measurement.requests_failed, len(result.records)
    if measurement.stopped_by == _HOPELESS:
        return None
    if not total and measurement.stopped_by != _INTERRUPTED:
        lasted = "" if load.stop.duration_s is None else f" in the {load.stop.duration_s:g} s"
        words = f"no request completed{lasted} of the stage; none was due by then"
        return Failure(FailureKind.REQUESTS_FAILED, words, "raise the load's rate or its duration")
    if failed <= _FAILED_SHARE * total:
        return None
    reasons = sorted({record.error for record in result.records if record.error})
    words = f"{failed} of {total} requests failed: {'; '.join(reasons[:3])}"
    remedies = [shortage_remedy(record.error) for record in result.records]
    own = [remedy for remedy in remedies if remedy is not None]
    if failed - len(own) <= _FAILED_SHARE * total:
        return Failure(FailureKind.CLIENT_LIMITED, words, own[0])
    return Failure(FailureKind.REQUESTS_FAILED, words, "read the engine's log for the cause")
