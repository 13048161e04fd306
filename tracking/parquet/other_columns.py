"""Columns of `stages`, `requests`, `samples` and `events`, and what they mean."""

from __future__ import annotations

import pyarrow as pa

from tracking.parquet.columns import (
    GPU_USE,
    INTEGER,
    NUMBER,
    NUMBER_MAP,
    STRING_MAP,
    STRINGS,
    TEXT,
    TIME,
    TRUTH,
    columns,
)
from tracking.parquet.trial_columns import IDENTITY

_STAGE = columns("stage", INTEGER, "load stage of the attempt, from 0")
_INTEGERS = pa.list_(pa.int64())
_COUNT_MAP = pa.map_(pa.string(), pa.int64())

STAGE_HEAD = (
    *IDENTITY,
    _STAGE,
    columns("load", TEXT, "its kind: `concurrency`, `poisson`, …"),
    columns(
        "load_value",
        NUMBER,
        "requests in flight, or requests/s; the highest where it changes; of a replay, its speed",
    ),
    columns("started_at ended_at", TIME, "the measured load"),
    columns("started_unix_s ended_unix_s", NUMBER, "the same, since the epoch", "s"),
    columns(
        "cache",
        TEXT,
        "what the prefix cache held at its start: `cold:reset` (emptied by the engine), "
        "`cold:salt` (no prompt begins as an earlier one), `warm` (primed)",
    ),
    columns(
        "designed_hit_rate",
        NUMBER,
        "share of prompt tokens that the workload means to be cached, in whole blocks; null where "
        "prompts were sent as text",
        "ratio",
    ),
    columns(
        "observed_hit_rate",
        NUMBER,
        "share that the engine says it found; null where it does not say",
        "ratio",
    ),
    columns(
        "acceptance_length",
        NUMBER,
        "tokens per verification of a draft; null without speculation, and where the engine does "
        "not count its verifications (TensorRT-LLM)",
        "tokens",
    ),
    columns(
        "repetition_score",
        NUMBER,
        "share of repeated sequences of four words in generated text, for `content_sensitive` "
        "stages",
        "ratio",
    ),
    columns(
        "template_sha256",
        TEXT,
        "hash of the chat template that the engine's arguments name, else of the model's; empty "
        "where requests are no chats, and where it cannot be read on the machine that runs "
        "`servetune`",
    ),
    columns(
        "engine_kv_cache_usage_mean engine_kv_cache_usage_max",
        NUMBER,
        "share of the KV cache in use while it was measured; null, as are the next lines, where "
        "the engine does not say",
        "ratio",
    ),
    columns(
        "engine_requests_running_mean engine_requests_waiting_mean engine_requests_waiting_max",
        NUMBER,
        "requests it worked on at once, and those that waited in it",
        "requests",
    ),
    columns("engine_preemptions", NUMBER, "put back to make room", "requests"),
    columns(
        "engine_queue_mean_s engine_prefill_mean_s engine_decode_mean_s",
        NUMBER,
        "per request: before its prefill, from there to its first token, from there to its last",
        "s",
    ),
    columns(
        "gpu_use",
        GPU_USE,
        "one per device: clocks, power, temperature, throttling, errors of memory, Xids",
    ),
    columns(
        "repeat_of",
        INTEGER,
        "the stage it repeats because a device was throttled; null for a stage of its own",
    ),
    columns("warmup_requests", INTEGER, "sent before it and not measured", "requests"),
    columns("warmup_steady", TRUTH, "whether they ended stationary; null where nothing says so"),
)
"""What stands before the measurement."""

STAGE_TAIL = (
    columns(
        "counters_before counters_after",
        NUMBER_MAP,
        "the engine's counters at idle, before the first measured request and after the last one "
        "drained",
    ),
    columns(
        "cross_check",
        NUMBER_MAP,
        "what another load generator measured of the same load, by figure "
        "([bench.md](bench.md#cross-checks)); empty for none",
    ),
    columns(
        "cross_check_note",
        TEXT,
        "which one, and what to know of its figures, or why there are none",
    ),
)
"""What stands after the measurement."""

REQUESTS = (
    *IDENTITY,
    _STAGE,
    columns("index", INTEGER, "position in the stage's schedule"),
    columns("scheduled_ns", INTEGER, "when the load meant to send it", "ns"),
    columns("sent_ns", INTEGER, "when its last byte was handed to the socket", "ns"),
    columns("first_byte_ns", INTEGER, "first byte of the response; null when none came", "ns"),
    columns(
        "first_content_ns last_content_ns end_ns",
        INTEGER,
        "first and last chunk with content; end of the stream",
        "ns",
    ),
    columns("chunk_ns", _INTEGERS, "arrival of every content chunk", "ns since sent_ns"),
    columns(
        "chunk_tokens", _INTEGERS, "tokens of each of them, where the server says so", "tokens"
    ),
    columns(
        "ttft_ms ttft_scheduled_ms tpot_ms e2e_ms e2e_scheduled_ms",
        NUMBER,
        "as defined above",
        "ms",
    ),
    columns("prompt_tokens", INTEGER, "from `usage`", "tokens"),
    columns(
        "cached_tokens", INTEGER, "prompt tokens that `usage` says came from a cache", "tokens"
    ),
    columns(
        "sent_tokens",
        INTEGER,
        "tokens of the prompt as it was sent; null where it was sent as text",
        "tokens",
    ),
    columns(
        "content_tokens",
        INTEGER,
        "tokens of the contents of a chat's messages, without what the server's template adds; "
        "null for other requests",
        "tokens",
    ),
    columns(
        "shared_tokens", INTEGER, "leading tokens that the workload means to be cached", "tokens"
    ),
    columns("output_tokens", INTEGER, "from `usage`", "tokens"),
    columns("requested_output_tokens", INTEGER, "`max_tokens`", "tokens"),
    columns(
        "session turn",
        INTEGER,
        "conversation the request belongs to, and its turn in it from 0",
    ),
    columns("error", TEXT, "null for success"),
)

SAMPLES = (
    *IDENTITY,
    _STAGE,
    columns(
        "at_ns", INTEGER, "monotonic clock, comparable with `requests` of the same attempt", "ns"
    ),
    columns("at", TIME, "wall clock of the same instant"),
    columns("unix_s", NUMBER, "the same, since the epoch", "s"),
    columns(
        "metric",
        TEXT,
        "canonical name, the same for every engine: [which ones](#metrics-of-engines)",
    ),
    columns("engine_metric", TEXT, "the engine's own name, such as `vllm:num_requests_running`"),
    columns("gpu", TEXT, "the device; empty for the engine"),
    columns(
        "value",
        NUMBER,
        "`*_total` are counters (tokens, requests, seconds), `*_ratio` is in [0, 1], the others "
        "are requests; [of a device](#metrics-of-devices) the unit is in the name",
    ),
)

EVENT_PLACE = (
    columns("run", TEXT, "run id"),
    columns("segment", INTEGER, "the journal's file that holds it: `journal/NNNNNNNN.jsonl`"),
    columns("line", INTEGER, "its line there, from 1"),
    columns("at", TIME, "when it was written"),
    columns("unix_s", NUMBER, "the same, since the epoch", "s"),
    columns("kind", TEXT, "what happened: `proposed`, `launched`, `phase_changed`, `finished`, …"),
)
"""Of every event."""

EVENT_FIELDS = (
    columns("number", INTEGER, "trial"),
    columns("attempt", INTEGER, "attempt of it"),
    columns("node", TEXT, "host name"),
    columns("bundle", TEXT, "bundle actor"),
    columns("gpu", TEXT, "the one device it is about"),
    columns("gpu_ids", STRINGS, "devices that were taken, or given to an attempt"),
    columns("gpu_model", TEXT, "their name"),
    columns("labels", STRINGS, "of the node"),
    columns("engine", TEXT, "of a proposal"),
    columns("config_id", TEXT, "of a proposal"),
    columns("baseline", TRUTH, "the proposal is of the engine's defaults"),
    columns(
        "reference", TRUTH, "the proposal is of the configuration by which nodes are told apart"
    ),
    columns(
        "values",
        STRING_MAP,
        "of a proposal: parameter → value as JSON; they are of any type, and typed in `trials`",
    ),
    columns(
        "predicted", NUMBER_MAP, "of a launch: figure → what was predicted, units in the names"
    ),
    columns(
        "communication_ratio",
        NUMBER,
        "of a launch: share of a decode step that is predicted to go to communication between GPUs",
        "ratio",
    ),
    columns(
        "phase", TEXT, "the attempt entered it: `starting`, `warming`, `measuring`, `stopping`"
    ),
    columns("process_ids", _INTEGERS, "guard and engine on the node"),
    columns("state", TEXT, "the attempt ended in it"),
    columns("retry", TRUTH, "another attempt follows"),
    columns("owner", TEXT, "who uses a device that was to be free"),
    columns("used_bytes", INTEGER, "memory of it in use", "bytes"),
    columns("why", TEXT, "a device is withheld: `dirty` for good, `foreign` until it is free"),
    columns("reason", TEXT, "why a bundle is lost, a study stops, or a driver left"),
    columns("ending", TEXT, "how a run ended"),
    columns("servetune_version", TEXT, "of the driver that took the run in hand"),
    columns("resumed", TRUTH, "it was not the first"),
    columns("valid", INTEGER, "points of the space; null for an endless one", "points"),
    columns("duplicates", INTEGER, "points that come to the same command", "points"),
    columns("excluded", _COUNT_MAP, "rule → points it cuts out"),
)
"""Fields of `tracking.events`; null where an event has no such field."""
