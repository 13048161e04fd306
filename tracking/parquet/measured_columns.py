"""Columns of a measurement, which stand in `trials` and in `stages`, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator

from tracking.parquet.columns import (
    INTEGER,
    INTERVALS,
    LATENCIES,
    NUMBER,
    STATISTICS,
    STRINGS,
    TEXT,
    TRUTH,
    VERDICTS,
    Columns,
    columns,
)

COUNTS = (
    columns(
        "requests_completed requests_failed",
        INTEGER,
        "ended with an answer; ended without one, or with half of one",
        "requests",
    ),
    columns(
        "duration_s",
        NUMBER,
        "first scheduled send, from which the window's seconds count too, to last end",
        "s",
    ),
    columns(
        "input_tokens output_tokens",
        INTEGER,
        "as the engine's `usage` counts them; null, as are the throughputs made of them, where "
        "that of a completed request does not say, and the stage is flagged `usage_missing`",
        "tokens",
    ),
    columns("requested_output_tokens", INTEGER, "asked for by completed requests", "tokens"),
    columns(
        "achieved_output_ratio",
        NUMBER,
        "output tokens received over asked for; null where they were not counted, or nobody "
        "asked for a number",
        "ratio",
    ),
    columns(
        "sent_prompt_tokens",
        INTEGER,
        "prompt tokens as they were sent; 0 where prompts were sent as text",
        "tokens",
    ),
    columns(
        "prompt_token_excess",
        INTEGER,
        "`input_tokens` beyond those sent: what the engine added; it has to be equal for engines "
        "to be comparable, and the summary says by how much it is not",
        "tokens",
    ),
    columns(
        "template_tokens",
        INTEGER,
        "of chats, what takes the place of `prompt_token_excess`: prompt tokens that the engine "
        "counts beyond the contents of the messages, the fewest of any chat of the stage; null "
        "for other requests",
        "tokens",
    ),
    columns(
        "shared_prompt_tokens",
        INTEGER,
        "of those sent, the ones the workload means to be cached",
        "tokens",
    ),
    columns(
        "cached_prompt_tokens",
        INTEGER,
        "of those sent, the ones that `usage` says were cached; null if it never says",
        "tokens",
    ),
    columns(
        "tokens_per_chunk",
        NUMBER,
        "output tokens over content chunks; above 1 a chunk is more than a token",
        "tokens/chunk",
    ),
)

THROUGHPUTS = (
    columns(
        "request_throughput",
        NUMBER,
        "requests, each in shares as its output tokens come ([why](#goodput))",
        "requests/s",
    ),
    columns(
        "input_throughput output_throughput total_throughput",
        NUMBER,
        "a request's input counts in the same shares, its output as it comes; total is both",
        "tokens/s",
    ),
    columns(
        "goodput",
        NUMBER,
        "requests that met, per metric, the limit of the highest percentile named: "
        "[which ones count](#goodput)",
        "requests/s",
    ),
)

JUDGEMENT = (
    columns(
        "slo",
        VERDICTS,
        "one per limit; `value_ms` is null where nothing was measured, and of a `hopeless` stage "
        "whose survivors meet every limit: then none is met",
    ),
    columns("slo_met", TRUTH, "every limit holds, or there is none; false where nothing completed"),
    columns(
        "slo_attainment",
        NUMBER,
        "good requests over all that count for `goodput`, failed ones included",
        "ratio",
    ),
    columns(
        "intervals",
        INTERVALS,
        "figure → its interval of 95 %, by the name of its column and in its unit; "
        "[see below](#intervals)",
    ),
    columns(
        "window_start_s window_end_s",
        NUMBER,
        "the window, after the first scheduled send; null, as are the next three, where nothing "
        "completed",
        "s",
    ),
    columns("window_rule", TEXT, "what set its ends: `whole`, `tail`, `mser`, `mser+tail`"),
    columns("window_requests", INTEGER, "completed requests scheduled within it", "requests"),
    columns("steady", TRUTH, "false when no part of the stage was seen to be stationary"),
    columns(
        "stopped_by",
        TEXT,
        "stop rule that ended the stage while something was left to send (`duration`, "
        "`output_tokens`, `error_rate`, `interval_width`, `hopeless`); `prompts` where a stage "
        "that was to last for a time had sent all that were made ready for it before; "
        "`interrupted`; empty for none",
    ),
)

CLIENT = (
    columns("client_processes", INTEGER, "processes that sent the load"),
    columns("client_cpu_s", NUMBER, "their CPU time", "s"),
    columns(
        "client_cpu_share", NUMBER, "CPU time of the busiest over the stage's duration", "ratio"
    ),
    columns(
        "client_lag_p99_ms client_lag_max_ms",
        NUMBER,
        "how much later than due the event loop ran a timer",
        "ms",
    ),
    columns(
        "client_send_lateness_p99_ms",
        NUMBER,
        "sent minus scheduled; in a closed loop a request is scheduled at the end of the one "
        "before, plus the user's pause",
        "ms",
    ),
    columns(
        "client_held_ratio",
        NUMBER,
        "mean requests in flight over those asked for, from when all streams were started until "
        "nothing was left to send; of a stage that ended before all were, the share that was. "
        "Null for an open loop, where nothing completed, and where that was no time at all. A "
        "slot is empty from the `[DONE]` of one request until the next is sent, so that a server "
        "which ends its responses late lowers it as well as a slow client",
        "ratio",
    ),
    columns("client_connections_opened", INTEGER, "opened while the stage ran", "connections"),
    columns(
        "client_chunks_per_read",
        NUMBER,
        "content chunks that came in one read of a socket",
        "chunks",
    ),
    columns("client_limits", STRINGS, "why it is flagged `client_limited`"),
)

COST = (
    columns("energy_j", NUMBER, "energy of its GPUs over the stage, where NVML counts it", "J"),
    columns("energy_per_token_j", NUMBER, "`energy_j` over `output_tokens`", "J/token"),
    columns("measurement_flags", STRINGS, "flags of this stage"),
)

LATENCY_WORDS = {
    "ttft": ("TTFT", "first content chunk minus send"),
    "ttft_scheduled": ("TTFT from the schedule", "first content chunk minus schedule"),
    "tpot": ("TPOT", "per request: (last − first content chunk) / (output tokens − 1)"),
    "itl": ("ITL", "gaps between content chunks, pooled over requests"),
    "e2e": ("E2E", "end of the stream minus send"),
    "e2e_scheduled": ("E2E from the schedule", "end of the stream minus schedule"),
}
"""Name and definition of each of the `LATENCIES`."""


def latency_columns(latency: str) -> tuple[Columns, Columns]:
    """The count of the values, and the statistics of them."""
    about = LATENCY_WORDS[latency][1]
    statistics = " ".join(f"{latency}_{name}_ms" for name in STATISTICS)
    return (
        columns(f"{latency}_count", INTEGER, about, "values"),
        columns(statistics, NUMBER, about, "ms"),
    )


def measurement() -> Iterator[Columns]:
    """Every column of a measurement, in the order of the file."""
    yield from (*COUNTS, *THROUGHPUTS)
    for latency in LATENCIES:
        yield from latency_columns(latency)
    yield from (*JUDGEMENT, *CLIENT, *COST)
