"""Where a run stands, folded from its journal and its store; the store wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.scheduler import Restored, Waiting
from orchestrator.wiring import Study
from search.trial import Params, TrialState
from tracking.events import Event, Finished, Proposed, RunStarted, SpaceExhausted
from tracking.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a run.

    Attributes:
        proposed: every trial the sampler named, in the order of its answers.
        finished: number → its last attempt's row, for trials that need not run again.
        exhausted: the sampler had nothing left.
        attempts: number → attempt the next launch has.
        gpu_seconds, elapsed_s: spent so far.
    """

    proposed: tuple[Proposed, ...] = ()
    finished: dict[int, TrialRecord] = field(default_factory=dict)
    exhausted: bool = False
    attempts: dict[int, int] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    elapsed_s: float = 0.0

    def restored(self, study: Study) -> Restored:
        """Where the scheduler goes on: unfinished trials wait again, under their own numbers."""
        waiting = []
        for proposal in self.proposed:
            if proposal.number not in self.finished:
                params = Params(proposal.engine, proposal.values)
                gpus = study.admission.plan(params).gpus
                attempt = self.attempts.get(proposal.number, 0)
                waiting.append(Waiting(proposal.number, params, gpus, attempt))
        return Restored(
            waiting=tuple(waiting),
            next_number=max((proposal.number for proposal in self.proposed), default=-1) + 1,
            exhausted=self.exhausted,
            gpu_seconds=self.gpu_seconds,
            elapsed_s=self.elapsed_s,
        )


def fold(journal: Sequence[tuple[float, Event]], trials: Iterable[TrialRecord]) -> Standing:
    """Where the run stands.

    A trial is finished when its row is on disk, whether or not the journal got to say so. One
    that was cancelled is not, nor one whose failure the journal says was to be retried: they run
    again, as a further attempt.
    """
    proposed: dict[int, Proposed] = {}
    retried: set[tuple[int, int]] = set()
    exhausted = False
    for _, event in journal:
        if isinstance(event, Proposed):
            proposed[event.number] = event
        elif isinstance(event, Finished) and event.retry:
            retried.add((event.number, event.attempt))
        elif isinstance(event, SpaceExhausted):
            exhausted = True
    finished: dict[int, TrialRecord] = {}
    attempts: dict[int, int] = {}
    gpu_seconds = 0.0
    for record in sorted(trials, key=lambda record: (record.number, record.attempt)):
        gpu_seconds += record.gpu_seconds
        attempts[record.number] = record.attempt + 1
        finished.pop(record.number, None)
        again = record.state is TrialState.CANCELLED
        if not again and (record.number, record.attempt) not in retried:
            finished[record.number] = record
    return Standing(
        proposed=tuple(proposed.values()),
        finished=finished,
        exhausted=exhausted,
        attempts=attempts,
        gpu_seconds=gpu_seconds,
        elapsed_s=_elapsed_s(journal),
    )


def _elapsed_s(journal: Sequence[tuple[float, Event]]) -> float:
    """Wall clock of all drivers of the run: from each start to the last event before the next."""
    total = 0.0
    began: float | None = None
    last = 0.0
    for at_s, event in journal:
        if isinstance(event, RunStarted):
            if began is not None:
                total += last - began
            began = at_s
        last = at_s
    return total + (last - began if began is not None else 0.0)
