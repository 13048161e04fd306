"""One engine replica in real time: steps of the model, played on the event loop's clock."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.simulator.engine_model import Emission, EngineModel, Request, Step

_SHORTEST_STEP = 0.1


class ClientGoneError(Exception):
    """The client has closed its connection; nobody reads the answer."""


class TokenStream:
    """Tokens of one request on their way from the replica to its HTTP response.

    `cached_tokens` are those of its prompt that were found in the prefix cache; known at its end.
    """

    def __init__(self) -> None:
        self.cached_tokens = 0
        self._ready = 0
        self._finished = False
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    def push(self, *, finished: bool) -> None:
        """One more token is out."""
        self._ready += 1
        self._finished = finished
        self._wake()

    def close(self) -> None:
        """The client is gone."""
        self._closed = True
        self._wake()

    async def take(self) -> tuple[int, bool]:
        """Wait for tokens; how many came out since the last call, and whether they end it.

        Raises:
            ClientGoneError: the stream was closed.
        """
        if not self._ready and not self._closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._closed:
            raise ClientGoneError
        tokens, self._ready = self._ready, 0
        return tokens, self._finished

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class Waits:
    """How long finished requests were in the engine's hands, summed over them; seconds.

    Attributes:
        queue_s: from their arrival to their first step.
        prefill_s: from there to their first token.
        decode_s: from there to their last.
    """

    requests: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(slots=True)
class _Timing:
    """Instants of one request, on the model's clock; 0 for one that is still to come."""

    queued_s: float
    scheduled_s: float = 0.0
    first_s: float = 0.0


class Replica:
    """Plays an `EngineModel`: every step ends at an absolute time of the model's own clock.

    The next step starts where the last one should have ended, so a late wake-up delays tokens
    but never the clock. What it delays is counted in `lateness_s`; on an idle machine that is the
    event loop's timer resolution, up to a millisecond a step.

    Args:
        model: decides what runs and how long it takes.
        jitter: relative standard deviation of step durations.
        seed: of the jitter.
    """

    def __init__(self, model: EngineModel, *, jitter: float = 0.0, seed: int = 0) -> None:
        self.model = model
        self.steps = 0
        self.lateness_s = 0.0
        self.waits = Waits()
        self._timings: dict[str, _Timing] = {}
        self._jitter = jitter
        self._random = random.Random(seed)
        self._streams: dict[str, TokenStream] = {}
        self._under_way: deque[tuple[float, Step]] = deque()
        self._stage_free_s = 0.0

    @property
    def load(self) -> int:
        """Requests here; waiting ones weigh four times, as in vLLM's `DPLBAsyncMPClient`."""
        return 4 * self.model.waiting + self.model.running

    def submit(self, request: Request) -> TokenStream:
        """Queue a request; its tokens come out of the stream.

        Raises:
            ValueError: the engine can never hold it.
        """
        self.model.add(request)
        stream = self._streams[request.id] = TokenStream()
        now_s = asyncio.get_running_loop().time()
        self._timings[request.id] = _Timing(now_s)
        # uvloop's timers round to the millisecond: the last step may have ended before its time,
        # and nothing else would start this one.
        self._start_steps(now_s if self._under_way else max(now_s, self._stage_free_s))
        return stream

    def abort(self, request_id: str) -> None:
        """Drop a request whose client is gone."""
        if self._streams.pop(request_id, None) is not None:
            del self._timings[request_id]
            self.model.abort(request_id)

    def _start_steps(self, at_s: float) -> None:
        """Start what can start at `at_s` of the model's clock."""
        if at_s < self._stage_free_s or len(self._under_way) >= self.model.limits.stages:
            return
        step = self.model.begin_step()
        if step is None:
            return
        for request_id in step.admitted:
            timing = self._timings[request_id]
            if not timing.scheduled_s:
                # A late wake-up finds requests that came after the step should have begun.
                timing.scheduled_s = max(at_s, timing.queued_s)
        factor = step_factor(self._random, self._jitter)
        end_s = at_s + step.duration_s * factor
        if self._under_way:  # stages finish in order
            end_s = max(end_s, self._under_way[-1][0])
        self._under_way.append((end_s, step))
        loop = asyncio.get_running_loop()
        loop.call_at(end_s, self._finish_step)
        self._stage_free_s = end_s
        if self.model.limits.stages > 1:
            self._stage_free_s = at_s + step.interval_s * factor
            loop.call_at(self._stage_free_s, self._start_steps, self._stage_free_s)

    def _finish_step(self) -> None:
        end_s, step = self._under_way.popleft()
        self.steps += 1
        self.lateness_s += max(0.0, asyncio.get_running_loop().time() - end_s)
        for emission in self.model.finish_step(step):
            self._count(emission, end_s)
            stream = self._streams.get(emission.request_id)
            if stream is not None:
                stream.cached_tokens = emission.cached_tokens
                stream.push(finished=emission.finished)
            if emission.finished:
                self._streams.pop(emission.request_id, None)
        self._start_steps(end_s)

    def _count(self, emission: Emission, at_s: float) -> None:
        """Count the waits of a request when it has finished, as vLLM does."""
        timing = self._timings[emission.request_id]
        at_s = max(at_s, timing.scheduled_s)
        if not timing.first_s:
            timing.first_s = at_s
        if emission.finished:
            del self._timings[emission.request_id]
            self.waits.requests += 1
            self.waits.queue_s += timing.scheduled_s - timing.queued_s
            self.waits.prefill_s += timing.first_s - timing.scheduled_s
            self.waits.decode_s += at_s - timing.first_s


def step_factor(source: random.Random, jitter: float) -> float:
    """What a step's duration is multiplied with: normal around 1, never below a tenth."""
    return max(_SHORTEST_STEP, source.gauss(1.0, jitter)) if jitter else 1.0


def least_loaded(replicas: Sequence[Replica]) -> Replica:
    """The replica a new request goes to; the first among equals."""
    return min(replicas, key=lambda replica: replica.load)
