"""Where a run stands, folded from its journal and its store; the store wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.placement import Room, node_label
from orchestrator.scheduler import Limits, Restored, Waiting
from orchestrator.wiring import Study
from search.trial import Params, TrialState
from tracking.device_time import drivers, rowless_gpu_seconds
from tracking.events import BundleTaken, Event, Launched, Proposed, RunStarted
from tracking.records import TrialRecord

_RETRIES = Limits().retries


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a run.

    Attributes:
        run: its id; empty before anything happened.
        proposed: every trial the sampler named, in the order of its answers.
        finished: number → its last attempt's row, for trials that need not run again.
        attempts: number → attempt the next launch has.
        failures: number → attempts that failed in a way worth another one.
        gpu_seconds, elapsed_s: spent so far, by killed attempts too.
        rooms: what the bundles of the run could hold, lost ones included.
    """

    run: str = ""
    proposed: tuple[Proposed, ...] = ()
    finished: dict[int, TrialRecord] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    elapsed_s: float = 0.0
    rooms: tuple[Room, ...] = ()

    def restored(self, study: Study) -> Restored:
        """Where the scheduler goes on: unfinished trials wait again, under their own numbers."""
        waiting = []
        for proposal in self.proposed:
            number = proposal.number
            if number not in self.finished:
                params = Params(proposal.engine, proposal.values)
                plan = study.admission.plan(params)
                attempt, failures = self.attempts.get(number, 0), self.failures.get(number, 0)
                label = node_label(proposal.node) if proposal.node else plan.environment.label
                waiting.append(Waiting(number, params, plan.gpus, attempt, failures, label))
        return Restored(
            waiting=tuple(waiting),
            next_number=max((proposal.number for proposal in self.proposed), default=-1) + 1,
            gpu_seconds=self.gpu_seconds,
            elapsed_s=self.elapsed_s,
            rooms=self.rooms,
        )


def fold(
    journal: Sequence[tuple[float, Event]],
    trials: Iterable[TrialRecord],
    *,
    retries: int = _RETRIES,
) -> Standing:
    """Where the run stands.

    A trial is finished when its row is on disk, whether or not the journal got to say so. One
    that was cancelled is not, nor one with no more than `retries` failures that another attempt
    may not have: they run again, as a further attempt.
    """
    rows = sorted(trials, key=lambda record: (record.number, record.attempt))
    finished: dict[int, TrialRecord] = {}
    failures: Counter[int] = Counter()
    for row in rows:
        retryable = row.state is TrialState.FAILED and row.failure and row.failure.kind.retryable
        failures[row.number] += bool(retryable)
        finished.pop(row.number, None)
        again = row.state is TrialState.CANCELLED or (retryable and failures[row.number] <= retries)
        if not again:
            finished[row.number] = row
    events = [event for _, event in journal]
    known = {(row.number, row.attempt) for row in rows}
    taken = [event for event in events if isinstance(event, BundleTaken)]
    return Standing(
        run=next((event.run for event in events if isinstance(event, RunStarted)), ""),
        proposed=_proposed(events, rows),
        finished=finished,
        attempts=_next_attempts(events, rows),
        failures=dict(failures),
        gpu_seconds=sum(row.gpu_seconds for row in rows) + rowless_gpu_seconds(journal, known),
        elapsed_s=sum(end - start for start, end in drivers(journal)),
        rooms=tuple(
            dict.fromkeys(Room(len(event.gpu_ids), frozenset(event.labels)) for event in taken)
        ),
    )


def _proposed(events: Iterable[Event], rows: Iterable[TrialRecord]) -> tuple[Proposed, ...]:
    """Every trial the journal or the store knows: a damaged journal loses no row."""
    known = {event.number: event for event in events if isinstance(event, Proposed)}
    for row in rows:
        if row.number not in known:
            known[row.number] = Proposed(
                row.number,
                row.engine,
                row.params,
                row.config_id,
                row.baseline,
                row.reference,
                row.node if row.reference else "",
            )
    return tuple(known.values())


def _next_attempts(events: Iterable[Event], rows: Iterable[TrialRecord]) -> dict[int, int]:
    """One past the last attempt, one that was killed included: its files must not be mistaken."""
    following: dict[int, int] = {}
    begun = [(event.number, event.attempt) for event in events if isinstance(event, Launched)]
    for number, attempt in [*begun, *((row.number, row.attempt) for row in rows)]:
        following[number] = max(following.get(number, 0), attempt + 1)
    return following
