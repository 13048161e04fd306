"""Columns of the record that stand for the parts of a value, and the Arrow types they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from runtimes.measurement import PERCENTILES, percentile_name
from runtimes.parallel import DEGREES
from runtimes.quantization import PARTS

ArrowField: TypeAlias = "pa.Field[pa.DataType]"

UNIT_KEY = b"unit"


ENCODING_KEY = b"encoding"
"""Metadata of a column whose text is not what it says but JSON."""


def column(name: str, kind: pa.DataType, unit: str = "") -> ArrowField:
    """A field with its unit in its metadata."""
    return pa.field(name, kind, metadata={UNIT_KEY: unit.encode()} if unit else None)


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns that are described together: one row of a table in docs/record.md.

    Attributes:
        names: in the order in which they stand in the file.
        about: what they mean, in Markdown as in that file.
    """

    names: tuple[str, ...]
    type: pa.DataType
    unit: str
    about: str

    def fields(self) -> Iterator[ArrowField]:
        """One field for each."""
        return (column(name, self.type, self.unit) for name in self.names)


def columns(names: str, kind: pa.DataType, about: str, unit: str = "") -> Columns:
    """`Columns` whose names stand in one text, blanks between."""
    return Columns(tuple(names.split()), kind, unit, about)


TEXT, INTEGER, NUMBER, TRUTH = pa.string(), pa.int64(), pa.float64(), pa.bool_()
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
            column("limit_ms", pa.float64(), "ms"),
            column("value_ms", pa.float64(), "ms"),
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
CLIENT_FIELDS = (
    *("processes", "cpu_s", "cpu_share", "lag_p99_ms", "lag_max_ms", "send_lateness_p99_ms"),
    *("held_ratio", "connections_opened", "chunks_per_read"),
)
CLIENT_COLUMNS = {f"client_{name}": name for name in CLIENT_FIELDS}
"""Field of a `ClientHealth` by column."""

ENGINE_USE_FIELDS = (
    *("kv_cache_usage_mean", "kv_cache_usage_max"),
    *("requests_running_mean", "requests_waiting_mean", "requests_waiting_max", "preemptions"),
    *("queue_mean_s", "prefill_mean_s", "decode_mean_s"),
)
ENGINE_USE_COLUMNS = {f"engine_{name}": name for name in ENGINE_USE_FIELDS}
"""Field of an `EngineUse` by column."""

GPU_USE = pa.list_(
    pa.struct(
        [
            column("gpu", pa.string()),
            column("uuid", pa.string()),
            column("samples", pa.int64(), "readings"),
            column("sm_clock_mean_mhz", pa.float64(), "MHz"),
            column("memory_clock_mean_mhz", pa.float64(), "MHz"),
            column("power_mean_w", pa.float64(), "W"),
            column("power_limit_w", pa.float64(), "W"),
            column("temperature_max_c", pa.float64(), "°C"),
            column("utilization_mean", pa.float64(), "ratio"),
            column("throttled_ratio", pa.float64(), "ratio"),
            column("throttle_reasons", STRINGS),
            column("ecc_errors", pa.int64(), "errors"),
            column("xids", pa.list_(pa.int64())),
        ]
    )
)

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
