"""Records as flat rows: column name to plain Python value. Inverse: `decode.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeAlias

from runtimes.errors import InternalError
from runtimes.failure import Failure
from runtimes.json_types import Json
from runtimes.measurement import ClientHealth, Distribution, Measurement, Window
from search.perfmodel.expected import Expected
from tracking.parquet.columns import (
    CLIENT_COLUMNS,
    ENGINE_USE_COLUMNS,
    LATENCIES,
    LAYOUT_COLUMNS,
    PRECISION_COLUMNS,
    PREDICTED_COLUMNS,
    PREDICTED_RUNNING,
    STATISTICS,
    THROUGHPUT_UNITS,
    WINDOW_COLUMNS,
)
from tracking.parquet.parameters import json_kind, to_cell
from tracking.parquet.schema import ParameterColumn, objective_columns
from tracking.records import EngineUse, StageRecord, TrialRecord

Row: TypeAlias = dict[str, Any]
"""One row on its way into or out of Arrow; columns that are absent are null."""

_OTHER_IN_TRIALS = frozenset(
    {"state", "params", "measurement", "failure", "layout", "quantization", "predicted"}
)
SAME_IN_TRIALS = tuple(
    item.name for item in fields(TrialRecord) if item.name not in _OTHER_IN_TRIALS
)
"""Fields of a trial that are columns of the same name."""

NULL_WHERE_EMPTY = ("driver_version", "cuda_version", "environment_hash", "compile_cache")
"""Those of them whose column is null where the field is empty: it is not known."""

_OTHER_IN_STAGES = frozenset({"measurement", "engine_use", "gpu_use"})
SAME_IN_STAGES = tuple(
    item.name for item in fields(StageRecord) if item.name not in _OTHER_IN_STAGES
)
"""Fields of a stage that are columns of the same name."""

SAME_IN_MEASUREMENTS = tuple(
    item.name
    for item in fields(Measurement)
    if item.name not in {"slo", "flags", "window", "client", "intervals"}
    and item.name not in {f"{latency}_ms" for latency in LATENCIES}
)
"""Fields of a measurement that are columns of the same name."""


def trial_row(
    record: TrialRecord, parameters: Mapping[str, ParameterColumn], objectives: Sequence[str]
) -> Row:
    """The row of a trial in a file with these parameter columns and objectives.

    Raises:
        InternalError: a parameter has no column, or one of another type.
    """
    columns = objective_columns(objectives)
    return {
        **{name: getattr(record, name) for name in SAME_IN_TRIALS},
        **{name: getattr(record, name) or None for name in NULL_WHERE_EMPTY},
        "state": record.state.value,
        "started_at": _microseconds(record.started_unix_s),
        "ended_at": _microseconds(record.ended_unix_s),
        **{column: getattr(record.layout, name) for column, name in LAYOUT_COLUMNS.items()},
        **{
            column: getattr(record.quantization, part) for column, part in PRECISION_COLUMNS.items()
        },
        **_prediction(record.predicted),
        **_parameters(record.params, parameters),
        **{columns[name]: record.objectives.get(name) for name in objectives},
        **_measurement(record.measurement),
        **_per_gpu(record.measurement, record.gpus),
        **_failure(record.failure),
    }


def stage_row(record: StageRecord) -> Row:
    """The row of a load stage."""
    return {
        **{name: getattr(record, name) for name in SAME_IN_STAGES},
        "started_at": _microseconds(record.started_unix_s),
        "ended_at": _microseconds(record.ended_unix_s),
        **_parts(record.engine_use, ENGINE_USE_COLUMNS),
        "gpu_use": [asdict(device) for device in record.gpu_use],
        **_measurement(record.measurement),
    }


def _microseconds(unix_s: float | None) -> int | None:
    return None if unix_s is None else round(unix_s * 1e6)


def _parameters(params: Mapping[str, Json], columns: Mapping[str, ParameterColumn]) -> Row:
    undeclared = sorted(set(params) - set(columns))
    if undeclared:
        raise InternalError(
            f"parameters without a column: {', '.join(undeclared)}; declare the type of every "
            "parameter the search can propose"
        )
    row: Row = {
        columns[name].column: to_cell(name, value, columns[name].type)
        for name, value in params.items()
    }
    row["param_kinds"] = {name: json_kind(value) for name, value in params.items()}
    return row


def _prediction(predicted: Expected | None) -> Row:
    if predicted is None:
        return {}
    row: Row = {
        column: getattr(getattr(predicted, figure), bound)
        for column, (figure, bound) in PREDICTED_COLUMNS.items()
    }
    return {**row, PREDICTED_RUNNING: predicted.running}


def _measurement(measurement: Measurement | None) -> Row:
    if measurement is None:
        return {}
    row: Row = {name: getattr(measurement, name) for name in SAME_IN_MEASUREMENTS}
    for latency in LATENCIES:
        row |= _distribution(latency, getattr(measurement, f"{latency}_ms"))
    row |= _parts(measurement.window, WINDOW_COLUMNS) | _parts(measurement.client, CLIENT_COLUMNS)
    for derived in ("achieved_output_ratio", "prompt_token_excess", "energy_per_token_j"):
        row[derived] = getattr(measurement, derived)
    row["intervals"] = {
        name: {"low": interval.low, "high": interval.high}
        for name, interval in measurement.intervals.items()
    }
    row["slo"] = [
        {
            "metric": verdict.limit.metric,
            "statistic": verdict.limit.statistic,
            "limit_ms": verdict.limit.limit_ms,
            "value_ms": verdict.value_ms,
            "met": verdict.met,
        }
        for verdict in measurement.slo
    ]
    row["slo_met"] = measurement.slo_met
    row["measurement_flags"] = measurement.flags
    return row


def _parts(value: Window | ClientHealth | EngineUse | None, columns: Mapping[str, str]) -> Row:
    if value is None:
        return {}
    return {column: getattr(value, name) for column, name in columns.items()}


def _distribution(latency: str, distribution: Distribution | None) -> Row:
    if distribution is None:
        return {}
    values: Row = {f"{latency}_{name}_ms": getattr(distribution, name) for name in STATISTICS}
    return {f"{latency}_count": distribution.count, **values}


def _per_gpu(measurement: Measurement | None, gpus: int) -> Row:
    if measurement is None or gpus < 1:
        return {}
    rates = {name: getattr(measurement, name) for name in THROUGHPUT_UNITS}
    return {f"{name}_per_gpu": rate / gpus for name, rate in rates.items() if rate is not None}


def _failure(failure: Failure | None) -> Row:
    if failure is None:
        return {}
    return {
        "failure_kind": failure.kind.value,
        "failure_message": failure.message,
        "failure_remedy": failure.remedy,
        "failure_exit_code": failure.exit_code,
        "log_tail": failure.log_tail,
    }
