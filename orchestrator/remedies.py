"""What to do about a load that failed, where the server's log is not ours to read."""

from __future__ import annotations

from runtimes.failure import Failure, FailureKind

_LOG = "engine's log"


def remedy_of(failure: Failure, *, attached: bool) -> str:
    """The remedy of `failure`; where `attached`, one that sends nobody to a log of ours."""
    if not attached or _LOG not in failure.remedy:
        return failure.remedy
    if failure.kind is FailureKind.HUNG:
        return (
            "look whether the server still works; raise `timeouts.stall` (servetune bench: "
            "--timeout) if a prefill may take that long"
        )
    if "timeout" in failure.message:
        return (
            "send fewer requests at once, or raise `timeouts.request` (servetune bench: --timeout)"
        )
    return "read the log of the server; it is started elsewhere, and this record has none of it"
