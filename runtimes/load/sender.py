"""Sends one process's share of a stage, on one event loop, and records every request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from heapq import heapify, heappop, heappush
from time import perf_counter_ns
from typing import NamedTuple

from runtimes.client_limits import shortage_reason, shortage_remedy
from runtimes.errors import EngineError
from runtimes.failure import Failure, FailureKind
from runtimes.load.alarm import Alarm
from runtimes.load.completion import CompletionStream
from runtimes.load.connection import HttpError
from runtimes.load.exchange import Exchange, LoadClient
from runtimes.load.health import LoopProbe, ProcessHealth
from runtimes.load.job import LoadJob
from runtimes.load.shares import PlannedSession, share_of, slots_at
from runtimes.measurement import RequestRecord

MIN_FAILURES_IN_ROW = 10
"""So many failures without a success in between end a stage; more when more were in flight at
once, since one cause can fail all of those."""
OPEN_LOOP_CONNECTIONS = 64
"""Connections an open loop starts with at least; it opens more when it needs them."""
TICK_S = 0.02
"""How often a closed loop looks whether it is to hold more sessions."""
_MIN_TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Share:
    """What one of `workers` processes sends.

    Attributes:
        job: the stage; its prompts are not looked at.
        sessions: those that this process sends, made of the prompts.
    """

    job: LoadJob
    sessions: Sequence[PlannedSession]
    worker: int = 0
    workers: int = 1

    def held(self, elapsed_s: float) -> int:
        """Sessions that this process is to hold in flight in a closed loop; 0 for an open loop."""
        return share_of(slots_at(self.job, elapsed_s) or 0, self.worker, self.workers)

    @property
    def connections(self) -> int:
        """Connections that it is expected to need.

        In an open loop, one for each session of the first mean service time, which is the stagger.
        """
        load, workers = self.job.load, self.workers
        if load.held(0.0) is None:
            first_ns = self.job.stagger_s * 1e9
            expected = sum((session.begin_ns or 0) <= first_ns for session in self.sessions)
            return min(len(self.sessions), max(OPEN_LOOP_CONNECTIONS // workers, expected, 1))
        return min(len(self.sessions), share_of(math.ceil(load.value), self.worker, workers))


class Report(NamedTuple):
    """What happened in one process since its report before.

    Attributes:
        records: requests that ended, in that order.
        in_flight: requests that were under way.
        arriving_chunks: content chunks of those so far.
        heard_ns: when a byte last came, or when a request was sent after a time without any.
        unsent: requests that are still to be sent, or were when the share was stopped.
        failed_in_row: failures in a row that ended the share, 0 for none; the last one's reason.
        lag_ms: the longest that the loop ran late since.
    """

    records: list[RequestRecord]
    in_flight: int
    arriving_chunks: int
    heard_ns: int
    unsent: int
    failed_in_row: int = 0
    reason: str = ""
    lag_ms: float = 0.0


class Sender:
    """The state of one share of a running stage.

    Everything happens in callbacks of the loop, without a task for a request: the next request
    of a slot, or turn of a session, is sent from where the end of the one before was read. It is
    due when the record says that the one before had ended (`[DONE]`), and a response whose body
    goes on after that, or a loop that turns to it late, makes it late.

    Attributes:
        done: set when every request has ended and no further one will be sent.
        last_arrival_ns: until when it had sessions to begin: when it began its last one, or when a
            closed loop was stopped before; the stage's start before the first.
    """

    def __init__(self, client: LoadClient, share: Share) -> None:
        self._client = client
        self._share = share
        self._timeout_s = share.job.request_timeout_s
        self._api = share.job.api
        self._requests: dict[int, bytes] = {}
        self._waiting: list[PlannedSession] = []
        self._closed_loop = share.job.load.held(0.0) is not None
        self._due: list[tuple[int, int, PlannedSession, int]] = []
        self._streams: dict[int, CompletionStream] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._records: list[RequestRecord] = []
        self._sessions_open = 0
        self._peak_in_flight = 0
        self._failed_in_row = 0
        self._gave_up: tuple[int, str] = (0, "")
        self._dropped = 0
        self._heard_ns = 0
        self._stopped = False
        self._start_ns = 0
        self._look_ns = 0
        self._connections_before = 0
        self._alarm: Alarm | None = None
        self._probe = LoopProbe()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_arrival_ns = 0

    async def prepare(self) -> None:
        """Make the requests and open connections.

        A server that takes none is no error here: the requests themselves will fail.
        """
        connections = self._share.connections
        self._waiting = [self._prepared(one) for one in reversed(self._share.sessions)]
        self._share = replace(self._share, sessions=())
        with suppress(HttpError, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._client.open(connections)
        self._connections_before = self._client.connections_opened

    def _prepared(self, session: PlannedSession) -> PlannedSession:
        """The session without its bodies, of which long prompts have many a gigabyte together:
        once in a request is enough.
        """
        path = self._share.job.api.path
        for request in session.requests:
            self._requests[request.index] = self._client.post_request(path, request.body)
        bare = tuple(replace(request, body=b"") for request in session.requests)
        return replace(session, requests=bare)

    def start(self, start_ns: int) -> None:
        """Begin the stage at `start_ns`; it goes on by itself until `done`.

        Raises:
            EngineError: the machine has not even a timer left.
        """
        self._start_ns = self._look_ns = self.last_arrival_ns = start_ns
        self._alarm = _alarm(self._wake)
        if not self._closed_loop:
            self._due = [
                (start_ns + (session.begin_ns or 0), session.number, session, 0)
                for session in self._waiting
            ]
            heapify(self._due)
            self._waiting.clear()
        self._alarm.set(start_ns)
        self._probe.start(start_ns)
        self._end_if_over()

    def stop(self) -> None:
        """Send nothing more; what is in flight goes on."""
        self._stopped = True
        if self._closed_loop and self._waiting:
            self.last_arrival_ns = perf_counter_ns()
        self._dropped += len(self._requests)
        self._requests.clear()
        self._waiting.clear()
        self._due.clear()
        self._end_if_over()

    def cancel(self) -> None:
        """Send nothing more and end what is in flight, recorded as `cancelled`."""
        self.stop()
        for exchange in list(self._exchanges.values()):
            exchange.cancel()

    def report(self) -> Report:
        """What happened since the last report."""
        records, self._records = self._records, []
        streams = self._streams.values()
        latest_ns = max((stream.last_byte_ns for stream in streams), default=0)
        self._heard_ns = max(self._heard_ns, latest_ns)
        return Report(
            records=records,
            in_flight=len(self._streams),
            arriving_chunks=sum(len(stream.chunk_ns) for stream in streams),
            heard_ns=self._heard_ns,
            unsent=self._dropped + len(self._requests),
            failed_in_row=self._gave_up[0],
            reason=self._gave_up[1],
            lag_ms=self._probe.latest_max_ms(),
        )

    def health(self) -> ProcessHealth:
        """How this process kept up; once `done`."""
        opened = self._client.connections_opened - self._connections_before
        return self._probe.health(connections_opened=opened, last_arrival_ns=self.last_arrival_ns)

    def _wake(self) -> None:
        """Send what is due, and say when to look again."""
        now_ns = perf_counter_ns()
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, session, turn = heappop(self._due)
            self._begin(session, due_ns) if not turn else self._send(session, turn, due_ns)
        if self._closed_loop:
            self._fill(now_ns)
            self._look_ns = perf_counter_ns() + int(self._tick_s() * 1e9)
        self._set_alarm()

    def _set_alarm(self) -> None:
        wakes_ns = [self._due[0][0]] if self._due else []
        if self._waiting:
            wakes_ns.append(self._look_ns)
        if wakes_ns and self._alarm is not None:
            self._alarm.set(min(wakes_ns))

    def _tick_s(self) -> float:
        """Short enough during the stagger that its sessions begin one by one."""
        job = self._share.job
        if (perf_counter_ns() - self._start_ns) / 1e9 >= job.stagger_s:
            return TICK_S
        return min(TICK_S, max(_MIN_TICK_S, job.stagger_s / (job.load.held(0.0) or 1)))

    def _fill(self, now_ns: int, *, left_ns: int | None = None) -> None:
        """Begin as many sessions as a closed loop is short of.

        At `left_ns` a session left its slot, where one did: the first is due since then.
        """
        if not self._waiting:
            return
        held = self._share.held((now_ns - self._start_ns) / 1e9)
        while self._waiting and self._sessions_open < held:
            self._begin(self._waiting.pop(), now_ns if left_ns is None else left_ns)
            left_ns = None

    def _begin(self, session: PlannedSession, scheduled_ns: int) -> None:
        self._sessions_open += 1
        self.last_arrival_ns = max(self.last_arrival_ns, scheduled_ns)
        self._send(session, 0, scheduled_ns)

    def _send(self, session: PlannedSession, turn: int, scheduled_ns: int) -> None:
        request = session.requests[turn]
        stream = CompletionStream(
            self._api, asked_tokens=request.requested_output_tokens, keep_text=request.keep_text
        )
        if not self._streams:
            self._heard_ns = perf_counter_ns()
        self._streams[request.index] = stream
        self._peak_in_flight = max(self._peak_in_flight, len(self._streams))
        self._exchanges[request.index] = self._client.begin(
            self._requests.pop(request.index),
            stream,
            partial(self._on_end, session, turn, scheduled_ns, stream),
            timeout_s=self._timeout_s,
            affinity=session.affinity,
        )

    def _on_end(
        self,
        session: PlannedSession,
        turn: int,
        scheduled_ns: int,
        stream: CompletionStream,
        reason: str | None,
    ) -> None:
        now_ns = perf_counter_ns()
        request = session.requests[turn]
        del self._streams[request.index], self._exchanges[request.index]
        self._heard_ns = max(self._heard_ns, stream.last_byte_ns)
        record = stream.record(
            request=request, scheduled_ns=scheduled_ns, failure=reason, ended_ns=now_ns
        )
        self._keep(record)
        goes_on = record.error is None and not self._stopped
        if goes_on and turn + 1 < len(session.requests):
            self._follow(session, turn + 1, record.end_ns)
        else:
            self._sessions_open -= 1
            for skipped in session.requests[turn + 1 :]:
                self._requests.pop(skipped.index, None)
            if self._closed_loop:
                self._fill(now_ns, left_ns=record.end_ns)
        self._end_if_over()

    def _follow(self, session: PlannedSession, turn: int, ended_ns: int) -> None:
        """Send the next turn of a session, its user's pause after `ended_ns`."""
        think_s = session.requests[turn].think_s
        if think_s <= 0:
            self._send(session, turn, ended_ns)
        else:
            heappush(self._due, (ended_ns + round(think_s * 1e9), session.number, session, turn))
            self._set_alarm()

    def _keep(self, record: RequestRecord) -> None:
        """Add a record, and end the share after too many failures in a row."""
        if record.error is None:
            self._failed_in_row = 0
        else:
            record = replace(record, error=self._client.mask(record.error))
            self._failed_in_row += 1
        self._records.append(record)
        too_many = self._failed_in_row >= max(MIN_FAILURES_IN_ROW, self._peak_in_flight)
        if too_many and not self._stopped:
            self._gave_up = self._failed_in_row, record.error or ""
            self.cancel()

    def _end_if_over(self) -> None:
        if self._streams or self._waiting or self._due or self.done.done():
            return
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None  # it holds this, which holds everything that was left to send
        self._probe.stop()
        self.done.set_result(None)


def _alarm(ring: Callable[[], None]) -> Alarm:
    try:
        return Alarm(ring)
    except OSError as error:
        reason = shortage_reason(error.errno)
        words = f"what sends the load got no timer: {reason or error}"
        remedy = shortage_remedy(reason) or "See the limits of the machine that sends the load."
        raise EngineError(Failure(FailureKind.CLIENT_LIMITED, words, remedy)) from None
