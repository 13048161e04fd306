"""Warming an engine up: requests that are not measured, until it serves evenly.

An engine compiles kernels, grows its memory pools and fills its queues on the first requests of
each batch size and length, so a warm-up holds as many requests in flight as the stage after it, and
its requests are spread over the lengths of as many as the stage has, which a workload may order:
from the shortest to the longest in each wave. (Of a stage of more than 32 million tokens the first
ones stand for all, since prompts to choose from have to be made.) It comes in batches, each one
wave of them, the first two without a break in between, and ends when a batch took as long per
output token as the one before: when their mean TPOT (where there is none, their mean E2E latency)
differs by less than 5 %, or by less than twice the standard error of the difference. At most four
batches are sent, and none begins after two minutes.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from statistics import fmean, variance
from typing import TypeAlias

from runtimes.load.arrivals import ConcurrencyLoad, Load
from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord
from runtimes.workloads.base import Prompt, Workload

Send: TypeAlias = Callable[[Sequence[Prompt], Load], Awaitable[LoadResult]]
"""Sends a load of prompts to the engine and returns when all of it has ended."""

_MOST_BATCHES = 4
_LONGEST_S = 120.0
_LEAST_REQUESTS = 4
"""Requests of a wave at least, and one of each shape, as long as they are few of the stage."""
_FEW = 8
"""A stage of so many times as many requests makes them few."""
_FIRST_STREAMS = 16
"""In flight for an open loop as long as nobody knows how long a request takes."""
_MOST_STREAMS = 512
_MOST_TOKENS = 32_000_000
"""Of prompts that a batch is chosen from: 0.3 GB, made in some seconds."""
_WIDER = 1.5
"""A stage that has so many times as many in flight as were warmed up meets new batch sizes."""
_EQUAL = 0.05
_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a warm-up came to.

    Attributes:
        requests: requests that it sent.
        steady: whether its last two batches agreed; None where there were no two.
    """

    requests: int = 0
    steady: bool | None = None


class WarmUp:
    """The warm-ups of one engine's life.

    Args:
        requests: how many before each stage; None for as many as it takes, before the first
            stage and before those with more in flight than the engine had before.
        seed: of the stages' arrival times.

    Attributes:
        service_s: mean time that one request took, as last seen; 0 before any.
    """

    def __init__(self, send: Send, workload: Workload, *, requests: int | None, seed: int) -> None:
        self._send = send
        self._workload = workload
        self._requests = requests
        self._seed = seed
        self._streams = 0
        self._batches = 0
        self._sent = 0
        self.service_s = 0.0

    async def before(self, load: Load, prompts: Sequence[Prompt]) -> Warmed:
        """Warm up for `load`, which will send `prompts`."""
        streams, already = self._expected(load, prompts), self._sent
        steady = None
        if self._requests:
            count = self._requests
            steady = await self._counted(min(streams, count), count, _many(prompts))
        elif self._requests is None and streams > self._streams * _WIDER:
            steady = await self._until_steady(load, prompts, streams)
        return Warmed(self._sent - already, steady)

    def measured(self, records: Sequence[RequestRecord]) -> None:
        """Take note of a stage that was measured."""
        self._note(records)

    async def _counted(self, streams: int, count: int, among: int) -> bool | None:
        times = await self._batch(streams, count, wave=streams, among=among)
        if len(times) < 2 * streams:
            return None
        return agree(times[-2 * streams : -streams], times[-streams:])

    async def _until_steady(
        self, load: Load, prompts: Sequence[Prompt], streams: int
    ) -> bool | None:
        began_s = time.monotonic()
        least = min(max(_LEAST_REQUESTS, shapes(prompts)), load.requests // _FEW)
        batches = 0
        steady: bool | None = None
        previous: list[float] = []
        while batches < _MOST_BATCHES and time.monotonic() - began_s < _LONGEST_S:
            size = max(streams, least)
            count = size if previous else 2 * size
            times = await self._batch(streams, count, wave=size, among=_many(prompts))
            batches += count // size
            if not previous:
                previous, times = times[:size], times[size:]
            steady = agree(previous, times)
            wider = self._expected(load, prompts)
            if wider > _WIDER * streams:
                streams, previous, steady = wider, [], False
            elif steady:
                break
            else:
                previous = times
        return steady

    async def _batch(self, streams: int, count: int, *, wave: int, among: int) -> list[float]:
        """Time per token of each request, by when it was sent; whatever the workload has left.

        Of `among` prompts, or more where they are too few, `count` are sent in waves of `wave`.
        """
        # Numbered from 0 over the engine's life, so that no two batches share a prompt.
        stage = f"warmup-{self._batches}"
        # Off the loop: other trials of this bundle are being measured on it.
        made = await asyncio.to_thread(self._workload.prompts, stage, max(count, among))
        prompts = spread(made, count, wave)
        del made
        self._batches += 1
        self._sent += len(prompts)
        if not prompts:
            return []
        # Turns of one conversation would wait for each other, and no batch would fill.
        alone = [replace(prompt, session=None, turn=0, think_s=0.0) for prompt in prompts]
        result = await self._send(alone, ConcurrencyLoad(min(streams, len(alone)), len(alone)))
        self._streams = max(self._streams, streams)
        self._note(result.records)
        return _times(result.records)

    def _note(self, records: Sequence[RequestRecord]) -> None:
        ended = [record.e2e_ms for record in records if record.error is None]
        if ended:
            self.service_s = fmean(ended) / 1e3

    def _expected(self, load: Load, prompts: Sequence[Prompt]) -> int:
        """Requests that `load` will have in flight: those it holds, or by Little's law."""
        most = min(_MOST_STREAMS, load.requests)
        begins = [
            prompt for number, prompt in enumerate(prompts) if begins_session(number, prompts)
        ]
        offsets_ns = load.schedule_ns(self._seed, begins)
        if offsets_ns is None:
            return min(int(load.value), load.requests)
        span_s = (offsets_ns[-1] if offsets_ns else 0) / 1e9
        if not self.service_s or span_s <= 0:
            return min(_FIRST_STREAMS, most)
        return max(1, min(most, math.ceil(len(prompts) / span_s * self.service_s)))


def _many(prompts: Sequence[Prompt]) -> int:
    """How many prompts of a stage have `_MOST_TOKENS` together."""
    ends = accumulate(len(prompt.token_ids) for prompt in prompts)
    return sum(1 for _ in takewhile(lambda end: end <= _MOST_TOKENS, ends))


def shapes(prompts: Sequence[Prompt]) -> int:
    """How many sorts of prompt there are, by the powers of two that the tokens which a cache is
    meant to hold lie between, and those behind them.
    """
    return len(
        {
            (one.shared_tokens.bit_length(), (len(one.token_ids) - one.shared_tokens).bit_length())
            for one in prompts
        }
    )


def spread(prompts: Sequence[Prompt], count: int, wave: int) -> list[Prompt]:
    """`count` of `prompts`, evenly spread over their lengths, wave after wave.

    The waves have prompts of about the same lengths, so that they can be compared.
    """
    ordered = sorted(prompts, key=lambda one: (one.shared_tokens, len(one.token_ids)))
    last = len(ordered) - 1
    count = min(count, len(ordered))
    chosen = [ordered[place * last // max(1, count - 1)] for place in range(count)]
    waves = math.ceil(count / wave)
    found: list[list[Prompt]] = [[] for _ in range(waves)]
    for place, prompt in enumerate(chosen):
        turn, number = divmod(place, waves)
        # The shortest of a turn goes to the first wave and to the last one by turns.
        found[waves - 1 - number if turn % 2 else number].append(prompt)
    return [prompt for one in found for prompt in one]


def begins_session(number: int, prompts: Sequence[Prompt]) -> bool:
    """Whether `prompts[number]` is the first of its session."""
    session = prompts[number].session
    return session is None or not number or prompts[number - 1].session != session


def agree(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether two batches took equally long: see this module's docstring."""
    if not before or not after:
        return False
    gap = abs(fmean(after) - fmean(before))
    if gap < _EQUAL * fmean(before):
        return True
    errors = [variance(batch) / len(batch) for batch in (before, after) if len(batch) > 1]
    return gap < _ERRORS * math.sqrt(sum(errors))


def _times(records: Sequence[RequestRecord]) -> list[float]:
    """TPOT of the completed requests in the order of sending, else their E2E latency."""
    completed = [record for record in records if record.error is None]
    tokens = [record.tpot_ms for record in completed]
    known = [value for value in tokens if value is not None]
    return known if known else [record.e2e_ms for record in completed]
