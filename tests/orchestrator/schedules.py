"""Events and expectations of scheduler tests, in few words."""

from __future__ import annotations

from orchestrator.placement import Bundle
from orchestrator.scheduler import (
    Action,
    Answered,
    Ask,
    AttemptEnded,
    BundleReady,
    Event,
    Launch,
    Limits,
    Record,
    Restored,
    Scheduler,
    Tick,
    Waiting,
)
from runtimes.failure import Failure, FailureKind
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.trial import Cancelled, Completed, Failed, Outcome, Params

DONE = Completed({"goodput": 1.0})
STOPPED = Cancelled("stopped")


def failed(kind: FailureKind) -> Failed:
    return Failed(Failure(kind, "it broke"))


def trial(
    number: int,
    gpus: int = 1,
    attempt: int = 0,
    failures: int = 0,
    *,
    label: str | None = None,
) -> Waiting:
    return Waiting(number, Params("toy", {"x": number}), gpus, attempt, failures, label)


def node(name: str, gpus: int, *labels: str) -> Bundle:
    ids = tuple(str(index) for index in range(gpus))
    return Bundle(name, f"node-{name}", ids, labels=frozenset(labels))


def dirty(gpu: str) -> DirtyGpu:
    """A device whose memory stays, nobody knows why."""
    return DirtyGpu(gpu, "dirty", "nobody", 20 << 30, 1 << 30)


def foreign(gpu: str) -> DirtyGpu:
    """A device that somebody else uses."""
    return DirtyGpu(gpu, "foreign", "pid 7", 20 << 30, 1 << 30)


class Study:
    """A scheduler on bundles of the given sizes, and a clock that stands unless it is set.

    Bundles are called `a`, `b`, …; proposals are given by hand with `propose`.
    """

    def __init__(
        self, *sizes: int, limits: Limits | None = None, restored: Restored | None = None
    ) -> None:
        self.now_s = 0.0
        self.scheduler = Scheduler(limits or Limits(), restored or Restored())
        self.asked: list[int] = []
        for index, size in enumerate(sizes):
            self.tell(BundleReady(node("abcdefgh"[index], size)))
        self.first = self.tell(Tick())

    def tell(self, *events: Event) -> list[Action]:
        """The actions that follow from `events`; what is asked for is kept in `asked`."""
        actions: list[Action] = []
        for event in events:
            actions += self.scheduler.handle(event, self.now_s)
        self.asked += [action.number for action in actions if isinstance(action, Ask)]
        return [action for action in actions if not isinstance(action, Ask)]

    def devices(self, number: int) -> Allocation | None:
        """What the running attempt of a trial holds."""
        return self.scheduler.allocation(number)

    def propose(self, gpus: int = 1) -> list[Action]:
        """Answer the oldest question with a trial of that many GPUs."""
        number = self.asked.pop(0)
        return self.tell(Answered(number, trial(number, gpus)))

    def propose_all(self, *sizes: int) -> list[int]:
        """Numbers of the trials that were launched while proposals of these sizes came."""
        return [number for gpus in sizes for number in launched(self.propose(gpus))]

    def end(
        self, number: int, outcome: Outcome = DONE, attempt: int = 0, *found: DirtyGpu
    ) -> list[Action]:
        """An attempt ends; `found` are those of its devices that are not free."""
        return self.tell(AttemptEnded(number, attempt, outcome, found))


def launched(actions: list[Action]) -> list[int]:
    """Numbers of the trials started."""
    return [action.trial.number for action in actions if isinstance(action, Launch)]


def recorded(actions: list[Action]) -> list[tuple[int, int, Outcome, bool]]:
    """Number, attempt, outcome and retry of what is recorded."""
    return [
        (action.trial.number, action.trial.attempt, action.outcome, action.retry)
        for action in actions
        if isinstance(action, Record)
    ]
