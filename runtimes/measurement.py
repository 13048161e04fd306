"""What one load stage showed: records of single requests, and the numbers made of them."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.slo import SloVerdict


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as the client saw it.

    All `*_ns` are of one monotonic clock (`time.perf_counter_ns`). `scheduled_ns` is when the
    load meant it to be sent, `sent_ns` when its last byte was handed to the socket.

    Attributes:
        index: position in the stage's schedule.
        chunk_ns: arrival of every content chunk, the first included.
        prompt_tokens, output_tokens: as the engine's `usage` counts them; None if it sent none.
        requested_output_tokens: what `max_tokens` asked for.
        error: None for success, otherwise a short reason (`http 500`, `timeout`, `cut stream`).
    """

    index: int
    scheduled_ns: int
    sent_ns: int
    chunk_ns: tuple[int, ...]
    end_ns: int
    prompt_tokens: int | None
    output_tokens: int | None
    requested_output_tokens: int
    error: str | None = None

    @property
    def first_content_ns(self) -> int | None:
        return self.chunk_ns[0] if self.chunk_ns else None

    @property
    def ttft_ms(self) -> float | None:
        """First content chunk minus send, ms."""
        return (self.chunk_ns[0] - self.sent_ns) / 1e6 if self.chunk_ns else None

    @property
    def tpot_ms(self) -> float | None:
        """(last − first content) / (output tokens − 1), ms; None below two tokens."""
        if not self.chunk_ns or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.chunk_ns[-1] - self.chunk_ns[0]) / (self.output_tokens - 1) / 1e6

    @property
    def e2e_ms(self) -> float:
        """End of the stream minus send, ms."""
        return (self.end_ns - self.sent_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and exact percentiles (linear interpolation) of `count` values, all in ms."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures of one load stage, over its measured (not warm-up) requests.

    Throughputs are per second of `duration_s`, which runs from the first scheduled send to the
    last end. `goodput` counts good requests per second.
    """

    requests_completed: int
    requests_failed: int
    duration_s: float
    input_tokens: int
    output_tokens: int
    requested_output_tokens: int
    ttft_ms: Distribution | None
    tpot_ms: Distribution | None
    itl_ms: Distribution | None
    e2e_ms: Distribution | None
    request_throughput: float
    input_throughput: float
    output_throughput: float
    total_throughput: float
    goodput: float
    slo: tuple[SloVerdict, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def slo_met(self) -> bool:
        """True when every limit holds; vacuously true without limits."""
        return all(verdict.met for verdict in self.slo)

    @property
    def achieved_output_ratio(self) -> float:
        """Output tokens received over output tokens asked for, of completed requests."""
        if not self.requested_output_tokens:
            return 0.0
        return self.output_tokens / self.requested_output_tokens
