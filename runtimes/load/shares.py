"""What is sent in one stage, made ready before the clock starts, and dealt to several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtimes.load.arrivals import Load
from runtimes.load.body import request_body
from runtimes.load.job import Api, LoadJob
from runtimes.workloads.base import Prompt

_FOREVER_S = 1e9
"""When a load that changes has come to where it stays."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a stage; the fields that `RequestRecord` has mean the same there.

    Attributes:
        body: the JSON that is sent.
        think_s: seconds between the end of the turn before and its sending.
        keep_text: whether the record shall have the generated text.
    """

    index: int
    body: bytes
    requested_output_tokens: int
    sent_tokens: int | None
    content_tokens: int | None = None
    shared_tokens: int = 0
    session: int | None = None
    turn: int = 0
    think_s: float = 0.0
    keep_text: bool = False


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """Requests that are sent one after the other, each when the one before has ended.

    Attributes:
        number: position among the stage's sessions.
        begin_ns: when an open loop begins it, ns after the stage's start; None in a closed loop.
    """

    number: int
    begin_ns: int | None
    requests: tuple[PlannedRequest, ...]

    @property
    def affinity(self) -> int | None:
        """What ties its requests to one server; None for a request of no conversation."""
        return None if self.requests[0].session is None else self.number


def planned(job: LoadJob) -> tuple[PlannedSession, ...]:
    """The sessions of the first `load.requests` prompts of `job`, bodies made.

    Raises:
        ValueError: fewer prompts than the load has requests, or one that cannot be sent so.
    """
    load = job.load
    if len(job.prompts) < load.requests:
        words = f"the load has {load.requests} requests, but got {len(job.prompts)} prompts"
        raise ValueError(words)
    conversations = list(_conversations(job.prompts[: load.requests]))
    firsts = [job.prompts[indices.start] for indices in conversations]
    offsets_ns = load.schedule_ns(job.seed, firsts)
    return tuple(
        PlannedSession(
            number,
            None if offsets_ns is None else offsets_ns[number],
            tuple(_request(job, index) for index in indices),
        )
        for number, indices in enumerate(conversations)
    )


def dealt(
    sessions: Sequence[PlannedSession], load: Load, processes: int
) -> list[list[PlannedSession]]:
    """The sessions of each of at most `processes` processes.

    An open loop is thinned: its sessions go to the processes in turn. A closed loop deals its
    slots in turn, which go with `share_of`, and to each slot as many sessions as to another: a
    process with more slots ends its sessions faster. A process without a slot gets nothing.
    """
    slots = load.held(_FOREVER_S) or processes
    shares: list[list[PlannedSession]] = [[] for _ in range(min(processes, slots, len(sessions)))]
    for session in sessions:
        shares[session.number % slots % len(shares)].append(session)
    return shares


def share_of(slots: int, worker: int, workers: int) -> int:
    """How many of a closed loop's slots one of several processes has."""
    return max(0, -((worker - slots) // workers))


def slots_at(job: LoadJob, elapsed_s: float) -> int | None:
    """Sessions that a closed loop is to hold in flight by now; None for an open loop.

    The first ones begin one by one over the job's stagger.
    """
    held = job.load.held(elapsed_s)
    if held is None or elapsed_s >= job.stagger_s:
        return held
    return min(held, int(held * elapsed_s / job.stagger_s) + 1)


def _conversations(prompts: Sequence[Prompt]) -> Iterator[range]:
    """Ranges of consecutive prompts of one session."""
    begin = 0
    for index in range(1, len(prompts) + 1):
        ended = index == len(prompts) or prompts[index].session is None
        if ended or prompts[index].session != prompts[begin].session:
            yield range(begin, index)
            begin = index


def _request(job: LoadJob, index: int) -> PlannedRequest:
    prompt = job.prompts[index]
    chat, tokens = job.api is Api.CHAT, len(prompt.token_ids)
    return PlannedRequest(
        index=index,
        body=request_body(prompt, job),
        requested_output_tokens=prompt.output_tokens,
        sent_tokens=None if chat or not tokens else tokens,
        content_tokens=tokens if chat and tokens else None,
        shared_tokens=prompt.shared_tokens,
        session=prompt.session,
        turn=prompt.turn,
        think_s=prompt.think_s,
        keep_text=index < job.keep_text,
    )
