"""The scheduler: a state machine without clock, disk or cluster.

`handle(event, now_s)` changes the state and answers with the actions to take. The driver turns
what happens into events and executes the actions; the same events give the same actions, so
that the scheduler is tested as plain code and simulated on any number of devices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.decisions import (
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
    Limits,
    Record,
    Restored,
    StopAsked,
    Tick,
    Waiting,
    Watch,
)
from orchestrator.placement import Inventory, Room, capacity_reason
from runtimes.failure import Failure, FailureKind
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.trial import Cancelled, Failed, Infeasible, Outcome
from tracking.events import Ending

__all__ = [
    "Action",
    "Answered",
    "Ask",
    "AttemptEnded",
    "BundleGone",
    "BundleReady",
    "Cancel",
    "End",
    "Event",
    "GpusReleased",
    "Launch",
    "Limits",
    "Record",
    "Restored",
    "Scheduler",
    "StopAsked",
    "Tick",
    "Waiting",
    "Watch",
]


@dataclass(slots=True)
class _Running:
    trial: Waiting
    allocation: Allocation
    since_s: float
    cancelled: bool = False


@dataclass(slots=True)
class _Queued:
    trial: Waiting
    overtaken: int = 0


@dataclass(slots=True)
class Scheduler:
    """State of one study; mutated through `handle` alone."""

    limits: Limits
    restored: Restored = field(default_factory=Restored)
    _inventory: Inventory = field(default_factory=Inventory)
    _queue: list[_Queued] = field(default_factory=list)
    _running: dict[int, _Running] = field(default_factory=dict)
    _asking: bool = False
    _stop: str = ""
    _ending: Ending = Ending.COMPLETE
    _ended: bool = False
    _next: int = 0
    _exhausted: bool = False
    _gpu_seconds: float = 0.0
    _rooms_seen: set[Room] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._queue = [_Queued(trial) for trial in self.restored.waiting]
        self._next = self.restored.next_number
        self._rooms_seen = set(self.restored.rooms)
        self._gpu_seconds = self.restored.gpu_seconds

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    @property
    def queued(self) -> int:
        """Proposed trials that wait for devices."""
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._running)

    def allocation(self, number: int) -> Allocation | None:
        """Devices the running attempt of trial `number` holds; None when it does not run."""
        running = self._running.get(number)
        return running.allocation if running is not None else None

    def runs(self, number: int, attempt: int) -> bool:
        """Whether this very attempt holds devices now."""
        running = self._running.get(number)
        return running is not None and running.trial.attempt == attempt

    @property
    def stopping(self) -> str:
        """Why nothing new is started; empty while the study goes on."""
        return self._stop

    @property
    def ending(self) -> Ending:
        """How the study ends, as far as is known: to its last trial unless something stops it."""
        return self._ending

    def gpu_seconds(self, now_s: float) -> float:
        """Device time spent, by what runs included, since the study first began."""
        running = (len(r.allocation.gpu_ids) * (now_s - r.since_s) for r in self._running.values())
        return self._gpu_seconds + sum(running)

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Take `event`, which happened `now_s` seconds after this driver began."""
        actions: list[Action] = []
        match event:
            case BundleReady(bundle):
                self._inventory.add(bundle)
                self._rooms_seen.add(bundle.room)
            case BundleGone(bundle_id, reason):
                actions += self._bundle_gone(bundle_id, reason, now_s)
            case Answered(number, trial):
                self._answered(number, trial)
            case AttemptEnded():
                actions += self._attempt_ended(event, now_s)
            case GpusReleased(bundle_id, gpu_ids):
                self._inventory.give_back(bundle_id, gpu_ids)
            case StopAsked(reason):
                actions += self._stop_asked(reason)
            case Tick():
                pass
        self._check_budget(now_s)
        # Bundles are found one after the other: what the cluster can hold is known, and asked
        # about, when the next thing happens.
        return [*actions, *self._go_on(now_s, settled=not isinstance(event, BundleReady))]

    def _answered(self, number: int, trial: Waiting | None) -> None:
        self._asking = False
        if trial is None:
            self._exhausted = True
            return
        self._next = max(self._next, number + 1)
        self._queue.append(_Queued(trial))

    def _attempt_ended(self, event: AttemptEnded, now_s: float) -> list[Action]:
        number, attempt, outcome = event.number, event.attempt, event.outcome
        running = self._running.get(number)
        if running is None or running.trial.attempt != attempt:
            return []
        del self._running[number]
        watched = self._withhold(running.allocation.bundle, event.dirty)
        self._inventory.release(running.allocation)
        held_s = now_s - running.since_s
        self._gpu_seconds += len(running.allocation.gpu_ids) * held_s
        retry = (
            isinstance(outcome, Failed)
            and outcome.failure.kind.retryable
            and running.trial.failures < self.limits.retries
            and not self._stop
        )
        if retry:
            trial = running.trial
            again = replace(trial, attempt=attempt + 1, failures=trial.failures + 1)
            self._queue.insert(0, _Queued(again))
        return [*watched, Record(running.trial, running.allocation, outcome, retry, held_s)]

    def _withhold(self, bundle_id: str, dirty: tuple[DirtyGpu, ...]) -> list[Action]:
        """Keep devices that are not free from the next trial; foreign ones may come back."""
        foreign = [gpu for gpu in dirty if gpu.kind == "foreign"]
        self._inventory.withhold(bundle_id, [gpu.gpu for gpu in foreign])
        lost = [gpu.gpu for gpu in dirty if gpu.kind == "dirty"]
        self._inventory.quarantine(bundle_id, lost)
        rooms = self._inventory.rooms
        if lost and not any(room.gpus for room in rooms):
            self._stop_with("every GPU of the study is quarantined")
        return [Watch(bundle_id, gpu) for gpu in foreign]

    def _bundle_gone(self, bundle_id: str, reason: str, now_s: float) -> list[Action]:
        self._inventory.remove(bundle_id)
        failure = Failure(
            FailureKind.NODE_LOST, reason, "look at the node; the trial is tried again"
        )
        lost = [r for r in self._running.values() if r.allocation.bundle == bundle_id]
        actions: list[Action] = []
        for running in lost:
            trial = running.trial
            outcome = Cancelled(self._stop) if running.cancelled else Failed(failure)
            ended = AttemptEnded(trial.number, trial.attempt, outcome)
            actions += self._attempt_ended(ended, now_s)
        if not self._inventory.bundles:
            self._stop_with("every node of the study is lost")
        return actions

    def _stop_with(self, reason: str, ending: Ending = Ending.STOPPED) -> None:
        """Start nothing new from here on; the first reason stays."""
        if not self._stop:
            self._stop, self._ending = reason, ending

    def _stop_asked(self, reason: str) -> list[Action]:
        self._stop_with(reason)
        actions: list[Action] = []
        for running in self._running.values():
            if not running.cancelled:
                running.cancelled = True
                actions.append(Cancel(running.trial.number, running.trial.attempt, reason))
        return actions

    def _check_budget(self, now_s: float) -> None:
        limits = self.limits
        if self._stop:
            return
        elapsed_s = self.restored.elapsed_s + now_s
        if limits.wall_clock_s is not None and elapsed_s >= limits.wall_clock_s:
            spent = f"{limits.wall_clock_s:g} s wall clock"
        elif limits.gpu_seconds is not None and self.gpu_seconds(now_s) >= limits.gpu_seconds:
            spent = f"{limits.gpu_seconds / 3600:g} GPU hours"
        else:
            return
        self._stop_with(f"the budget of {spent} is spent", Ending.BUDGET)

    def _go_on(self, now_s: float, *, settled: bool) -> list[Action]:
        if self._ended:
            return []
        actions: list[Action] = []
        if not self._stop:
            actions += self._refuse_unplaceable() if settled else []
            actions += self._launch(now_s)
            actions += self._ask() if settled else []
        if not self._running and not self._asking and (self._stop or not self._queue):
            reason = self._stop or self._done()
            if reason:
                self._ended = True
                actions.append(End(reason))
        return actions

    def _done(self) -> str:
        if self._exhausted:
            return "every combination was tried"
        if self.limits.trials is not None and self._next >= self.limits.trials:
            trials = self.limits.trials
            return "the only trial was tried" if trials == 1 else f"all {trials} trials were tried"
        return ""

    def _refuse_unplaceable(self) -> list[Action]:
        """End trials that no bundle can ever hold.

        One that would have fitted devices which are lost is cancelled, and may run when the study
        is resumed on better days; one that never fitted is infeasible.
        """
        rooms = self._inventory.rooms if self._queue else ()
        if not rooms:
            return []
        actions: list[Action] = []
        for queued in list(self._queue):
            gpus, label = queued.trial.gpus, queued.trial.label
            reason = capacity_reason(gpus, rooms, label)
            if reason is None:
                continue
            self._queue.remove(queued)
            outcome: Outcome = Infeasible(reason)
            present = self._inventory.bundles.values()
            if any(bundle.room.takes(gpus, label) for bundle in present):
                outcome = Cancelled(f"{reason}: a GPU is quarantined")
            elif any(room.takes(gpus, label) for room in self._rooms_seen):
                outcome = Cancelled(f"{reason}: a node is lost")
            actions.append(Record(queued.trial, None, outcome, retry=False))
        return actions

    def _launch(self, now_s: float) -> list[Action]:
        """Start what fits, in order; small trials pass a large one only `overtakes` times."""
        actions: list[Action] = []
        passed: list[_Queued] = []
        for queued in list(self._queue):
            allocation = self._inventory.allocate(
                queued.trial.gpus, self._kept(passed), label=queued.trial.label
            )
            if allocation is None:
                passed.append(queued)
                continue
            for earlier in passed:
                earlier.overtaken += 1
            self._queue.remove(queued)
            self._running[queued.trial.number] = _Running(queued.trial, allocation, now_s)
            actions.append(Launch(queued.trial, allocation))
        return actions

    def _kept(self, waiting: list[_Queued]) -> set[str]:
        """Bundles whose devices are collected for those of `waiting` that were passed enough."""
        kept: set[str] = set()
        for queued in waiting:
            if queued.overtaken >= self.limits.overtakes:
                trial = queued.trial
                bundle = self._inventory.nearest(trial.gpus, kept, label=trial.label)
                if bundle is not None:
                    kept.add(bundle)
        return kept

    def _ask(self) -> list[Action]:
        """One proposal ahead always; more only while devices are free and nothing fits them."""
        if self._asking or self._exhausted or not self._inventory.bundles:
            return []
        if self.limits.trials is not None and self._next >= self.limits.trials:
            return []
        kept = self._kept(self._queue)
        wanted = self.limits.lookahead if self._inventory.free_without(kept) else 1
        if len(self._queue) - len(kept) >= wanted:
            return []
        self._asking = True
        return [Ask(self._next)]
