"""Causes that the figures of two trials support, in words with the figures of both.

Every cause has its own condition. A figure that one of the two lacks supports nothing, and neither
does a difference that two stages of one configuration may well show: what is named is at least
`_APART` apart and, of times, a good part of what a request takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tracking.evidence import Evidence
from tracking.words import count, figure

_APART = 1.1
"""A figure counts as larger from here on, as a ratio; stages of one configuration stay below."""
_PART = 0.25
"""A phase of a request is named from this share of the time that it takes longer in all."""
_LONGER = 0.05
"""No phase is named where a request takes less than this share longer: that decided nothing."""
_FULL = 0.95
"""A KV cache used to this share at its fullest had no room for another request."""
_ROOMY = 0.85
"""One that was never used beyond this share was not what kept requests waiting."""
_PREEMPTED = 0.01
"""Preemptions per request from which they are named."""
_SHARE = 0.05
"""Differences of shares (prefix hits, communication, throttling) are named from here on."""
_FAILED = 0.01
"""Share of failed requests from which they are named."""


class Cause(StrEnum):
    """What made a trial worse; the value is what documents carry."""

    FAILED_REQUESTS = "failed_requests"
    GPU_COUNT = "gpu_count"
    QUEUEING = "queueing"
    BATCH_LIMIT = "batch_limit"
    KV_CACHE = "kv_cache"
    PREEMPTION = "preemption"
    FIRST_TOKEN = "first_token"
    PREFILL = "prefill"
    DECODE = "decode"
    LARGER_BATCH = "larger_batch"
    PREFIX_HITS = "prefix_hits"
    SPECULATION = "speculation"
    THROTTLING = "throttling"
    COMMUNICATION = "communication"


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause.

    Attributes:
        words: in a clause, with the figures of both trials.
        figures: the same by name, of the worse trial and of the best; units are in the names.
    """

    cause: Cause
    words: str
    figures: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Concern:
    """What of a request decided between the two: its first token, those after it, or both.

    Attributes:
        per_gpu: whether the figures compared are those of one GPU.
    """

    first_token: bool = True
    later_tokens: bool = True
    per_gpu: bool = False


def reasons(worse: Evidence, best: Evidence, concern: Concern, *, most: int = 2) -> list[Reason]:
    """The strongest causes first, at most `most`; empty when the figures support none.

    A phase of a request that takes longer is followed by what, in the engine, goes with that.
    """
    found = [*_failures(worse, best)]
    wider = [*_gpu_count(worse, best)] if concern.per_gpu else []
    found += wider
    for phase in _phases(worse, best, concern):
        found.append(phase.reason)
        found += [reason for cause in phase.causes for reason in cause(worse, best)][:1]
    if wider:
        found += _communication(worse, best)
    unique = {reason.cause: reason for reason in reversed(found)}
    return [reason for reason in found if unique.pop(reason.cause, None)][:most]


_Judge = Callable[[Evidence, Evidence], Iterator[Reason]]


@dataclass(frozen=True, slots=True)
class _Phase:
    """A part of a request that takes longer by `more_s`, and what may be behind it."""

    more_s: float
    reason: Reason
    causes: tuple[_Judge, ...]


def _phases(worse: Evidence, best: Evidence, concern: Concern) -> list[_Phase]:
    """Those that take a good part of the time that a request takes longer, the longest first."""
    found: list[_Phase] = []
    total_s, best_s = 0.0, 0.0
    if concern.first_token and worse.ttft_s is not None and best.ttft_s is not None:
        total_s += max(worse.ttft_s - best.ttft_s, 0.0)
        best_s += best.ttft_s
        found += _first_token_phases(worse, best)
    if concern.later_tokens and worse.decode_s is not None and best.decode_s is not None:
        total_s += max(worse.decode_s - best.decode_s, 0.0)
        best_s += best.decode_s
        found += _decode_phase(worse, best)
    if total_s < _LONGER * best_s:
        return []
    named = [phase for phase in found if phase.more_s >= _PART * total_s and phase.more_s > 0]
    return sorted(named, key=lambda phase: -phase.more_s)


def _first_token_phases(worse: Evidence, best: Evidence) -> Iterator[_Phase]:
    ours, theirs = worse.use, best.use
    waits = (ours.queue_mean_s, theirs.queue_mean_s)
    prefills = (ours.prefill_mean_s, theirs.prefill_mean_s)
    known = False
    if _larger(*waits):
        known = True
        words = (
            f"requests waited {_of(waits[0], worse.ttft_s)} in the engine "
            f"(trial {best.trial}: {_of(waits[1], best.ttft_s)})"
        )
        figures = {"queue_mean_s": waits, "ttft_mean_s": (worse.ttft_s, best.ttft_s)}
        yield _Phase(
            _more(*waits),
            Reason(Cause.QUEUEING, words, figures),
            (_kv_cache, _batch_limit, _throttling),
        )
    if _larger(*prefills):
        known = True
        words = (
            f"prefill took {_seconds(prefills[0])} a request "
            f"(trial {best.trial}: {_seconds(prefills[1])})"
        )
        yield _Phase(
            _more(*prefills),
            Reason(Cause.PREFILL, words, {"prefill_mean_s": prefills}),
            (_prefix_hits, _throttling),
        )
    ttfts = (worse.ttft_s, best.ttft_s)
    if not known and None in (*waits, *prefills) and _larger(*ttfts):
        words = f"first tokens took {_seconds(ttfts[0])} (trial {best.trial}: {_seconds(ttfts[1])})"
        yield _Phase(
            _more(*ttfts),
            Reason(Cause.FIRST_TOKEN, words, {"ttft_mean_s": ttfts}),
            (_kv_cache, _batch_limit, _prefix_hits, _throttling),
        )


def _decode_phase(worse: Evidence, best: Evidence) -> Iterator[_Phase]:
    tpots = (worse.tpot_s, best.tpot_s)
    if not _larger(*tpots) or worse.decode_s is None or best.decode_s is None:
        return
    ours, theirs = (_milliseconds(tpot) for tpot in tpots)
    if worse.gpus != best.gpus:
        ours += f" on {count(worse.gpus, 'GPU')}"
        theirs += f" on {best.gpus}"
    words = f"each output token took {ours} (trial {best.trial}: {theirs})"
    yield _Phase(
        worse.decode_s - best.decode_s,
        Reason(Cause.DECODE, words, {"tpot_mean_s": tpots, "gpus": (worse.gpus, best.gpus)}),
        (_preemption, _throttling, _communication, _speculation, _larger_batch),
    )


def _failures(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    if worse.failed_ratio >= _FAILED and worse.failed_ratio > best.failed_ratio * _APART:
        words = (
            f"{count(worse.failed, 'request')} failed, {worse.failed_ratio:.0%} of all "
            f"(trial {best.trial}: {best.failed_ratio:.0%})"
        )
        figures = {"failed_ratio": (worse.failed_ratio, best.failed_ratio)}
        yield Reason(Cause.FAILED_REQUESTS, _spaced(words), figures)


def _gpu_count(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    """More GPUs that do not do as much more work."""
    ours, theirs = worse.output_throughput, best.output_throughput
    if worse.gpus <= best.gpus or not ours or not theirs:
        return
    times = ours / theirs
    if times * _APART > worse.gpus / best.gpus:
        return
    words = (
        f"{count(worse.gpus, 'GPU')} gave {times:.2f}× the output tokens per second that "
        f"trial {best.trial} got of {best.gpus}"
    )
    figures: dict[str, tuple[float | None, float | None]] = {
        "gpus": (worse.gpus, best.gpus),
        "output_throughput": (ours, theirs),
    }
    yield Reason(Cause.GPU_COUNT, words, figures)


def _kv_cache(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    """A cache that was full; alone, or with the preemptions that it led to."""
    ours, theirs = worse.use.kv_cache_usage_max, best.use.kv_cache_usage_max
    if ours is not None and theirs is not None and ours >= _FULL and ours - theirs >= _SHARE:
        words = f"its KV cache was {ours:.0%} full"
        other = f"{theirs:.0%}"
        if _preempted(worse, best):
            words += f", {count(round(worse.preemptions or 0), 'preemption')}"
            other += f", {_none(best.preemptions)}"
        figures = {
            "kv_cache_usage_max_ratio": (ours, theirs),
            "preemptions": (worse.preemptions, best.preemptions),
        }
        yield Reason(Cause.KV_CACHE, _spaced(f"{words} (trial {best.trial}: {other})"), figures)
    else:
        yield from _preemption(worse, best)


def _preemption(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    if not _preempted(worse, best):
        return
    words = (
        f"{count(round(worse.preemptions or 0), 'preemption')} "
        f"(trial {best.trial}: {_none(best.preemptions)})"
    )
    figures = {"preemptions": (worse.preemptions, best.preemptions)}
    yield Reason(Cause.PREEMPTION, words, figures)


def _preempted(worse: Evidence, best: Evidence) -> bool:
    ours, theirs = worse.preemptions_per_request, best.preemptions_per_request
    return _larger(ours, theirs) and ours is not None and ours >= _PREEMPTED


def _batch_limit(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    """Requests wait although the cache has room: the engine takes no more of them at once."""
    ours, theirs = worse.use, best.use
    running = (ours.requests_running_mean, theirs.requests_running_mean)
    waiting = (ours.requests_waiting_mean, theirs.requests_waiting_mean)
    room = ours.kv_cache_usage_max
    if running[0] is None or waiting[0] is None or room is None or room > _ROOMY:
        return
    if _larger(running[1], running[0]) and _larger(*waiting) and waiting[0] >= 1:
        words = (
            f"it worked on {figure(running[0])} requests at once while {figure(waiting[0])} waited "
            f"and its KV cache was {room:.0%} full at most (trial {best.trial}: "
            f"{figure(running[1])} at once, {figure(waiting[1])} waited)"
        )
        figures: dict[str, tuple[float | None, float | None]] = {
            "requests_running_mean": running,
            "requests_waiting_mean": waiting,
            "kv_cache_usage_max_ratio": (room, theirs.kv_cache_usage_max),
        }
        yield Reason(Cause.BATCH_LIMIT, _spaced(words), figures)


def _larger_batch(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    running = (worse.use.requests_running_mean, best.use.requests_running_mean)
    if _larger(*running):
        words = (
            f"it worked on {figure(running[0])} requests at once "
            f"(trial {best.trial}: {figure(running[1])})"
        )
        yield Reason(Cause.LARGER_BATCH, words, {"requests_running_mean": running})


def _prefix_hits(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    ours, theirs = worse.hit_ratio, best.hit_ratio
    if ours is not None and theirs is not None and theirs - ours >= _SHARE:
        words = (
            f"{ours:.0%} of the prompt tokens were in its prefix cache "
            f"(trial {best.trial}: {theirs:.0%})"
        )
        yield Reason(Cause.PREFIX_HITS, _spaced(words), {"prefix_hit_ratio": (ours, theirs)})


def _speculation(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    lengths = (worse.acceptance_length, best.acceptance_length)
    if _larger(lengths[1], lengths[0]):
        words = (
            f"{figure(lengths[0])} tokens came of each verified draft "
            f"(trial {best.trial}: {figure(lengths[1])})"
        )
        yield Reason(Cause.SPECULATION, words, {"acceptance_length": lengths})


def _throttling(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    ours, theirs = worse.throttled_ratio, best.throttled_ratio
    if ours is not None and theirs is not None and ours - theirs >= _SHARE:
        words = (
            f"a GPU was held down by heat or its power brake for {ours:.0%} of the time "
            f"(trial {best.trial}: {theirs:.0%})"
        )
        yield Reason(Cause.THROTTLING, _spaced(words), {"throttled_ratio": (ours, theirs)})


def _communication(worse: Evidence, best: Evidence) -> Iterator[Reason]:
    ours, theirs = worse.communication_ratio, best.communication_ratio
    if ours is not None and theirs is not None and ours - theirs >= _SHARE:
        words = (
            f"communication is {ours:.0%} of a decode step (trial {best.trial}: {theirs:.0%}), "
            "as predicted"
        )
        figures = {"predicted_communication_ratio": (ours, theirs)}
        yield Reason(Cause.COMMUNICATION, _spaced(words), figures)


def _larger(ours: float | None, theirs: float | None) -> bool:
    return ours is not None and theirs is not None and ours > theirs * _APART


def _more(ours: float | None, theirs: float | None) -> float:
    return 0.0 if ours is None or theirs is None else ours - theirs


def _of(part_s: float | None, whole_s: float | None) -> str:
    """`1.9 s of 2.4 s TTFT`; the part alone where it is no part of that."""
    if part_s is None or whole_s is None or part_s > whole_s:
        return _seconds(part_s)
    return f"{_seconds(part_s)} of {_seconds(whole_s)} TTFT"


def _seconds(seconds: float | None) -> str:
    if seconds is not None and seconds < 1:
        return _milliseconds(seconds)
    return f"{figure(seconds)} s"


def _milliseconds(seconds: float | None) -> str:
    return f"{figure(None if seconds is None else seconds * 1e3)} ms"


def _none(number: float | None) -> str:
    return "none" if not number else f"{number:,.0f}"


def _spaced(words: str) -> str:
    return words.replace("%", " %")
