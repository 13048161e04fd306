"""An attempt's own clock."""

from __future__ import annotations

import asyncio

from orchestrator.messages import Measured, Phase, PhaseEntered, TrialEvent
from orchestrator.trial_body import TrialBody
from runtimes.failure import FailureKind
from tests.e2e.studies import FAULT
from tests.orchestrator.attempts import Attempt, order, several


class LateAttempt(Attempt):
    """An attempt whose time is up the moment its engine is to stop."""

    def __post_init__(self) -> None:
        self.body = TrialBody(self.order, self._note)

    def _note(self, event: TrialEvent) -> None:
        self.events.append(event)
        if isinstance(event, PhaseEntered) and event.phase is Phase.STOPPING:
            limit = self.body._limit
            assert limit is not None
            limit.reschedule(asyncio.get_running_loop().time())


def test_time_that_runs_out_while_the_engine_stops_takes_no_measurement_away() -> None:
    attempt = LateAttempt(several(order(), {FAULT: "stubborn"}))
    asyncio.run(attempt.run())
    assert isinstance(attempt.done.result, Measured)
    assert attempt.done.facts.stop_s is not None


def test_nor_does_it_hide_why_the_engine_failed() -> None:
    attempt = LateAttempt(several(order(), {FAULT: "oom"}))
    asyncio.run(attempt.run())
    assert attempt.failure.kind is FailureKind.OOM_WEIGHTS


def test_a_trial_that_takes_too_long_is_a_timeout() -> None:
    attempt = Attempt(order(requests=50_000, trial_s=3.0))
    asyncio.run(attempt.run())
    assert attempt.failure.kind is FailureKind.TRIAL_TIMEOUT
    assert "3 s" in attempt.failure.message
    assert "timeouts.trial" in attempt.failure.remedy
