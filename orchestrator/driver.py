"""The driver: one loop between cluster, scheduler, sampler and record."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

from orchestrator.cluster.base import Cluster
from orchestrator.device_reports import DeviceReports
from orchestrator.logs import about
from orchestrator.messages import (
    AttemptDone,
    ClusterEvent,
    CrossChecked,
    FoundBundle,
    FromTrial,
    GpusAwaited,
    LostBundle,
    PhaseEntered,
    ReturnedGpu,
    StageDone,
    StartStep,
)
from orchestrator.observer import Observer, Status
from orchestrator.placement import Bundle, node_label
from orchestrator.recorder import Recorder, told_outcome
from orchestrator.scheduler import (
    Action,
    Answered,
    Ask,
    AttemptEnded,
    BundleGone,
    BundleReady,
    Cancel,
    End,
    Event,
    GpusReleased,
    Launch,
    Record,
    Scheduler,
    StopAsked,
    Tick,
    Waiting,
    Watch,
)
from orchestrator.wiring import Study
from search.samplers.base import Sampler
from search.trial import Cancelled, Params
from tracking.events import (
    BundleLost,
    BundleTaken,
    Ending,
    Launched,
    PhaseChanged,
    Proposed,
    SpaceExhausted,
    StopRequested,
)
from tracking.journal import Journal
from tracking.live import LiveFigures
from tracking.pareto import ParetoFront
from tracking.records import TrialRecord
from tracking.run_data import attaches, rank

_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody asks the driver to end the study; from a signal handler or another thread."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The sampler's answer, from its thread."""

    number: int
    params: Params | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Bug:
    """An exception in the sampler's thread; raised again in the driver's loop."""

    error: BaseException


Message: TypeAlias = ClusterEvent | Stop | Reply | Bug
Inbox: TypeAlias = "queue.SimpleQueue[Message]"


class Driver:
    """Runs one study to its end. `inbox` is where everything that happens arrives."""

    def __init__(
        self,
        study: Study,
        run: str,
        *,
        inbox: Inbox,
        cluster: Cluster,
        scheduler: Scheduler,
        sampler: Sampler,
        recorder: Recorder,
        journal: Journal,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._study = study
        self._run = run
        self._inbox = inbox
        self._cluster = cluster
        self._scheduler = scheduler
        self._sampler = sampler
        self._recorder = recorder
        self._journal = journal
        self._observers = observers
        self._devices = DeviceReports(journal, observers)
        self._asking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servetune-sampler")
        self._began_s = time.monotonic()
        self._bundles: dict[str, Bundle] = {}
        self._done: dict[tuple[int, int], AttemptDone] = {}
        self._spent_before_s = scheduler.gpu_seconds(0.0)
        self._capacity_s = 0.0
        self._capacity_since_s = 0.0
        self._stop_told = False
        self._front = ParetoFront(study.goals)
        self._attached = all(map(attaches, study.experiment.spec.engines))
        self.interrupted = False
        self.counts: Counter[str] = Counter()
        self.best: TrialRecord | None = None

    def loop(self) -> str:
        """Work until the scheduler says the study has ended; returns why."""
        reason = ""
        try:
            while not reason:
                reason = self._take(self._next_message())
        finally:
            self._asking.shutdown(wait=True, cancel_futures=True)
        return reason

    @property
    def ending(self) -> Ending:
        """How the study ended, once `loop` has."""
        return self._scheduler.ending

    def adopt(self, record: TrialRecord) -> None:
        """Count a trial that finished before this driver began."""
        self.counts[record.state.value] += 1
        self._front.add(record)
        self._consider(record)

    def _next_message(self) -> Message | None:
        try:
            return self._inbox.get(timeout=_TICK_S)
        except queue.Empty:
            return None

    def _take(self, message: Message | None) -> str:
        """Handle one message and everything that follows from it; the reason once it is over."""
        for event in self._events_of(message) or [Tick()]:
            for action in self._scheduler.handle(event, self._now_s()):
                if isinstance(action, End):
                    self._tell_status()
                    return action.reason
                self._execute(action)
        if self._scheduler.stopping and not self._stop_told:
            self._stop_told = True
            self._journal.append(StopRequested(self._scheduler.stopping))
            for observer in self._observers:
                observer.stopping(self._scheduler.stopping)
        self._tell_status()
        return ""

    def _events_of(self, message: Message | None) -> list[Event]:
        match message:
            case None:
                return [Tick()]
            case FoundBundle(bundle):
                return [self._bundle_found(bundle)]
            case LostBundle(bundle_id, reason):
                self._journal.append(BundleLost(bundle_id, reason))
                self._count_capacity()
                return [BundleGone(bundle_id, reason)]
            case FromTrial(number, attempt, event):
                if not self._scheduler.runs(number, attempt):
                    return []  # of an attempt that was given up with its bundle
                with about(self._run, number, attempt):
                    return self._trial_event(number, attempt, event)
            case ReturnedGpu(bundle_id, gpu):
                return [self._gpu_returned(bundle_id, gpu)]
            case Stop(reason):
                self.interrupted = True
                return [StopAsked(reason)]
            case Reply():
                return [self._answered(message)]
            case Bug(error):
                raise error

    def _bundle_found(self, bundle: Bundle) -> Event:
        self._count_capacity()
        bundle = replace(bundle, labels=bundle.labels | {node_label(bundle.node)})
        self._bundles[bundle.id] = bundle
        # What a lost bundle could hold stays admissible: it may be there again on resume.
        self._study.bundles = list(self._bundles.values())
        self._recorder.bundle_found(bundle.id, bundle.gpu_model)
        self._journal.append(
            BundleTaken(
                bundle.id,
                bundle.node,
                bundle.gpu_model,
                list(bundle.gpu_ids),
                sorted(bundle.labels),
            )
        )
        return BundleReady(bundle)

    def _gpu_returned(self, bundle_id: str, gpu: str) -> Event:
        self._count_capacity()
        self._devices.returned(bundle_id, self._bundles[bundle_id].node, gpu)
        return GpusReleased(bundle_id, (gpu,))

    def _answered(self, reply: Reply) -> Event:
        for observer in self._observers:
            observer.asked(self._study.experiment.spec.search.sampler, reply.seconds)
        if reply.params is None:
            self._journal.append(SpaceExhausted())
            return Answered(reply.number, None)
        plan = self._study.admission.plan(reply.params)
        self._journal.append(
            Proposed(reply.number, reply.params.engine, reply.params.values, plan.config_id)
        )
        label = plan.environment.label
        return Answered(reply.number, Waiting(reply.number, reply.params, plan.gpus, label=label))

    def _trial_event(self, number: int, attempt: int, event: object) -> list[Event]:
        allocation = self._scheduler.allocation(number)
        if isinstance(event, PhaseEntered):
            self._journal.append(
                PhaseChanged(number, attempt, event.phase.value, list(event.process_ids))
            )
            for observer in self._observers:
                observer.phase(number, attempt, event.phase, event.previous_s)
                if event.metrics_urls:
                    observer.serving(number, attempt, event.metrics_urls)
        elif isinstance(event, StartStep):
            for observer in self._observers:
                observer.step(number, attempt, event.words)
        elif isinstance(event, LiveFigures):
            for observer in self._observers:
                observer.live(event)
        elif isinstance(event, StageDone):
            self._recorder.stage(event)
            for observer in self._observers:
                observer.stage(event)
        elif isinstance(event, CrossChecked):
            self._recorder.cross_checked(event)
        elif isinstance(event, GpusAwaited) and allocation is not None:
            self._devices.awaited(number, attempt, allocation.node, event.gpus)
        elif isinstance(event, AttemptDone):
            self._done[number, attempt] = event
            if event.facts.dirty and allocation is not None:
                self._count_capacity()
                self._devices.withheld(number, attempt, allocation, event.facts.dirty)
            gpus = self._gpus_of(number)
            outcome = self._recorder.outcome_of(event, gpus)
            if isinstance(outcome, Cancelled):
                outcome = Cancelled(self._scheduler.stopping or outcome.reason)
            return [AttemptEnded(number, attempt, outcome, event.facts.dirty)]
        return []

    def _gpus_of(self, number: int) -> int:
        allocation = self._scheduler.allocation(number)
        return len(allocation.gpu_ids) if allocation is not None else 1

    def _execute(self, action: Action) -> None:
        match action:
            case Ask(number):
                self._ask(number)
            case Launch():
                self._launch(action)
            case Cancel(number, attempt):
                allocation = self._scheduler.allocation(number)
                if allocation is not None:
                    self._cluster.cancel(allocation.bundle, number, attempt)
            case Watch(bundle_id, gpu):
                self._cluster.watch(bundle_id, gpu)
            case Record():
                self._record(action)

    def _ask(self, number: int) -> None:
        def ask() -> None:
            began = time.perf_counter()
            params = self._sampler.ask(number)
            self._inbox.put(Reply(number, params, time.perf_counter() - began))

        self._watch(self._asking.submit(ask))

    def _launch(self, action: Launch) -> None:
        trial, allocation = action.trial, action.allocation
        plan = self._study.admission.plan(trial.params)
        expected = self._study.predictions.expected(trial.params)
        self._journal.append(
            Launched(
                trial.number,
                trial.attempt,
                allocation.bundle,
                allocation.node,
                list(allocation.gpu_ids),
                expected.finite() if expected is not None else {},
                self._study.predictions.communication_ratio(trial.params),
            )
        )
        self._cluster.launch(self._study.order(self._run, trial, plan, allocation))
        for observer in self._observers:
            observer.launched(trial, allocation)

    def _record(self, action: Record) -> None:
        """Store, journal, sampler, observers: on disk before anyone is told."""
        trial, outcome = action.trial, action.outcome
        plan = self._study.admission.plan(trial.params)
        record = self._recorder.attempt(
            trial,
            plan,
            action.allocation,
            outcome,
            done=self._done.pop((trial.number, trial.attempt), None),
            retry=action.retry,
            held_s=action.held_s,
        )
        if not action.retry:
            self.adopt(record)
            self._tell_sampler(trial, record)
        for observer in self._observers:
            observer.finished(record, action.retry)

    def _tell_sampler(self, trial: Waiting, record: TrialRecord) -> None:
        if trial.number in self._recorder.baselines | self._recorder.references:
            # The engine's defaults are no point of the space: what was left out has no value.
            return
        told = told_outcome(record)
        self._watch(self._asking.submit(self._sampler.tell, trial.number, trial.params, told))

    def _watch(self, future: Future[None]) -> None:
        def report(done: Future[None]) -> None:
            error = None if done.cancelled() else done.exception()
            if error is not None:
                self._inbox.put(Bug(error))

        future.add_done_callback(report)

    def _consider(self, record: TrialRecord) -> None:
        goal = self._study.goals[0]
        if record.reference or goal.name not in record.objectives:
            return
        if self.best is None or rank(goal, record) < rank(goal, self.best):
            self.best = record

    def _tell_status(self) -> None:
        now_s = self._now_s()
        inventory = self._scheduler.inventory
        busy_s = self._scheduler.gpu_seconds(now_s) - self._spent_before_s
        self._count_capacity()
        status = Status(
            elapsed_s=now_s,
            queued=self._scheduler.queued,
            running=self._scheduler.running,
            busy_gpus=inventory.capacity - inventory.free,
            capacity_gpus=inventory.capacity,
            foreign_gpus=inventory.foreign,
            quarantined_gpus=inventory.quarantined,
            busy_gpu_seconds=busy_s,
            idle_gpu_seconds=max(0.0, self._capacity_s - busy_s),
            counts=dict(self.counts),
            best=self.best,
            pareto=len(self._front.trials),
        )
        if self._attached:  # slots were counted; no GPU is the study's
            status = replace(
                status, busy_gpus=0, capacity_gpus=0, busy_gpu_seconds=0.0, idle_gpu_seconds=0.0
            )
        for observer in self._observers:
            observer.status(status)

    def _count_capacity(self) -> None:
        """Add the device time that was there to be used since the last call."""
        now_s = self._now_s()
        self._capacity_s += self._scheduler.inventory.capacity * (now_s - self._capacity_since_s)
        self._capacity_since_s = now_s

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s
