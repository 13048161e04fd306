"""What a stage of load leaves: records, progress on the way, and the two ways it ends early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from runtimes.errors import EngineError
from runtimes.failure import Failure
from runtimes.measurement import ClientHealth, RequestRecord


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Every request that was started, by index.

    Attributes:
        started_ns, ended_ns: the stage on the records' clock.
        start_unix_s: wall clock at `started_ns`, the one anchor between the two clocks.
        client: how well what sent the load kept up; None where nobody looked.
        stopped_by: stop rule that ended it before its last request; empty for none.
        last_arrival_ns: until when the load had something left to begin; what ended later ran
            under a load that was falling.
    """

    records: tuple[RequestRecord, ...]
    started_ns: int
    ended_ns: int
    start_unix_s: float
    client: ClientHealth | None = None
    stopped_by: str = ""
    last_arrival_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """Values added up as they come."""

    count: int = 0
    total: float = 0.0

    def plus(self, value: float | None) -> Sum:
        """With one more; None is none."""
        return self if value is None else Sum(self.count + 1, self.total + value)

    def mean_since(self, before: Sum) -> float | None:
        """Mean of what came after `before`; None where nothing did."""
        count = self.count - before.count
        return (self.total - before.total) / count if count else None


_NOTHING = Sum()


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Where a running stage stands.

    Attributes:
        output_tokens: counts content chunks until a request's `usage` corrects it.
        ttft_ms, tpot_ms: of all requests that have completed.
        lag_ms: the longest that the event loop of a process ran late since the progress before.
    """

    completed: int
    failed: int
    planned: int
    output_tokens: int
    in_flight: int = 0
    ttft_ms: Sum = _NOTHING
    tpot_ms: Sum = _NOTHING
    lag_ms: float = 0.0


OnProgress: TypeAlias = Callable[[LoadProgress], None]


class LoadStopped(EngineError):  # noqa: N818 (says what happened to the load)
    """A stage that could not be finished; `result` holds what was recorded."""

    def __init__(self, failure: Failure, result: LoadResult) -> None:
        self.result = result
        super().__init__(failure)


class LoadStalled(LoadStopped):
    """Requests were in flight and no byte came for any of them."""


class LoadAborted(LoadStopped):
    """Too many requests failed in a row."""
