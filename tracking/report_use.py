"""What engines and devices did while trials were measured, as tables of the report."""

from __future__ import annotations

from collections.abc import Sequence

from tracking.records import EngineUse, GpuUse, StageRecord, TrialRecord
from tracking.report_table import Column, TableView, table_of
from tracking.run_data import RunData
from tracking.words import figure, printable

MAX_ROWS = 300
_ELSEWHERE = "the folder stages/ of the run"
_ENGINE_COLUMNS = (
    Column("trial"),
    Column("engine", words=True),
    Column("KV cache, mean", "%"),
    Column("KV cache, most", "%"),
    Column("running, mean", "requests"),
    Column("waiting, mean", "requests"),
    Column("waiting, most", "requests"),
    Column("preemptions"),
    Column("in the queue", "ms"),
    Column("prefill", "ms"),
    Column("decode", "ms"),
    Column("prefix hits", "%"),
)
_GPU_COLUMNS = (
    Column("trial"),
    Column("GPU", words=True),
    Column("busy", "%"),
    Column("SM clock", "MHz"),
    Column("memory clock", "MHz"),
    Column("power", "W"),
    Column("limit", "W"),
    Column("hottest", "°C"),
    Column("throttled", "% of the time"),
    Column("clocks held by", words=True),
    Column("ECC errors"),
    Column("Xid", words=True),
)


def engine_use(data: RunData, trials: Sequence[TrialRecord]) -> TableView | None:
    """A row for each of `trials` whose engine said something; None where none did.

    Of its deciding stage, as its other figures are.
    """
    found = [
        (trial, stage, stage.engine_use)
        for trial, stage in _deciding(data, trials)
        if stage.engine_use is not None
    ]
    if not found:
        return None
    rows = [_engine_row(trial, stage, use) for trial, stage, use in found]
    return table_of(_ENGINE_COLUMNS, rows, MAX_ROWS, _ELSEWHERE)


def gpu_use(data: RunData, trials: Sequence[TrialRecord]) -> TableView | None:
    """A row for each device of each of `trials` that a driver told of; None without any."""
    rows = [
        _gpu_row(trial, use) for trial, stage in _deciding(data, trials) for use in stage.gpu_use
    ]
    return table_of(_GPU_COLUMNS, rows, MAX_ROWS, _ELSEWHERE) if rows else None


def _deciding(
    data: RunData, trials: Sequence[TrialRecord]
) -> list[tuple[TrialRecord, StageRecord]]:
    stages = {(stage.number, stage.attempt, stage.stage): stage for stage in data.stages}
    pairs = [
        (trial, stages.get((trial.number, trial.attempt, trial.deciding_stage)))
        for trial in trials
        if trial.deciding_stage is not None
    ]
    return [(trial, stage) for trial, stage in pairs if stage is not None]


def _engine_row(trial: TrialRecord, stage: StageRecord, use: EngineUse) -> tuple[str, ...]:
    return (
        str(trial.number),
        printable(trial.engine),
        _percent(use.kv_cache_usage_mean),
        _percent(use.kv_cache_usage_max),
        figure(use.requests_running_mean),
        figure(use.requests_waiting_mean),
        figure(use.requests_waiting_max),
        figure(use.preemptions),
        _ms(use.queue_mean_s),
        _ms(use.prefill_mean_s),
        _ms(use.decode_mean_s),
        _percent(stage.observed_hit_rate),
    )


def _gpu_row(trial: TrialRecord, use: GpuUse) -> tuple[str, ...]:
    return (
        str(trial.number),
        printable(f"{trial.node or trial.bundle} {use.gpu}".strip()),
        _percent(use.utilization_mean),
        figure(use.sm_clock_mean_mhz),
        figure(use.memory_clock_mean_mhz),
        figure(use.power_mean_w),
        figure(use.power_limit_w),
        figure(use.temperature_max_c),
        _percent(use.throttled_ratio),
        printable(", ".join(use.throttle_reasons).replace("_", " ")),
        figure(use.ecc_errors),
        ", ".join(map(str, use.xids)),
    )


def _percent(share: float | None) -> str:
    return figure(None if share is None else 100 * share)


def _ms(seconds: float | None) -> str:
    return figure(None if seconds is None else 1000 * seconds)
