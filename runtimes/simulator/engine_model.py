"""Continuous batching as vLLM's V1 scheduler does it, without a clock, a socket or a thread.

`begin_step` decides what runs next and how long it takes, `finish_step` says what came out.
Running sequences are served first, in the order of their admission, so decodes come before the
prefill they share a step with; what is left of the token budget goes to waiting sequences, whose
prompts may be cut into chunks (vLLM 0.33 `v1/core/sched/scheduler.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runtimes.simulator.kv_cache import BlockPool, Holding
from runtimes.simulator.timing import StepWork


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a step.

    Attributes:
        blocks: blocks of the KV cache, each of `block_size` tokens.
        stages: pipeline stages, the number of steps that can be under way at once.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    blocks: int
    block_size: int = 16
    prefix_caching: bool = True
    stages: int = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One completion: its lengths in tokens and the hashes of its prompt's full blocks."""

    id: str
    prompt_tokens: int
    output_tokens: int
    block_hashes: tuple[int, ...] = ()


@dataclass(slots=True)
class Counters:
    """Totals since the start; tokens unless named otherwise."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    finished_requests: int = 0
    aborted_requests: int = 0


@dataclass(slots=True, eq=False)
class _Sequence:
    request: Request
    computed: int = 0
    generated: int = 0
    holding: Holding = field(default_factory=Holding)
    running: bool = False
    in_flight: bool = False
    aborted: bool = False
    seen: bool = False
    cached: int = 0

    @property
    def missing(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return self.request.prompt_tokens + self.generated - self.computed


@dataclass(frozen=True, slots=True)
class Step:
    """A scheduled step.

    Attributes:
        duration_s: until its tokens are out.
        interval_s: until the first pipeline stage is free for the next step.
        admitted: ids of the requests that waited until it; preempted ones come again.
    """

    work: StepWork
    duration_s: float
    interval_s: float
    _batch: tuple[tuple[_Sequence, int], ...] = field(repr=False)
    admitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Emission:
    """One token of one request.

    Attributes:
        finished: True for its last.
        cached_tokens: prompt tokens of the request that were found in the prefix cache.
    """

    request_id: str
    finished: bool
    cached_tokens: int = 0


class EngineModel:
    """One engine replica.

    The simulated model never ends a sequence by itself: a request gets all its output tokens.

    Args:
        limits: what bounds a step.
        step_seconds: duration of a step from its work.
    """

    def __init__(self, limits: Limits, step_seconds: Callable[[StepWork], float]) -> None:
        self.limits = limits
        self.counters = Counters()
        self._step_seconds = step_seconds
        self._pool = BlockPool(limits.blocks, caching=limits.prefix_caching)
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._by_id: dict[str, _Sequence] = {}

    @property
    def running(self) -> int:
        """Requests that hold KV blocks."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Held blocks over all blocks, in [0, 1]."""
        return self._pool.held / self._pool.total

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ValueError: its lengths are not positive or it could never fit.
        """
        total = request.prompt_tokens + request.output_tokens
        longest = min(self.limits.max_model_len, self.limits.blocks * self.limits.block_size)
        if request.prompt_tokens < 1 or request.output_tokens < 1 or total > longest:
            raise ValueError(
                f"request {request.id}: {request.prompt_tokens} prompt and "
                f"{request.output_tokens} output tokens; the engine holds 1 to {longest} in all"
            )
        sequence = _Sequence(request)
        self._by_id[request.id] = sequence
        self._waiting.append(sequence)

    def abort(self, request_id: str) -> None:
        """Drop a request; nothing happens when it is unknown or has finished."""
        sequence = self._by_id.pop(request_id, None)
        if sequence is None:
            return
        self.counters.aborted_requests += 1
        if sequence.in_flight:
            sequence.aborted = True  # its step is under way and returns it
        elif sequence.running:
            self._retire(sequence)
        else:
            self._waiting.remove(sequence)

    def reset_prefix_cache(self) -> bool:
        """Forget every cached prefix; False, and nothing forgotten, while requests run."""
        return self._pool.forget()

    def begin_step(self) -> Step | None:
        """Schedule the next step; None when nothing can run now."""
        batch: list[tuple[_Sequence, int]] = []
        left, preempted = self._schedule_running(batch, self.limits.max_num_batched_tokens)
        served = len(batch)
        if not preempted:
            self._schedule_waiting(batch, left)
        if not batch:
            return None
        work = _work(batch)
        duration_s = self._step_seconds(work)
        admitted = tuple(sequence.request.id for sequence, _ in batch[served:])
        return Step(work, duration_s, duration_s / self.limits.stages, tuple(batch), admitted)

    def finish_step(self, step: Step) -> list[Emission]:
        """Account for a finished step; its tokens in scheduling order."""
        emissions: list[Emission] = []
        for sequence, tokens in step._batch:
            sequence.in_flight = False
            if sequence.aborted:
                self._retire(sequence)
                continue
            sequence.computed += tokens
            if not sequence.missing:
                emissions.append(self._emit(sequence))
        return emissions

    def _schedule_running(self, batch: list[tuple[_Sequence, int]], left: int) -> tuple[int, bool]:
        """Give running sequences their tokens; the budget left, and whether any was preempted."""
        preempted = False
        for sequence in tuple(self._running):
            if not left:
                break
            if sequence.in_flight or not sequence.running:
                continue
            tokens = min(sequence.missing, left)
            while not self._reserve(sequence, tokens):
                victim = next(s for s in reversed(self._running) if not s.in_flight)
                self._preempt(victim)
                preempted = True
                if victim is sequence:
                    break
            if sequence.running:
                left -= tokens
                self._put(batch, sequence, tokens)
        return left, preempted

    def _schedule_waiting(self, batch: list[tuple[_Sequence, int]], left: int) -> None:
        while left and self._waiting and len(self._running) < self.limits.max_num_seqs:
            sequence = self._waiting[0]
            self._reuse_prefix(sequence)
            tokens = min(sequence.missing, left)
            if not self._reserve(sequence, tokens):
                self._pool.release(sequence.holding)
                sequence.computed = 0
                return
            self._waiting.popleft()
            self._count_prefix(sequence)
            sequence.running = True
            self._running.append(sequence)
            left -= tokens
            self._put(batch, sequence, tokens)

    def _put(self, batch: list[tuple[_Sequence, int]], sequence: _Sequence, tokens: int) -> None:
        sequence.in_flight = True
        batch.append((sequence, tokens))

    def _reserve(self, sequence: _Sequence, tokens: int) -> bool:
        """Hold the blocks that `tokens` more computed tokens need."""
        needed = -(-(sequence.computed + tokens) // self.limits.block_size)
        return self._pool.take(sequence.holding, max(0, needed - sequence.holding.blocks))

    def _reuse_prefix(self, sequence: _Sequence) -> None:
        # The last prompt token is always computed: its logits are what is sampled from.
        usable = (sequence.request.prompt_tokens - 1) // self.limits.block_size
        blocks = self._pool.reuse(sequence.holding, sequence.request.block_hashes[:usable])
        sequence.computed = blocks * self.limits.block_size

    def _count_prefix(self, sequence: _Sequence) -> None:
        if sequence.seen:
            return
        sequence.seen = True
        if self.limits.prefix_caching:
            self.counters.prefix_queries += sequence.request.prompt_tokens
            self.counters.prefix_hits += sequence.computed
            sequence.cached = sequence.computed

    def _preempt(self, sequence: _Sequence) -> None:
        """Free a sequence's blocks and queue it first; it computes everything again."""
        self.counters.preemptions += 1
        self._retire(sequence)
        sequence.computed = 0
        self._waiting.appendleft(sequence)

    def _retire(self, sequence: _Sequence) -> None:
        self._running.remove(sequence)
        sequence.running = False
        self._pool.release(sequence.holding)

    def _emit(self, sequence: _Sequence) -> Emission:
        request = sequence.request
        if not sequence.generated:
            self.counters.prompt_tokens += request.prompt_tokens
            self._pool.publish(sequence.holding, request.block_hashes)
        sequence.generated += 1
        self.counters.generation_tokens += 1
        finished = sequence.generated == request.output_tokens
        if finished:
            self.counters.finished_requests += 1
            self._retire(sequence)
            del self._by_id[request.id]
        return Emission(request.id, finished, sequence.cached)


def _work(batch: list[tuple[_Sequence, int]]) -> StepWork:
    decode_context, prefill_pairs, sampled = 0, 0.0, 0
    for sequence, tokens in batch:
        sampled += tokens == sequence.missing
        if tokens == 1:
            decode_context += sequence.computed + 1
        else:
            prefill_pairs += tokens * (sequence.computed + tokens / 2)
    return StepWork(
        tokens=sum(tokens for _, tokens in batch),
        sequences=len(batch),
        sampled=sampled,
        decode_context=decode_context,
        prefill_pairs=prefill_pairs,
    )
