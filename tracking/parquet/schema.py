"""Arrow schemas of the record: types, units (field metadata) and version (schema metadata)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from runtimes.errors import RunFolderError
from tracking.parquet.columns import (
    CLIENT_TYPES,
    ENGINE_USE_COLUMNS,
    ENGINE_USE_UNITS,
    GPU_USE,
    INTERVALS,
    LATENCIES,
    LAYOUT_COLUMNS,
    NUMBER_MAP,
    PRECISION_COLUMNS,
    PREDICTED_COLUMNS,
    PREDICTED_RUNNING,
    STATISTICS,
    STRING_MAP,
    STRINGS,
    THROUGHPUT_UNITS,
    TIME,
    VERDICTS,
    ArrowField,
    column,
)
from tracking.parquet.parameters import ParameterType, ParameterTypes, column_names

SCHEMA_VERSION = 1
"""Raised when a reader of the old version would misread a file of the new one."""

_KIND_KEY = b"servetune.kind"
_VERSION_KEY = b"servetune.schema_version"
_PARAMETERS_KEY = b"servetune.parameters"

_PARAMETER_ARROW: dict[ParameterType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "json": pa.string(),
}


@dataclass(frozen=True, slots=True)
class ParameterColumn:
    """Where the values of one parameter stand, and as what."""

    column: str
    type: ParameterType


def _identity() -> list[ArrowField]:
    return [
        column("run", pa.string()),
        column("number", pa.int64()),
        column("attempt", pa.int64()),
    ]


def _times() -> list[ArrowField]:
    """Each instant twice: for people and time series, and exactly as it was measured."""
    return [
        column("started_at", TIME),
        column("ended_at", TIME),
        column("started_unix_s", pa.float64(), "s"),
        column("ended_unix_s", pa.float64(), "s"),
    ]


def _measurement() -> list[ArrowField]:
    fields = [
        column("requests_completed", pa.int64(), "requests"),
        column("requests_failed", pa.int64(), "requests"),
        column("duration_s", pa.float64(), "s"),
        column("input_tokens", pa.int64(), "tokens"),
        column("output_tokens", pa.int64(), "tokens"),
        column("requested_output_tokens", pa.int64(), "tokens"),
        column("achieved_output_ratio", pa.float64(), "ratio"),
        column("sent_prompt_tokens", pa.int64(), "tokens"),
        column("prompt_token_excess", pa.int64(), "tokens"),
        column("template_tokens", pa.int64(), "tokens"),
        column("shared_prompt_tokens", pa.int64(), "tokens"),
        column("cached_prompt_tokens", pa.int64(), "tokens"),
        column("tokens_per_chunk", pa.float64(), "tokens/chunk"),
    ]
    fields += [column(name, pa.float64(), unit) for name, unit in THROUGHPUT_UNITS.items()]
    for latency in LATENCIES:
        fields.append(column(f"{latency}_count", pa.int64(), "values"))
        fields += [column(f"{latency}_{name}_ms", pa.float64(), "ms") for name in STATISTICS]
    return [*fields, *_judgement()]


def _judgement() -> list[ArrowField]:
    """What a measurement says of the limits, of its own worth, and of what it cost."""
    return [
        column("slo", VERDICTS),
        column("slo_met", pa.bool_()),
        column("slo_attainment", pa.float64(), "ratio"),
        column("intervals", INTERVALS),
        column("window_start_s", pa.float64(), "s"),
        column("window_end_s", pa.float64(), "s"),
        column("window_rule", pa.string()),
        column("window_requests", pa.int64(), "requests"),
        column("steady", pa.bool_()),
        column("stopped_by", pa.string()),
        *(column(f"client_{name}", kind, unit) for name, (kind, unit) in CLIENT_TYPES.items()),
        column("client_limits", STRINGS),
        column("energy_j", pa.float64(), "J"),
        column("energy_per_token_j", pa.float64(), "J/token"),
        column("measurement_flags", STRINGS),
    ]


def _trial_head() -> list[ArrowField]:
    return [
        *_identity(),
        column("state", pa.string()),
        column("engine", pa.string()),
        column("baseline", pa.bool_()),
        column("reference", pa.bool_()),
        column("config_id", pa.string()),
        column("command", STRINGS),
        column("deploy_command", STRINGS),
        column("simulated", pa.bool_()),
        column("model", pa.string()),
        column("model_revision", pa.string()),
        column("seed", pa.int64()),
        column("gpus", pa.int64(), "GPUs"),
        *(column(name, pa.int64()) for name in LAYOUT_COLUMNS),
        *(column(name, pa.string()) for name in PRECISION_COLUMNS),
        column("gpu_ids", STRINGS),
        column("gpu_model", pa.string()),
        column("gpu_uuids", STRINGS),
        column("node", pa.string()),
        column("bundle", pa.string()),
        column("driver_version", pa.string()),
        column("cuda_version", pa.string()),
        column("environment_hash", pa.string()),
        column("compile_cache", pa.string()),
        column("process_ids", pa.list_(pa.int64())),
        *_times(),
        column("startup_s", pa.float64(), "s"),
        column("warmup_s", pa.float64(), "s"),
        column("measure_s", pa.float64(), "s"),
        column("stop_s", pa.float64(), "s"),
        column("gpu_seconds", pa.float64(), "GPU·s"),
        column("deciding_stage", pa.int64()),
        column("slo_rate_low", pa.float64(), "requests/s"),
        column("slo_rate_high", pa.float64(), "requests/s"),
        *(
            column(name, pa.float64(), "ms" if figure.endswith("_ms") else "tokens/s")
            for name, (figure, _) in PREDICTED_COLUMNS.items()
        ),
        column(PREDICTED_RUNNING, pa.float64(), "sequences"),
    ]


def _trial_tail() -> list[ArrowField]:
    return [
        column("objectives", NUMBER_MAP),
        column("failure_kind", pa.string()),
        column("failure_message", pa.string()),
        column("failure_remedy", pa.string()),
        column("failure_exit_code", pa.int64()),
        column("log_tail", pa.string()),
        column("reason", pa.string()),
        column("flags", STRINGS),
        column("engine_version", pa.string()),
        column("engine_config", STRING_MAP),
        column("versions", STRING_MAP),
        column("env", STRING_MAP),
        column("param_kinds", STRING_MAP),
    ]


def trial_schema(parameter_types: ParameterTypes, objectives: Sequence[str]) -> pa.Schema:
    """Schema of every trial file of a run with these parameters and objectives."""
    columns = column_names("param_", parameter_types)
    parameters = {
        name: ParameterColumn(column, parameter_types[name]) for name, column in columns.items()
    }
    fields = [
        *_trial_head(),
        *(column(item.column, _PARAMETER_ARROW[item.type]) for item in parameters.values()),
        *(column(name, pa.float64()) for name in objective_columns(objectives).values()),
        *_measurement(),
        *(
            column(f"{name}_per_gpu", pa.float64(), f"{unit}/GPU")
            for name, unit in THROUGHPUT_UNITS.items()
        ),
        *_trial_tail(),
    ]
    mapping = {name: [item.column, item.type] for name, item in parameters.items()}
    return _schema("trials", fields, {_PARAMETERS_KEY: json.dumps(mapping)})


def objective_columns(objectives: Sequence[str]) -> dict[str, str]:
    """Column by objective name."""
    return column_names("objective_", objectives)


def stage_schema() -> pa.Schema:
    """Schema of every stage file."""
    fields = [
        *_identity(),
        column("stage", pa.int64()),
        column("load", pa.string()),
        column("load_value", pa.float64()),
        *_times(),
        column("cache", pa.string()),
        column("designed_hit_rate", pa.float64(), "ratio"),
        column("observed_hit_rate", pa.float64(), "ratio"),
        column("acceptance_length", pa.float64(), "tokens"),
        column("repetition_score", pa.float64(), "ratio"),
        column("template_sha256", pa.string()),
        *(
            column(name, pa.float64(), ENGINE_USE_UNITS[field])
            for name, field in ENGINE_USE_COLUMNS.items()
        ),
        column("gpu_use", GPU_USE),
        column("repeat_of", pa.int64()),
        column("warmup_requests", pa.int64(), "requests"),
        column("warmup_steady", pa.bool_()),
        *_measurement(),
        column("counters_before", NUMBER_MAP),
        column("counters_after", NUMBER_MAP),
        column("cross_check", NUMBER_MAP),
        column("cross_check_note", pa.string()),
    ]
    return _schema("stages", fields)


def requests_schema() -> pa.Schema:
    """Schema of every request file; `chunk_ns` counts from `sent_ns`."""
    fields = [
        *_identity(),
        column("stage", pa.int64()),
        column("index", pa.int64()),
        column("scheduled_ns", pa.int64(), "ns"),
        column("sent_ns", pa.int64(), "ns"),
        column("first_byte_ns", pa.int64(), "ns"),
        column("first_content_ns", pa.int64(), "ns"),
        column("last_content_ns", pa.int64(), "ns"),
        column("end_ns", pa.int64(), "ns"),
        column("chunk_ns", pa.list_(pa.int64()), "ns since sent_ns"),
        column("chunk_tokens", pa.list_(pa.int64()), "tokens"),
        column("ttft_ms", pa.float64(), "ms"),
        column("ttft_scheduled_ms", pa.float64(), "ms"),
        column("tpot_ms", pa.float64(), "ms"),
        column("e2e_ms", pa.float64(), "ms"),
        column("e2e_scheduled_ms", pa.float64(), "ms"),
        column("prompt_tokens", pa.int64(), "tokens"),
        column("cached_tokens", pa.int64(), "tokens"),
        column("sent_tokens", pa.int64(), "tokens"),
        column("content_tokens", pa.int64(), "tokens"),
        column("shared_tokens", pa.int64(), "tokens"),
        column("output_tokens", pa.int64(), "tokens"),
        column("requested_output_tokens", pa.int64(), "tokens"),
        column("session", pa.int64()),
        column("turn", pa.int64()),
        column("error", pa.string()),
    ]
    return _schema("requests", fields)


def samples_schema() -> pa.Schema:
    """Schema of every sample file; units of `value` follow from `metric`."""
    fields = [
        *_identity(),
        column("stage", pa.int64()),
        column("at_ns", pa.int64(), "ns"),
        column("at", TIME),
        column("unix_s", pa.float64(), "s"),
        column("metric", pa.string()),
        column("engine_metric", pa.string()),
        column("gpu", pa.string()),
        column("value", pa.float64()),
    ]
    return _schema("samples", fields)


def parameter_columns(schema: pa.Schema) -> dict[str, ParameterColumn]:
    """Column by parameter name, as a trial file's own metadata has it.

    Raises:
        ValueError: the metadata is not there or cannot be read.
    """
    mapping = json.loads((schema.metadata or {}).get(_PARAMETERS_KEY, b""))
    return {name: ParameterColumn(column, kind) for name, (column, kind) in mapping.items()}


def check_schema(schema: pa.Schema, kind: str, path: Path) -> None:
    """Accept the schema of a file of ours.

    Raises:
        RunFolderError: a newer servetune wrote the file.
        ValueError: it is no `kind` file of servetune's.
    """
    metadata = schema.metadata or {}
    if metadata.get(_KIND_KEY) != kind.encode():
        raise ValueError(f"this is not a {kind} file of servetune's")
    written = int(metadata.get(_VERSION_KEY, b""))
    if written > SCHEMA_VERSION:
        raise RunFolderError(
            f"{path}: written with record version {written}, but this servetune knows versions "
            f"up to {SCHEMA_VERSION}; install the version of servetune that made the run, or a "
            "newer one"
        )


def _schema(
    kind: str, fields: list[ArrowField], extra: dict[bytes | str, bytes | str] | None = None
) -> pa.Schema:
    metadata: dict[bytes | str, bytes | str] = {
        _KIND_KEY: kind,
        _VERSION_KEY: str(SCHEMA_VERSION),
        **(extra or {}),
    }
    return pa.schema(fields, metadata=metadata)
