"""Requests of stages made by hand, and what they come to."""

from __future__ import annotations

from runtimes.load.result import LoadResult
from runtimes.measurement import Measurement, RequestRecord
from runtimes.slo import Slo
from runtimes.statistics import summarise

MS = 1_000_000


def record(
    index: int,
    *,
    sent_ms: float = 0.0,
    chunks_ms: tuple[float, ...] = (),
    end_ms: float = 0.0,
    scheduled_ms: float | None = None,
    prompt: int | None = 10,
    output: int | None = 3,
    requested: int = 3,
    error: str | None = None,
) -> RequestRecord:
    return RequestRecord(
        index=index,
        scheduled_ns=int((sent_ms if scheduled_ms is None else scheduled_ms) * MS),
        sent_ns=int(sent_ms * MS),
        chunk_ns=tuple(int(at * MS) for at in chunks_ms),
        end_ns=int(end_ms * MS),
        prompt_tokens=prompt,
        output_tokens=output,
        requested_output_tokens=requested,
        error=error,
    )


def measure(*records: RequestRecord, slo: Slo | None = None) -> Measurement:
    return summarise(LoadResult(records, 0, 0, 0.0), slo or Slo())


FAST = record(0, sent_ms=1000, chunks_ms=(1100, 1110, 1130), end_ms=1131)
SLOW = record(1, sent_ms=2000, chunks_ms=(2300, 2350, 2400), end_ms=3000)
FAILED = record(2, sent_ms=2500, chunks_ms=(2600, 2900), end_ms=3500, error="cut stream")


def evenly(count: int, *, apart_ms: float = 100.0) -> list[RequestRecord]:
    """An open loop of even gaps: chunks 50, 100 and 150 ms after the send, the last at the end."""
    sends = [index * apart_ms for index in range(count)]
    return [
        record(
            index, sent_ms=sent, chunks_ms=(sent + 50, sent + 100, sent + 150), end_ms=sent + 150
        )
        for index, sent in enumerate(sends)
    ]
