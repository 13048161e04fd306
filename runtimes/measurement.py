"""What one load stage showed: records of single requests, and the numbers made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtimes.slo import SloVerdict

PERCENTILES = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
"""Percentiles of every latency that is recorded."""


def percentile_name(percentile: float) -> str:
    """`p99`, `p99_9`: a percentile's name in fields, columns and keys."""
    return f"p{percentile:g}".replace(".", "_")


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as the client saw it.

    All `*_ns` are of one monotonic clock (`time.perf_counter_ns`), which all processes of a machine
    share. `scheduled_ns` is when the load meant it to be sent, `sent_ns` when its last byte was
    handed to the socket.

    Attributes:
        index: position in the stage's schedule.
        chunk_ns: arrival of every content chunk, the first included.
        prompt_tokens, output_tokens: as the engine's `usage` counts them; None if it sent none.
        requested_output_tokens: what `max_tokens` asked for.
        error: None for success, otherwise a short reason (`http 500`, `timeout`, `cut stream`).
        first_byte_ns: arrival of the first byte of the response; None when none came.
        chunk_tokens: tokens of each content chunk, where the server says so (`usage` in every
            chunk); None where it does not.
        cached_tokens: prompt tokens that `usage` says came from a prefix cache; None if it does
            not say.
        sent_tokens: tokens of the prompt as it was sent; None where it was sent as text.
        content_tokens: tokens of the contents of a chat's messages, to which the server adds those
            of its template; None where the request is no chat.
        shared_tokens: leading tokens of the prompt that the workload means to be cached.
        session, turn: conversation the request belongs to, and its turn in it from 0.
        text: what was generated, for the requests whose text is kept; empty for the others.
    """

    index: int
    scheduled_ns: int
    sent_ns: int
    chunk_ns: Sequence[int]
    end_ns: int
    prompt_tokens: int | None
    output_tokens: int | None
    requested_output_tokens: int
    error: str | None = None
    first_byte_ns: int | None = None
    chunk_tokens: Sequence[int] | None = None
    cached_tokens: int | None = None
    sent_tokens: int | None = None
    content_tokens: int | None = None
    shared_tokens: int = 0
    session: int | None = None
    turn: int = 0
    text: str = ""

    @property
    def first_content_ns(self) -> int | None:
        return self.chunk_ns[0] if len(self.chunk_ns) else None

    @property
    def last_content_ns(self) -> int | None:
        return self.chunk_ns[-1] if len(self.chunk_ns) else None

    @property
    def ttft_ms(self) -> float | None:
        """First content chunk minus send, ms."""
        return (self.chunk_ns[0] - self.sent_ns) / 1e6 if len(self.chunk_ns) else None

    @property
    def ttft_scheduled_ms(self) -> float | None:
        """First content chunk minus schedule, ms: what a user would have waited."""
        return (self.chunk_ns[0] - self.scheduled_ns) / 1e6 if len(self.chunk_ns) else None

    @property
    def tpot_ms(self) -> float | None:
        """(last − first content) / (output tokens − 1), ms.

        None below two tokens, and where all content came at one instant: what time the tokens took
        is not known then.
        """
        if not len(self.chunk_ns) or self.output_tokens is None or self.output_tokens < 2:
            return None
        spread_ns = self.chunk_ns[-1] - self.chunk_ns[0]
        return spread_ns / (self.output_tokens - 1) / 1e6 if spread_ns else None

    @property
    def e2e_ms(self) -> float:
        """End of the stream minus send, ms."""
        return (self.end_ns - self.sent_ns) / 1e6

    @property
    def e2e_scheduled_ms(self) -> float:
        """End of the stream minus schedule, ms."""
        return (self.end_ns - self.scheduled_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and exact percentiles (linear interpolation between ranks) of `count` values, ms.

    None is what an older record, or the tool that a record was imported from, does not say.
    """

    count: int | None
    mean: float
    p50: float
    p90: float | None
    p95: float | None
    p99: float
    max: float | None
    p0_1: float | None = None
    p1: float | None = None
    p5: float | None = None
    p10: float | None = None
    p25: float | None = None
    p75: float | None = None
    p99_9: float | None = None
    min: float | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of 95 %, in the unit of its figure."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a stage that throughputs are computed over; seconds after its first schedule.

    Attributes:
        rule: what set its ends, in one word (`whole`, `mser`, `tail`, `mser+tail`).
        steady: False when no part of the stage was seen to be stationary.
        requests: requests whose latencies count, those scheduled within it.
    """

    start_s: float
    end_s: float
    rule: str = "whole"
    steady: bool = True
    requests: int = 0

    @property
    def length_s(self) -> float:
        return max(0.0, self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """How well the load generator kept up; the worst of its processes where it had several.

    Attributes:
        processes: processes that sent.
        cpu_s: CPU time of all of them while the stage ran.
        cpu_share: CPU time of the busiest over the stage's duration, in [0, 1].
        lag_p99_ms, lag_max_ms: how much later than due a timer of the event loop ran.
        send_lateness_p99_ms: sent minus scheduled.
        held_ratio: mean requests in flight over those asked for, while the load was to hold them;
            None for an open loop.
        connections_opened: connections made while the stage ran, those before its start left out.
        chunks_per_read: content chunks that came in one read of a socket, on average.
    """

    processes: int = 1
    cpu_s: float = 0.0
    cpu_share: float = 0.0
    lag_p99_ms: float = 0.0
    lag_max_ms: float = 0.0
    send_lateness_p99_ms: float = 0.0
    held_ratio: float | None = None
    connections_opened: int = 0
    chunks_per_read: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures of one load stage, over its measured (not warm-up) requests.

    Counts (`requests_*`, `*_tokens`) are of the whole stage, so that they can be held against the
    engine's own counters. Throughputs are per second of `window`; latencies and `goodput` are of
    the requests that were scheduled in it.

    Attributes:
        duration_s: first scheduled send, which is where the window's seconds count from, to the
            last end.
        input_tokens, output_tokens: as `usage` counts them; None, as the throughputs of such tokens
            are, where that of a completed request does not.
        goodput: good requests per second; `slo_attainment` the good share of those that count
            for it (`runtimes.rates`).
        ttft_scheduled_ms, e2e_scheduled_ms: from the schedule instead of from the send.
        tokens_per_chunk: output tokens over content chunks; above 1 a gap is not a token's.
        sent_prompt_tokens: prompt tokens as they were sent; 0 where text was sent.
        template_tokens: prompt tokens that `usage` counts beyond the contents of a chat's messages,
            the fewest of any chat, which is the template around the shortest conversation. None
            where requests are no chats, or nothing was counted.
        shared_prompt_tokens: of them, those that the workload means to be cached.
        cached_prompt_tokens: of them, those that `usage` says were; None if it never says.
        intervals: confidence interval by figure (`output_throughput`, `ttft_p99_ms`, …).
        energy_j: energy of its GPUs from the stage's start to its end; None where unknown.
        stopped_by: stop rule that ended the stage early (`hopeless`, …) or `interrupted`; empty for
            none.
        client_limits: why it is flagged `client_limited`, in words; empty where it is not.
    """

    requests_completed: int
    requests_failed: int
    duration_s: float
    input_tokens: int | None
    output_tokens: int | None
    requested_output_tokens: int
    ttft_ms: Distribution | None
    tpot_ms: Distribution | None
    itl_ms: Distribution | None
    e2e_ms: Distribution | None
    request_throughput: float
    input_throughput: float | None
    output_throughput: float | None
    total_throughput: float | None
    goodput: float
    slo: tuple[SloVerdict, ...] = ()
    flags: tuple[str, ...] = ()
    ttft_scheduled_ms: Distribution | None = None
    e2e_scheduled_ms: Distribution | None = None
    slo_attainment: float | None = None
    tokens_per_chunk: float | None = None
    sent_prompt_tokens: int = 0
    template_tokens: int | None = None
    shared_prompt_tokens: int = 0
    cached_prompt_tokens: int | None = None
    window: Window | None = None
    client: ClientHealth | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    energy_j: float | None = None
    stopped_by: str = ""
    client_limits: tuple[str, ...] = ()

    @property
    def slo_met(self) -> bool:
        """True when every limit holds, or there is none; False where nothing completed."""
        return self.requests_completed > 0 and all(verdict.met for verdict in self.slo)

    @property
    def achieved_output_ratio(self) -> float | None:
        """Output tokens received over output tokens asked for, of completed requests."""
        if self.output_tokens is None or not self.requested_output_tokens:
            return None
        return self.output_tokens / self.requested_output_tokens

    @property
    def prompt_token_excess(self) -> int | None:
        """Prompt tokens that `usage` counts beyond those sent; None where either is not known."""
        if self.input_tokens is None or not self.sent_prompt_tokens:
            return None
        return self.input_tokens - self.sent_prompt_tokens

    @property
    def energy_per_token_j(self) -> float | None:
        """Energy over output tokens, J; None where either is missing."""
        if self.energy_j is None or not self.output_tokens:
            return None
        return self.energy_j / self.output_tokens
