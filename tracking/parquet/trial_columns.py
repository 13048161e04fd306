"""Columns of `trials` beside parameters, objectives and the measurement, and what they mean."""

from __future__ import annotations

import pyarrow as pa

from tracking.parquet.columns import (
    INTEGER,
    LAYOUT_COLUMNS,
    NUMBER,
    NUMBER_MAP,
    PRECISION_COLUMNS,
    STRING_MAP,
    STRINGS,
    TEXT,
    THROUGHPUT_UNITS,
    TIME,
    TRUTH,
    Columns,
    columns,
)

IDENTITY = (
    columns("run", TEXT, "run id"),
    columns("number", INTEGER, "trial, from 0"),
    columns(
        "attempt",
        INTEGER,
        "attempt of the trial, from 0; a retryable failure is tried once more",
    ),
)

WHAT_RAN = (
    columns("state", TEXT, "`completed`, `infeasible`, `pruned`, `failed`, `cancelled`"),
    columns("engine", TEXT, "name of the engine"),
    columns("baseline", TRUTH, "a trial of the engine's defaults"),
    columns("reference", TRUTH, "a run of the configuration by which nodes are told apart"),
    columns("config_id", TEXT, "hash of the effective command and environment, ports left out"),
    columns("command", STRINGS, "what was started, `{host}` and `{port}` as placeholders"),
    columns(
        "deploy_command",
        STRINGS,
        "what a user starts to serve the same; of a simulation the imitated engine's command",
    ),
    columns("simulated", TRUTH, "nothing real was served"),
    columns("model", TEXT, "Hub id or folder"),
    columns(
        "model_revision",
        TEXT,
        "commit that the experiment's revision stood for when the run began; of a folder as the "
        "experiment names it",
    ),
    columns("seed", INTEGER, "the experiment's ([what follows from it](#seeds))"),
    columns("gpus", INTEGER, "GPUs the deployment needs: its world size", "GPUs"),
    columns(
        " ".join(LAYOUT_COLUMNS),
        INTEGER,
        "degrees of parallelism, presets resolved; 1 is not used, null is left to the engine",
    ),
    columns(
        " ".join(PRECISION_COLUMNS),
        TEXT,
        "precisions, presets resolved; null is as the checkpoint and the engine have it",
    ),
)

WHERE_IT_RAN = (
    columns("gpu_ids", STRINGS, "devices it held on its node"),
    columns("gpu_model", TEXT, "name of the devices"),
    columns(
        "gpu_uuids",
        STRINGS,
        "identities of the devices, in the order of `gpu_ids`; empty where no driver tells",
    ),
    columns("node", TEXT, "host name"),
    columns("bundle", TEXT, "bundle actor that owned the devices"),
    columns(
        "driver_version cuda_version",
        TEXT,
        "the devices' driver, and the newest CUDA it serves; null where no driver tells",
    ),
    columns(
        "environment_hash",
        TEXT,
        "of the environment the engine ran in: installed distributions, or the image; null where "
        "nothing can be hashed",
    ),
    columns(
        "compile_cache",
        TEXT,
        "`cold`: this start compiled its kernels; `warm`: they were there; null when nothing is "
        "compiled",
    ),
    columns("process_ids", pa.list_(pa.int64()), "guard and engine on the node"),
    columns("started_at ended_at", TIME, "the attempt, start and stop of the engine included"),
    columns("started_unix_s ended_unix_s", NUMBER, "the same, since the epoch", "s"),
    columns("startup_s warmup_s measure_s stop_s", NUMBER, "time spent in each phase", "s"),
    columns("gpu_seconds", NUMBER, "GPUs held times seconds held", "GPU·s"),
)

WHAT_WAS_EXPECTED = (
    columns("deciding_stage", INTEGER, "the stage whose measurement stands in this row"),
    columns(
        "slo_rate_low slo_rate_high",
        NUMBER,
        "bounds of the highest rate at which the SLO holds (load `max_under_slo`); null where "
        "nobody looked, or none was found; a rate that failed only where the client was the limit "
        "is no bound",
        "requests/s",
    ),
    columns(
        "predicted_ttft_ms predicted_ttft_low_ms predicted_ttft_high_ms "
        "predicted_tpot_ms predicted_tpot_low_ms predicted_tpot_high_ms",
        NUMBER,
        "means that the performance model predicted of the deciding stage before launch, each "
        "with bounds that hold the measured value nine times of ten; null, as are the next two "
        "lines, where [nothing is predicted](experiment-file.md#predictions)",
        "ms",
    ),
    columns(
        "predicted_output_throughput predicted_output_throughput_low "
        "predicted_output_throughput_high",
        NUMBER,
        "likewise, of the whole deployment",
        "tokens/s",
    ),
    columns("predicted_running", NUMBER, "sequences that run at once per replica", "sequences"),
)

PER_GPU = tuple(
    columns(f"{name}_per_gpu", NUMBER, "divided by `gpus`", f"{unit}/GPU")
    for name, unit in THROUGHPUT_UNITS.items()
)

HOW_IT_ENDED = (
    columns("objectives", NUMBER_MAP, "objective → value, each in its own unit"),
    columns("failure_kind", TEXT, "class of the failure, such as `oom_weights`, `crashed`, `hung`"),
    columns("failure_message", TEXT, "root cause, from the engine's log where it has one"),
    columns("failure_remedy", TEXT, "what to do about it"),
    columns(
        "failure_exit_code",
        INTEGER,
        "exit status; negative for a signal; null while the engine lived",
    ),
    columns("log_tail", TEXT, "last lines of the engine's log"),
    columns("reason", TEXT, "why an attempt was infeasible, pruned or cancelled"),
    columns("flags", STRINGS, "what makes the result doubtful; see below"),
    columns("engine_version", TEXT, "as the engine reports it"),
    columns(
        "engine_config",
        STRING_MAP,
        "the configuration the engine reports it resolved to, and what servetune knows of its "
        "start; see below",
    ),
    columns(
        "versions",
        STRING_MAP,
        "servetune, python, platform, hostname, ray, optuna, pyarrow, git_commit, git_dirty",
    ),
    columns("env", STRING_MAP, "variables set for the engine; secrets are `***`"),
    columns(
        "param_kinds",
        STRING_MAP,
        "JSON kind of each parameter's value, so that reading back is exact",
    ),
)

HEAD: tuple[Columns, ...] = (*IDENTITY, *WHAT_RAN, *WHERE_IT_RAN, *WHAT_WAS_EXPECTED)
"""What stands before the parameters."""
TAIL: tuple[Columns, ...] = (*PER_GPU, *HOW_IT_ENDED)
"""What stands after the measurement."""
