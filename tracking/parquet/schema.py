"""Arrow schemas of the record: types, units (field metadata) and version (schema metadata)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from runtimes.errors import RunFolderError
from runtimes.measurement import PERCENTILES, percentile_name
from runtimes.parallel import DEGREES
from runtimes.quantization import PARTS
from tracking.parquet.parameters import ParameterType, ParameterTypes, column_names

SCHEMA_VERSION = 1
"""Raised when a reader of the old version would misread a file of the new one."""

ArrowField: TypeAlias = "pa.Field[pa.DataType]"

UNIT_KEY = b"unit"
_KIND_KEY = b"servetune.kind"
_VERSION_KEY = b"servetune.schema_version"
_PARAMETERS_KEY = b"servetune.parameters"

TIME = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.string())
STRING_MAP = pa.map_(pa.string(), pa.string())
NUMBER_MAP = pa.map_(pa.string(), pa.float64())
INTERVALS = pa.map_(
    pa.string(), pa.struct([pa.field("low", pa.float64()), pa.field("high", pa.float64())])
)
VERDICTS = pa.list_(
    pa.struct(
        [
            pa.field("metric", pa.string()),
            pa.field("statistic", pa.string()),
            pa.field("limit_ms", pa.float64()),
            pa.field("value_ms", pa.float64()),
            pa.field("met", pa.bool_()),
        ]
    )
)

LATENCIES = ("ttft", "ttft_scheduled", "tpot", "itl", "e2e", "e2e_scheduled")
STATISTICS = ("mean", "min", *map(percentile_name, PERCENTILES), "max")
THROUGHPUT_UNITS = {
    "request_throughput": "requests/s",
    "input_throughput": "tokens/s",
    "output_throughput": "tokens/s",
    "total_throughput": "tokens/s",
    "goodput": "requests/s",
}

WINDOW_COLUMNS = {
    "window_start_s": "start_s",
    "window_end_s": "end_s",
    "window_rule": "rule",
    "window_requests": "requests",
    "steady": "steady",
}
"""Field of a `Window` by column."""
_CLIENT: dict[str, tuple[pa.DataType, str]] = {
    "processes": (pa.int64(), ""),
    "cpu_s": (pa.float64(), "s"),
    "cpu_share": (pa.float64(), "ratio"),
    "lag_p99_ms": (pa.float64(), "ms"),
    "lag_max_ms": (pa.float64(), "ms"),
    "send_lateness_p99_ms": (pa.float64(), "ms"),
    "held_ratio": (pa.float64(), "ratio"),
    "connections_opened": (pa.int64(), "connections"),
    "chunks_per_read": (pa.float64(), "chunks"),
}
CLIENT_COLUMNS = {f"client_{name}": name for name in _CLIENT}
"""Field of a `ClientHealth` by column."""

LAYOUT_COLUMNS = {f"layout_{degree}": degree for degree in DEGREES}
"""Degree by column; null where the engine decides."""
PRECISION_COLUMNS = {f"quantization_{part}": part for part in PARTS}
"""Part of a precision by column; null where it is left as it is."""

PREDICTED_COLUMNS = {
    "predicted_ttft_ms": ("ttft_ms", "value"),
    "predicted_ttft_low_ms": ("ttft_ms", "low"),
    "predicted_ttft_high_ms": ("ttft_ms", "high"),
    "predicted_tpot_ms": ("tpot_ms", "value"),
    "predicted_tpot_low_ms": ("tpot_ms", "low"),
    "predicted_tpot_high_ms": ("tpot_ms", "high"),
    "predicted_output_throughput": ("output_throughput", "value"),
    "predicted_output_throughput_low": ("output_throughput", "low"),
    "predicted_output_throughput_high": ("output_throughput", "high"),
}
"""Figure of an `Expected`, and which part of its estimate, by column."""
PREDICTED_RUNNING = "predicted_running"

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


def _column(name: str, kind: pa.DataType, unit: str = "") -> ArrowField:
    return pa.field(name, kind, metadata={UNIT_KEY: unit.encode()} if unit else None)


def _identity() -> list[ArrowField]:
    return [
        _column("run", pa.string()),
        _column("number", pa.int64()),
        _column("attempt", pa.int64()),
    ]


def _times() -> list[ArrowField]:
    """Each instant twice: for people and time series, and exactly as it was measured."""
    return [
        _column("started_at", TIME),
        _column("ended_at", TIME),
        _column("started_unix_s", pa.float64(), "s"),
        _column("ended_unix_s", pa.float64(), "s"),
    ]


def _measurement() -> list[ArrowField]:
    fields = [
        _column("requests_completed", pa.int64(), "requests"),
        _column("requests_failed", pa.int64(), "requests"),
        _column("duration_s", pa.float64(), "s"),
        _column("input_tokens", pa.int64(), "tokens"),
        _column("output_tokens", pa.int64(), "tokens"),
        _column("requested_output_tokens", pa.int64(), "tokens"),
        _column("achieved_output_ratio", pa.float64(), "ratio"),
        _column("sent_prompt_tokens", pa.int64(), "tokens"),
        _column("prompt_token_excess", pa.int64(), "tokens"),
        _column("template_tokens", pa.int64(), "tokens"),
        _column("shared_prompt_tokens", pa.int64(), "tokens"),
        _column("cached_prompt_tokens", pa.int64(), "tokens"),
        _column("tokens_per_chunk", pa.float64(), "tokens/chunk"),
    ]
    fields += [_column(name, pa.float64(), unit) for name, unit in THROUGHPUT_UNITS.items()]
    for latency in LATENCIES:
        fields.append(_column(f"{latency}_count", pa.int64(), "values"))
        fields += [_column(f"{latency}_{name}_ms", pa.float64(), "ms") for name in STATISTICS]
    return [*fields, *_judgement()]


def _judgement() -> list[ArrowField]:
    """What a measurement says of the limits, of its own worth, and of what it cost."""
    return [
        _column("slo", VERDICTS),
        _column("slo_met", pa.bool_()),
        _column("slo_attainment", pa.float64(), "ratio"),
        _column("intervals", INTERVALS),
        _column("window_start_s", pa.float64(), "s"),
        _column("window_end_s", pa.float64(), "s"),
        _column("window_rule", pa.string()),
        _column("window_requests", pa.int64(), "requests"),
        _column("steady", pa.bool_()),
        _column("stopped_by", pa.string()),
        *(_column(f"client_{name}", kind, unit) for name, (kind, unit) in _CLIENT.items()),
        _column("client_limits", STRINGS),
        _column("energy_j", pa.float64(), "J"),
        _column("energy_per_token_j", pa.float64(), "J/token"),
        _column("measurement_flags", STRINGS),
    ]


def _trial_head() -> list[ArrowField]:
    return [
        *_identity(),
        _column("state", pa.string()),
        _column("engine", pa.string()),
        _column("baseline", pa.bool_()),
        _column("config_id", pa.string()),
        _column("command", STRINGS),
        _column("deploy_command", STRINGS),
        _column("simulated", pa.bool_()),
        _column("model", pa.string()),
        _column("model_revision", pa.string()),
        _column("seed", pa.int64()),
        _column("gpus", pa.int64(), "GPUs"),
        *(_column(name, pa.int64()) for name in LAYOUT_COLUMNS),
        *(_column(name, pa.string()) for name in PRECISION_COLUMNS),
        _column("gpu_ids", STRINGS),
        _column("gpu_model", pa.string()),
        _column("node", pa.string()),
        _column("bundle", pa.string()),
        _column("process_ids", pa.list_(pa.int64())),
        *_times(),
        _column("startup_s", pa.float64(), "s"),
        _column("warmup_s", pa.float64(), "s"),
        _column("measure_s", pa.float64(), "s"),
        _column("stop_s", pa.float64(), "s"),
        _column("gpu_seconds", pa.float64(), "GPU·s"),
        _column("deciding_stage", pa.int64()),
        _column("slo_rate_low", pa.float64(), "requests/s"),
        _column("slo_rate_high", pa.float64(), "requests/s"),
        *(
            _column(name, pa.float64(), "ms" if figure.endswith("_ms") else "tokens/s")
            for name, (figure, _) in PREDICTED_COLUMNS.items()
        ),
        _column(PREDICTED_RUNNING, pa.float64(), "sequences"),
    ]


def _trial_tail() -> list[ArrowField]:
    return [
        _column("objectives", NUMBER_MAP),
        _column("failure_kind", pa.string()),
        _column("failure_message", pa.string()),
        _column("failure_remedy", pa.string()),
        _column("failure_exit_code", pa.int64()),
        _column("log_tail", pa.string()),
        _column("reason", pa.string()),
        _column("flags", STRINGS),
        _column("engine_version", pa.string()),
        _column("engine_config", STRING_MAP),
        _column("versions", STRING_MAP),
        _column("env", STRING_MAP),
        _column("param_kinds", STRING_MAP),
    ]


def trial_schema(parameter_types: ParameterTypes, objectives: Sequence[str]) -> pa.Schema:
    """Schema of every trial file of a run with these parameters and objectives."""
    columns = column_names("param_", parameter_types)
    parameters = {
        name: ParameterColumn(column, parameter_types[name]) for name, column in columns.items()
    }
    fields = [
        *_trial_head(),
        *(_column(item.column, _PARAMETER_ARROW[item.type]) for item in parameters.values()),
        *(_column(name, pa.float64()) for name in objective_columns(objectives).values()),
        *_measurement(),
        *(
            _column(f"{name}_per_gpu", pa.float64(), f"{unit}/GPU")
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
        _column("stage", pa.int64()),
        _column("load", pa.string()),
        _column("load_value", pa.float64()),
        *_times(),
        _column("cache", pa.string()),
        _column("designed_hit_rate", pa.float64(), "ratio"),
        _column("observed_hit_rate", pa.float64(), "ratio"),
        _column("acceptance_length", pa.float64(), "tokens"),
        _column("repetition_score", pa.float64(), "ratio"),
        _column("template_sha256", pa.string()),
        _column("warmup_requests", pa.int64(), "requests"),
        _column("warmup_steady", pa.bool_()),
        *_measurement(),
        _column("counters_before", NUMBER_MAP),
        _column("counters_after", NUMBER_MAP),
        _column("cross_check", NUMBER_MAP),
        _column("cross_check_note", pa.string()),
    ]
    return _schema("stages", fields)


def requests_schema() -> pa.Schema:
    """Schema of every request file; `chunk_ns` counts from `sent_ns`."""
    fields = [
        *_identity(),
        _column("stage", pa.int64()),
        _column("index", pa.int64()),
        _column("scheduled_ns", pa.int64(), "ns"),
        _column("sent_ns", pa.int64(), "ns"),
        _column("first_byte_ns", pa.int64(), "ns"),
        _column("first_content_ns", pa.int64(), "ns"),
        _column("last_content_ns", pa.int64(), "ns"),
        _column("end_ns", pa.int64(), "ns"),
        _column("chunk_ns", pa.list_(pa.int64()), "ns since sent_ns"),
        _column("chunk_tokens", pa.list_(pa.int64()), "tokens"),
        _column("ttft_ms", pa.float64(), "ms"),
        _column("ttft_scheduled_ms", pa.float64(), "ms"),
        _column("tpot_ms", pa.float64(), "ms"),
        _column("e2e_ms", pa.float64(), "ms"),
        _column("e2e_scheduled_ms", pa.float64(), "ms"),
        _column("prompt_tokens", pa.int64(), "tokens"),
        _column("cached_tokens", pa.int64(), "tokens"),
        _column("sent_tokens", pa.int64(), "tokens"),
        _column("content_tokens", pa.int64(), "tokens"),
        _column("shared_tokens", pa.int64(), "tokens"),
        _column("output_tokens", pa.int64(), "tokens"),
        _column("requested_output_tokens", pa.int64(), "tokens"),
        _column("session", pa.int64()),
        _column("turn", pa.int64()),
        _column("error", pa.string()),
    ]
    return _schema("requests", fields)


def samples_schema() -> pa.Schema:
    """Schema of every sample file; units of `value` follow from `metric`."""
    fields = [
        *_identity(),
        _column("stage", pa.int64()),
        _column("at_ns", pa.int64(), "ns"),
        _column("at", TIME),
        _column("unix_s", pa.float64(), "s"),
        _column("metric", pa.string()),
        _column("engine_metric", pa.string()),
        _column("value", pa.float64()),
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
