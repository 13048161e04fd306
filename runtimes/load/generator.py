"""One stage of load: sends prompts when the load says, and records every request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter_ns

import orjson

from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from runtimes.load.arrivals import ConcurrencyLoad, Load
from runtimes.load.completion import CompletionStream
from runtimes.load.http import HttpError, LoadClient
from runtimes.load.job import LoadJob
from runtimes.load.result import (
    LoadAborted,
    LoadProgress,
    LoadResult,
    LoadStalled,
    LoadStopped,
    OnProgress,
)
from runtimes.measurement import RequestRecord
from runtimes.workloads.base import Prompt

__all__ = ["LoadAborted", "LoadProgress", "LoadResult", "LoadStalled", "LoadStopped", "run_load"]

MIN_FAILURES_IN_ROW = 10
"""So many failures without a success in between end a stage; more when more were in flight at
once, since one cause can fail all of those."""
OPEN_LOOP_CONNECTIONS = 64
"""Connections an open loop starts with; it opens more when it needs them."""
PROGRESS_EVERY_S = 0.25
SPIN_S = 0.0015
"""The last stretch before a send is waited for by polling: event loops wake up to 1 ms late."""


async def run_load(
    client: LoadClient, job: LoadJob, *, on_progress: OnProgress | None = None
) -> LoadResult:
    """Send the first `load.requests` prompts of `job` and return when each has ended.

    Bodies are made and connections opened before the clock starts. Whatever a server does wrong
    is the error of a record. Cancelling ends every request and leaves the client usable.

    Args:
        client: of the server under test.
        job: what to send, and when.
        on_progress: called at most four times a second, and at the end.

    Raises:
        ValueError: fewer prompts than the load has requests.
        LoadStalled: the server was silent for `stall_timeout_s`.
        LoadAborted: requests failed `MIN_FAILURES_IN_ROW` times in a row, or more when more
            were in flight.
    """
    load = job.load
    if len(job.prompts) < load.requests:
        words = f"the load has {load.requests} requests, but got {len(job.prompts)} prompts"
        raise ValueError(words)
    prompts = job.prompts[: load.requests]
    requests = [
        client.post_request(job.api.path, completion_body(prompt, job.model, job.request_fields))
        for prompt in prompts
    ]
    connections = load.value if isinstance(load, ConcurrencyLoad) else OPEN_LOOP_CONNECTIONS
    with suppress(HttpError, TimeoutError):  # a server that is gone fails the requests themselves
        async with asyncio.timeout(job.request_timeout_s):
            await client.open(min(connections, load.requests))
    stage = _Stage(client, prompts, requests, load, job.seed, job.request_timeout_s)
    await _watch(stage, job.stall_timeout_s, on_progress)
    return stage.result()


def completion_body(prompt: Prompt, model: str, request_fields: Mapping[str, Json]) -> bytes:
    """The JSON of one streamed completion whose length is forced."""
    return orjson.dumps(
        {
            "model": model,
            "prompt": prompt.token_ids,
            "max_tokens": prompt.output_tokens,
            "min_tokens": prompt.output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **request_fields,
        }
    )


async def _watch(
    stage: _Stage,
    stall_timeout_s: float,
    on_progress: Callable[[LoadProgress], None] | None,
) -> None:
    """Run `stage` to its end, ending it early when it stalls."""
    tick_s = min(PROGRESS_EVERY_S, stall_timeout_s / 4)
    reported_ns = perf_counter_ns()
    driving = asyncio.create_task(stage.drive())
    try:
        while not driving.done():
            await asyncio.wait({driving}, timeout=tick_s)
            now_ns = perf_counter_ns()
            if stage.silent_ns(now_ns) > stall_timeout_s * 1e9:
                stage.stall(stall_timeout_s)
                break
            if on_progress and not driving.done() and now_ns - reported_ns > PROGRESS_EVERY_S * 1e9:
                reported_ns = now_ns
                on_progress(stage.progress())
    finally:
        driving.cancel()
        await asyncio.wait({driving})
    if on_progress:
        on_progress(stage.progress())
    stage.raise_if_stopped()
    driving.result()


class _Stage:
    """The state of one running stage; everything happens on one event loop."""

    def __init__(
        self,
        client: LoadClient,
        prompts: Sequence[Prompt],
        requests: Sequence[bytes],
        load: Load,
        seed: int,
        request_timeout_s: float,
    ) -> None:
        self._client = client
        self._prompts = prompts
        self._requests = requests
        self._load = load
        self._offsets_ns = load.schedule_ns(seed, prompts)
        self._request_timeout_s = request_timeout_s
        self._records: list[RequestRecord] = []
        self._in_flight: dict[int, CompletionStream] = {}
        self._peak_in_flight = 0
        self._failed = 0
        self._failed_in_row = 0
        self._output_tokens = 0
        self._last_byte_ns = 0
        self._driving: asyncio.Task[None] | None = None
        self._stop: tuple[type[LoadStopped], Failure] | None = None
        self._start_unix_s = time.time()
        self._started_ns = perf_counter_ns()

    async def drive(self) -> None:
        """Send every request and return when all have ended."""
        self._driving = asyncio.current_task()
        self._start_unix_s = time.time()
        self._started_ns = perf_counter_ns()
        async with asyncio.TaskGroup() as group:
            if self._offsets_ns is None:
                indices = iter(range(self._load.requests))
                for _ in range(min(int(self._load.value), self._load.requests)):
                    group.create_task(self._work(indices))
            else:
                for index, offset_ns in enumerate(self._offsets_ns):
                    scheduled_ns = self._started_ns + offset_ns
                    await _sleep_until(scheduled_ns)
                    group.create_task(self._send(index, scheduled_ns))

    def silent_ns(self, now_ns: int) -> int:
        """How long no byte has come for any request in flight; 0 without one."""
        if not self._in_flight:
            return 0
        latest_ns = max(stream.last_byte_ns for stream in self._in_flight.values())
        return now_ns - max(latest_ns, self._last_byte_ns)

    def stall(self, stall_timeout_s: float) -> None:
        """End the stage because the server is silent."""
        message = (
            f"no byte from the engine for {stall_timeout_s:g} s "
            f"with {len(self._in_flight)} requests in flight"
        )
        remedy = "See the engine's log; raise the stall timeout if a prefill may take that long."
        self._end(LoadStalled, Failure(FailureKind.HUNG, message, remedy))

    def progress(self) -> LoadProgress:
        """Counts at this instant."""
        arriving = sum(len(stream.chunk_ns) for stream in self._in_flight.values())
        return LoadProgress(
            completed=len(self._records) - self._failed,
            failed=self._failed,
            planned=self._load.requests,
            output_tokens=self._output_tokens + arriving,
        )

    def result(self) -> LoadResult:
        """What was recorded so far."""
        return LoadResult(
            records=tuple(sorted(self._records, key=lambda record: record.index)),
            started_ns=self._started_ns,
            ended_ns=max((record.end_ns for record in self._records), default=self._started_ns),
            start_unix_s=self._start_unix_s,
        )

    def raise_if_stopped(self) -> None:
        """Raise why the stage ended early, if it did."""
        if self._stop is not None:
            error, failure = self._stop
            raise error(failure, self.result())

    async def _work(self, indices: Iterator[int]) -> None:
        for index in indices:
            await self._send(index, perf_counter_ns())

    async def _send(self, index: int, scheduled_ns: int) -> None:
        stream = CompletionStream()
        if not self._in_flight:
            self._last_byte_ns = perf_counter_ns()
        self._in_flight[index] = stream
        self._peak_in_flight = max(self._peak_in_flight, len(self._in_flight))
        failure: str | None = "cancelled"
        try:
            await self._client.stream(
                self._requests[index], stream, timeout_s=self._request_timeout_s
            )
            failure = None
        except HttpError as error:
            failure = error.reason
        finally:
            del self._in_flight[index]
            self._finish(index, scheduled_ns, stream, failure)

    def _finish(
        self, index: int, scheduled_ns: int, stream: CompletionStream, failure: str | None
    ) -> None:
        self._last_byte_ns = max(self._last_byte_ns, stream.last_byte_ns)
        record = stream.record(
            index=index,
            scheduled_ns=scheduled_ns,
            requested_output_tokens=self._prompts[index].output_tokens,
            failure=failure,
            ended_ns=perf_counter_ns(),
        )
        tokens = record.output_tokens
        self._output_tokens += len(record.chunk_ns) if tokens is None else tokens
        if record.error is None:
            self._failed_in_row = 0
        else:
            record = replace(record, error=self._client.mask(record.error))
            self._failed += 1
            self._failed_in_row += 1
        self._records.append(record)
        if self._failed_in_row >= max(MIN_FAILURES_IN_ROW, self._peak_in_flight):
            self._abort(record.error or "")

    def _abort(self, reason: str) -> None:
        gone = reason in ("connection refused", "connection lost", "cut stream")
        kind = FailureKind.CRASHED if gone else FailureKind.REQUESTS_FAILED
        message = f"{self._failed_in_row} requests failed in a row, the last with: {reason}"
        self._end(LoadAborted, Failure(kind, message, "See the engine's log for the first error."))

    def _end(self, error: type[LoadStopped], failure: Failure) -> None:
        """Cancel what runs; the first reason counts."""
        if self._stop is None and self._driving is not None:
            self._stop = (error, failure)
            self._driving.cancel()


async def _sleep_until(deadline_ns: int) -> None:
    """Return at `deadline_ns`, not before and rarely 0.1 ms after on a free machine."""
    while True:
        left_ns = deadline_ns - perf_counter_ns()
        if left_ns <= 0:
            return
        await asyncio.sleep(max(0.0, left_ns / 1e9 - SPIN_S))
