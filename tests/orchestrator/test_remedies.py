"""Remedies of loads that failed, on engines of ours and on servers of somebody else's."""

from __future__ import annotations

import pytest

from orchestrator.remedies import remedy_of
from runtimes.failure import Failure, FailureKind


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Failure(FailureKind.HUNG, "no byte", "See the engine's log; raise it."), "--timeout"),
        (
            Failure(FailureKind.REQUESTS_FAILED, "9 failed, the last with: timeout",
                    "See the engine's log for the first error."),
            "`timeouts.request`",
        ),
        (
            Failure(FailureKind.REQUESTS_FAILED, "9 of 9 failed: http 500",
                    "read the engine's log for the cause"),
            "the log of the server; it is started elsewhere",
        ),
        (
            Failure(FailureKind.REQUESTS_FAILED, "9 of 9 failed: http 429: queue is full",
                    "read the engine's log for the cause"),
            "send fewer requests at once",
        ),
        (
            Failure(FailureKind.REQUESTS_FAILED, "8 failed, the last with: http 400: the tokenizer "
                    "has no chat template", "See the engine's log for the first error."),
            "--api completions",
        ),
        (
            Failure(FailureKind.REQUESTS_FAILED, "9 of 9 failed: wrong content type 'text/html'",
                    "read the engine's log for the cause"),
            "check the URL",
        ),
        (Failure(FailureKind.REQUESTS_FAILED, "none was due", "raise the rate"), "raise the rate"),
    ],
)  # fmt: skip
def test_nobody_is_sent_to_a_log_that_is_not_there(failure: Failure, said: str) -> None:
    found = remedy_of(failure, attached=True)
    assert said in found
    assert "engine's log" not in found
    assert remedy_of(failure, attached=False) == failure.remedy
