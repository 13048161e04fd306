"""Flat rows back to the records they were made of, exactly. Inverse: `rows.py`."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.failure import Failure, FailureKind
from runtimes.measurement import Distribution, Measurement
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization
from runtimes.slo import SloLimit, SloVerdict
from search.trial import TrialState
from tracking.parquet.parameters import from_cell
from tracking.parquet.rows import SAME_IN_MEASUREMENTS, SAME_IN_STAGES, SAME_IN_TRIALS, Row
from tracking.parquet.schema import (
    LATENCIES,
    LAYOUT_COLUMNS,
    PRECISION_COLUMNS,
    STATISTICS,
    ParameterColumn,
)
from tracking.records import StageRecord, TrialRecord

_TUPLES = ("command", "deploy_command", "gpu_ids", "process_ids", "flags")
_MAPS = ("env", "objectives", "engine_config", "versions", "counters_before", "counters_after")


def trial_record(row: Row, parameters: Mapping[str, ParameterColumn]) -> TrialRecord:
    """The trial of a row read from a file with these parameter columns.

    Raises:
        KeyError, TypeError, ValueError: the row is not one that `trial_row` made.
    """
    return TrialRecord(
        **_same(row, SAME_IN_TRIALS),
        state=TrialState(row["state"]),
        params={
            name: from_cell(row[parameters[name].column], kind, parameters[name].type)
            for name, kind in row["param_kinds"]
        },
        # A record of before these columns has what they are without being said.
        layout=ParallelLayout(
            **{name: row[column] for column, name in LAYOUT_COLUMNS.items() if column in row}
        ),
        quantization=Quantization(
            **{part: row[column] for column, part in PRECISION_COLUMNS.items() if column in row}
        ),
        measurement=_measurement(row),
        failure=_failure(row),
    )


def stage_record(row: Row) -> StageRecord:
    """The load stage of a row.

    Raises:
        KeyError, TypeError, ValueError: the row is not one that `stage_row` made.
    """
    measurement = _measurement(row)
    if measurement is None:
        raise ValueError("a stage without a measurement")
    return StageRecord(**_same(row, SAME_IN_STAGES), measurement=measurement)


def _same(row: Row, names: tuple[str, ...]) -> Row:
    values = {name: row[name] for name in names}
    for name in _TUPLES:
        if name in values:
            values[name] = tuple(values[name])
    for name in _MAPS:
        if name in values:
            values[name] = dict(values[name])
    return values


def _measurement(row: Row) -> Measurement | None:
    if row["requests_completed"] is None:
        return None
    values: Row = {name: row[name] for name in SAME_IN_MEASUREMENTS}
    values |= {f"{latency}_ms": _distribution(row, latency) for latency in LATENCIES}
    return Measurement(
        **values,
        slo=tuple(
            SloVerdict(
                SloLimit(verdict["metric"], verdict["statistic"], verdict["limit_ms"]),
                verdict["value_ms"],
            )
            for verdict in row["slo"]
        ),
        flags=tuple(row["measurement_flags"]),
    )


def _distribution(row: Row, latency: str) -> Distribution | None:
    count = row[f"{latency}_count"]
    if count is None:
        return None
    return Distribution(count=count, **{name: row[f"{latency}_{name}_ms"] for name in STATISTICS})


def _failure(row: Row) -> Failure | None:
    if row["failure_kind"] is None:
        return None
    return Failure(
        kind=FailureKind(row["failure_kind"]),
        message=row["failure_message"],
        remedy=row["failure_remedy"],
        exit_code=row["failure_exit_code"],
        log_tail=row["log_tail"],
    )
