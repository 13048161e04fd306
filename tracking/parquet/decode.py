"""Flat rows back to the records they were made of, exactly. Inverse: `rows.py`.

A column that an older servetune did not write leaves its field at the default.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.failure import Failure, FailureKind
from runtimes.measurement import ClientHealth, Distribution, Interval, Measurement, Window
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization
from runtimes.slo import SloLimit, SloVerdict
from search.perfmodel.expected import Estimate, Expected
from search.trial import TrialState
from tracking.parquet.columns import (
    CLIENT_COLUMNS,
    ENGINE_USE_COLUMNS,
    LATENCIES,
    LAYOUT_COLUMNS,
    PRECISION_COLUMNS,
    PREDICTED_COLUMNS,
    PREDICTED_RUNNING,
    STATISTICS,
    WINDOW_COLUMNS,
)
from tracking.parquet.parameters import from_cell
from tracking.parquet.rows import (
    NULL_WHERE_EMPTY,
    SAME_IN_MEASUREMENTS,
    SAME_IN_STAGES,
    SAME_IN_TRIALS,
    Row,
)
from tracking.parquet.schema import ParameterColumn
from tracking.records import EngineUse, GpuUse, StageRecord, TrialRecord

_TUPLES = (
    "command",
    "deploy_command",
    "gpu_ids",
    "gpu_uuids",
    "process_ids",
    "flags",
    "client_limits",
)
_MAPS = (
    *("env", "objectives", "engine_config", "versions"),
    *("counters_before", "counters_after", "cross_check"),
)


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
        predicted=_prediction(row),
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
    use = _parts(row, ENGINE_USE_COLUMNS)
    return StageRecord(
        **_same(row, SAME_IN_STAGES),
        measurement=measurement,
        engine_use=None if use is None else EngineUse(**use),
        gpu_use=tuple(_gpu_use(device) for device in row.get("gpu_use") or ()),
    )


def _gpu_use(device: Row) -> GpuUse:
    reasons, xids = device["throttle_reasons"] or (), device["xids"] or ()
    return GpuUse(**{**device, "throttle_reasons": tuple(reasons), "xids": tuple(xids)})


def _same(row: Row, names: tuple[str, ...]) -> Row:
    values = {name: row[name] for name in names if name in row}
    for name in NULL_WHERE_EMPTY:
        if name in values:
            values[name] = values[name] or ""
    for name in _TUPLES:
        if name in values:
            values[name] = tuple(values[name])
    for name in _MAPS:
        if name in values:
            values[name] = dict(values[name])
    return values


def _prediction(row: Row) -> Expected | None:
    if row.get(PREDICTED_RUNNING) is None:
        return None
    estimates: dict[str, dict[str, float]] = {}
    for column, (figure, bound) in PREDICTED_COLUMNS.items():
        estimates.setdefault(figure, {})[bound] = row[column]
    figures = {figure: Estimate(**bounds) for figure, bounds in estimates.items()}
    return Expected(**figures, running=row[PREDICTED_RUNNING])


def _measurement(row: Row) -> Measurement | None:
    if row["requests_completed"] is None:
        return None
    values = _same(row, SAME_IN_MEASUREMENTS)
    values |= {f"{latency}_ms": _distribution(row, latency) for latency in LATENCIES}
    window, client = _parts(row, WINDOW_COLUMNS), _parts(row, CLIENT_COLUMNS)
    return Measurement(
        **values,
        window=None if window is None else Window(**window),
        client=None if client is None else ClientHealth(**client),
        intervals={
            name: Interval(bounds["low"], bounds["high"])
            for name, bounds in row.get("intervals") or ()
        },
        slo=tuple(
            SloVerdict(
                SloLimit(verdict["metric"], verdict["statistic"], verdict["limit_ms"]),
                verdict["value_ms"],
            )
            for verdict in row["slo"]
        ),
        flags=tuple(row["measurement_flags"]),
    )


def _parts(row: Row, columns: Mapping[str, str]) -> Row | None:
    """Fields by name; None where every column is null, which a value never is, or absent."""
    values = {name: row.get(column) for column, name in columns.items()}
    return None if all(value is None for value in values.values()) else values


def _distribution(row: Row, latency: str) -> Distribution | None:
    values: Row = {name: row.get(f"{latency}_{name}_ms") for name in STATISTICS}
    if values["mean"] is None:
        return None
    return Distribution(count=row.get(f"{latency}_count"), **values)


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
