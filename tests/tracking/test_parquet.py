"""The Parquet record: exact there and back, one dataset for other tools, calm about damage."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.errors import InternalError, RunFolderError
from runtimes.failure import Failure, FailureKind
from runtimes.json_types import canonical_json
from runtimes.measurement import ClientHealth, Distribution, Interval, RequestRecord, Window
from search.trial import TrialState
from tests.tracking import record_strategies as records
from tests.tracking.run_samples import measurement, trial_record
from tracking.layout import RunLayout
from tracking.parquet.columns import CLIENT_COLUMNS, STATISTICS, UNIT_KEY, WINDOW_COLUMNS
from tracking.parquet.read import UnreadableFile, read_stages, read_trials
from tracking.parquet.schema import requests_schema, samples_schema, stage_schema, trial_schema
from tracking.parquet.write import RecordWriter, encode_requests, encode_samples
from tracking.records import Sample, StageRecord, TrialRecord

_STAGE = StageRecord("run", 3, 0, 1, "poisson", 8.0, 1e9, 1e9 + 60, measurement(), {"a": 1.0})
_FAILED = trial_record(
    1,
    state=TrialState.FAILED,
    params={"gpu-memory-utilization": 0.5},
    failure=Failure(FailureKind.CRASHED, "segfault", exit_code=-11, log_tail="a\nb"),
)


def _layout(root: Path) -> RunLayout:
    layout = RunLayout(root / "demo")
    layout.create()
    return layout


def _writer(layout: RunLayout) -> RecordWriter:
    return RecordWriter(layout, records.PARAMETER_TYPES, records.OBJECTIVES)


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return _layout(tmp_path)


@pytest.fixture
def problems() -> list[UnreadableFile]:
    return []


def _assert_schema(found: pa.Schema, expected: pa.Schema) -> None:
    """Equal, metadata included; Parquet has its own name for the elements of a list."""
    assert found.equals(expected)
    assert found.metadata == expected.metadata
    assert [field.metadata for field in found] == [field.metadata for field in expected]


def _key(record: TrialRecord) -> tuple[int, int]:
    return (record.number, record.attempt)


@settings(max_examples=40, deadline=None)
@given(st.lists(records.trials, max_size=3, unique_by=_key))
def test_trials_come_back_exactly(written: Sequence[TrialRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = _layout(Path(folder))
        for record in written:
            _writer(layout).trial(record)
        read = read_trials(layout)
    expected = sorted(written, key=_key)
    assert read == expected
    for left, right in zip(read, expected, strict=True):  # 1 == 1.0 == True to Python
        assert canonical_json(left.params) == canonical_json(right.params)
        assert list(left.params) == list(right.params)


@settings(max_examples=40, deadline=None)
@given(records.stages)
def test_stages_come_back_exactly(written: StageRecord) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = _layout(Path(folder))
        _writer(layout).stage(written)
        assert read_stages(layout) == [written]


def test_records_come_in_order_of_number_not_of_name(layout: RunLayout) -> None:
    writer = _writer(layout)
    for number, attempt in [(100_000, 0), (2, 1), (2, 0), (99_999, 0)]:
        writer.trial(trial_record(number, attempt=attempt))
        writer.stage(replace(_STAGE, number=number, attempt=attempt))
    order = [(2, 0), (2, 1), (99_999, 0), (100_000, 0)]
    assert [_key(record) for record in read_trials(layout)] == order
    assert [(record.number, record.attempt) for record in read_stages(layout)] == order


@settings(max_examples=30, deadline=None)
@given(st.lists(records.requests, max_size=4))
def test_request_files_hold_every_time(written: list[RequestRecord]) -> None:
    payload = encode_requests(run="r", number=3, attempt=1, stage=2, records=written)
    table = pq.read_table(pa.BufferReader(payload))
    _assert_schema(table.schema, requests_schema())
    for row, record in zip(table.to_pylist(), written, strict=True):
        assert (row["run"], row["number"], row["attempt"], row["stage"]) == ("r", 3, 1, 2)
        arrivals_ns = [row["sent_ns"] + delta for delta in row["chunk_ns"]]
        assert arrivals_ns == list(record.chunk_ns)
        tokens = record.chunk_tokens
        assert row["chunk_tokens"] == (None if tokens is None else list(tokens))
        same = set(row) - {"run", "number", "attempt", "stage", "chunk_ns", "chunk_tokens"}
        assert {name: row[name] for name in same} == {name: getattr(record, name) for name in same}


@settings(max_examples=30, deadline=None)
@given(st.lists(records.samples, max_size=4))
def test_sample_files_hold_every_value(written: list[Sample]) -> None:
    payload = encode_samples(run="r", number=3, attempt=1, samples=written)
    table = pq.read_table(pa.BufferReader(payload))
    _assert_schema(table.schema, samples_schema())
    columns = ["at_ns", "unix_s", "stage", "metric", "engine_metric", "value", "gpu"]
    read = [Sample(**row) for row in table.select(columns).to_pylist()]
    assert read == written


def test_pandas_reads_the_folder_as_one_table(layout: RunLayout) -> None:
    writer = _writer(layout)
    full = trial_record(
        0,
        params={"tp": 2, "gpu-memory-utilization": 1, "compilation-config": {"level": 3}},
        gpus=2,
        measured=measurement(output_throughput=1000.0, ttft_ms=400.0),
    )
    writer.trial(full)
    writer.trial(_FAILED)
    (layout.trials_dir / ".trial-00002-0.parquet.tmp").write_bytes(b"killed while writing")
    frame = pd.read_parquet(layout.trials_dir).sort_values("number").set_index("number")
    assert frame["state"].tolist() == ["completed", "failed"]
    assert frame["param_tp"].iloc[0] == 2
    assert frame["param_gpu_memory_utilization"].tolist() == [1.0, 0.5]
    assert frame["param_compilation_config"].iloc[0] == '{"level":3}'
    assert frame["output_throughput_per_gpu"].iloc[0] == 500.0
    assert frame["ttft_p99_ms"].iloc[0] == 600.0
    assert frame["slo_met"].iloc[0] is False
    assert frame["objective_goodput_per_gpu"].iloc[0] == full.objectives["goodput_per_gpu"]
    assert frame["started_at"].iloc[0] == pd.Timestamp("2026-01-01", tz="UTC")
    assert frame["failure_kind"].iloc[1] == "crashed"
    assert frame["failure_exit_code"].iloc[1] == -11
    assert frame["log_tail"].iloc[1] == "a\nb"
    measured = frame[["ttft_p99_ms", "goodput", "request_throughput_per_gpu"]]
    assert measured.iloc[1].isna().all()


def test_arrow_sees_one_schema_whatever_a_trial_holds(layout: RunLayout) -> None:
    writer = _writer(layout)
    writer.trial(trial_record(0, params={}))
    writer.trial(_FAILED)
    dataset = ds.dataset(layout.trials_dir, format="parquet")
    expected = trial_schema(records.PARAMETER_TYPES, records.OBJECTIVES)
    for file in layout.files("trials"):
        _assert_schema(pq.read_schema(file.path), expected)
    assert dataset.schema.equals(expected)
    assert dataset.count_rows(filter=ds.field("state") == "failed") == 1


_UNITS = {"ms": "ms", "ns": "ns", "s": "s", "tokens": "tokens"}


@pytest.mark.parametrize(
    "schema",
    [trial_schema({}, ()), stage_schema(), requests_schema(), samples_schema()],
    ids=["trials", "stages", "requests", "samples"],
)
def test_units_stand_in_the_metadata(schema: pa.Schema) -> None:
    units = {field.name: (field.metadata or {}).get(UNIT_KEY, b"").decode() for field in schema}
    for name, unit in units.items():
        suffix = name.rpartition("_")[2]
        if suffix in _UNITS:
            assert unit.split()[0] == _UNITS[suffix], name
        if name.endswith("_per_gpu"):
            assert unit == f"{units[name.removesuffix('_per_gpu')]}/GPU"
    assert len(set(units.values())) > 2


def test_objectives_have_their_units() -> None:
    schema = trial_schema({}, ["goodput_per_gpu", "ttft_p99_ms", "of_a_plugin_that_is_gone"])
    fields = [schema.field(name) for name in schema.names if name.startswith("objective_")]
    assert [field.metadata for field in fields] == [
        {UNIT_KEY: b"requests/s/GPU"}, {UNIT_KEY: b"ms"}, None,
    ]  # fmt: skip


_NULLABLE = ("driver_version", "cuda_version", "environment_hash", "compile_cache")


def test_what_is_not_known_is_null_and_comes_back_empty(layout: RunLayout) -> None:
    writer = _writer(layout)
    known = replace(
        trial_record(1),
        driver_version="said",
        cuda_version="said",
        environment_hash="said",
        compile_cache="said",
    )
    writer.trial(trial_record(0))
    writer.trial(known)
    table = pq.read_table(layout.trials_dir).sort_by("number")
    for name in _NULLABLE:
        assert table[name].to_pylist() == [None, "said"]
        assert getattr(trial_record(0), name) == ""
    assert read_trials(layout) == [trial_record(0), known]


def test_every_throughput_is_there_per_gpu() -> None:
    names = set(trial_schema({}, ()).names)
    measured = {name for name in names if not name.startswith("predicted_")}
    throughputs = {name for name in measured if name.endswith("_throughput")} | {"goodput"}
    assert len(throughputs) == 5
    assert {f"{name}_per_gpu" for name in throughputs} <= names


_SINCE_VERSION_ONE = (
    *("ttft_scheduled_", "e2e_scheduled_", "window_", "client_", "energy_", "slo_attainment"),
    *("steady", "stopped_by", "intervals", "sent_prompt", "shared_prompt", "cached_prompt"),
    *("prompt_token_excess", "tokens_per_chunk", "cache", "designed_", "observed_", "acceptance_"),
    *("repetition_", "template_", "warmup_requests", "warmup_steady", "cross_check"),
    "predicted_",
)
_OLD_LATENCY = re.compile(r"(ttft|tpot|itl|e2e)_(count|(mean|p50|p90|p95|p99|max)_ms)")
_ANY_LATENCY = re.compile(r"(ttft|tpot|itl|e2e)_")


def _as_once(path: Path) -> None:
    """Leave out of a file what the first servetune did not write."""
    table = pq.read_table(path)
    names = [
        name
        for name in table.column_names
        if not name.startswith(_SINCE_VERSION_ONE)
        and (not _ANY_LATENCY.match(name) or _OLD_LATENCY.fullmatch(name))
    ]
    assert len(names) < len(table.column_names)
    pq.write_table(table.select(names), path)


def test_a_record_of_before_the_newer_columns_reads_with_their_defaults(
    layout: RunLayout, problems: list[UnreadableFile]
) -> None:
    writer = _writer(layout)
    writer.trial(trial_record(0))
    full = replace(_STAGE.measurement, client=ClientHealth(cpu_s=3.0), energy_j=5.0)
    writer.stage(replace(_STAGE, measurement=full, warmup_requests=8, cache="warm"))
    _as_once(layout.attempt_file("trials", 0, 0))
    _as_once(layout.stage_part("stages", 3, 0, 1))
    (trial,) = read_trials(layout, problems.append)
    (stage,) = read_stages(layout, problems.append)
    assert problems == []
    assert trial == trial_record(0)
    assert stage == _STAGE
    assert (stage.measurement.window, stage.measurement.client) == (None, None)
    assert (stage.warmup_requests, stage.cache) == (None, "")
    assert stage.measurement.ttft_ms is not None
    assert stage.measurement.ttft_ms.p25 is None


def test_what_follows_from_a_measurement_stands_beside_it(layout: RunLayout) -> None:
    measured = replace(
        measurement(),
        sent_prompt_tokens=400 * 1024 - 400,
        energy_j=1024.0,
        window=Window(1.0, 41.0, "mser+tail", requests=390),
        client=ClientHealth(processes=2, held_ratio=0.995),
        client_limits=("sent late",),
        intervals={"output_throughput": Interval(1900.0, 2100.0)},
    )
    _writer(layout).trial(trial_record(0, measured=measured))
    row = pq.read_table(layout.attempt_file("trials", 0, 0)).to_pylist()[0]
    assert row["prompt_token_excess"] == 400
    assert row["energy_per_token_j"] == 0.01
    assert (row["window_start_s"], row["window_end_s"], row["steady"]) == (1.0, 41.0, True)
    assert (row["window_rule"], row["window_requests"]) == ("mser+tail", 390)
    assert (row["client_processes"], row["client_held_ratio"]) == (2, 0.995)
    assert row["client_limits"] == ["sent late"]
    assert row["intervals"] == [("output_throughput", {"low": 1900.0, "high": 2100.0})]


def test_every_part_of_a_measurement_has_its_columns() -> None:
    assert set(CLIENT_COLUMNS.values()) == {item.name for item in fields(ClientHealth)}
    assert set(WINDOW_COLUMNS.values()) == {item.name for item in fields(Window)}
    assert {*STATISTICS, "count"} == {item.name for item in fields(Distribution)}


def _truncated(content: bytes) -> bytes:
    return content[:-20]


def _bit_rot(content: bytes) -> bytes:
    return b"PAR1" + bytes(len(content) - 200) + content[-196:]


def _foreign(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    return sink.getvalue().to_pybytes()


def _without_columns(content: bytes) -> bytes:
    table = pq.read_table(pa.BufferReader(content)).select(["run", "number"])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "damage", [_truncated, _bit_rot, _foreign, _without_columns, lambda _: b"", lambda _: b"x"]
)
def test_a_damaged_file_is_passed_over_and_reported(
    layout: RunLayout, problems: list[UnreadableFile], damage: Callable[[bytes], bytes]
) -> None:
    writer = _writer(layout)
    for number in (0, 1, 2):
        writer.trial(trial_record(number))
    path = layout.attempt_file("trials", 1, 0)
    path.write_bytes(damage(path.read_bytes()))
    assert [record.number for record in read_trials(layout, problems.append)] == [0, 2]
    (problem,) = problems
    assert problem.path == path
    assert problem.reason
    assert str(path) in str(problem)


def test_without_a_listener_damage_is_logged(
    layout: RunLayout, caplog: pytest.LogCaptureFixture
) -> None:
    layout.stage_part("stages", 0, 0, 0).write_bytes(b"torn")
    with caplog.at_level(logging.WARNING):
        assert read_stages(layout) == []
    assert str(layout.stage_part("stages", 0, 0, 0)) in caplog.text


def test_a_newer_record_is_refused_by_name(
    layout: RunLayout, problems: list[UnreadableFile]
) -> None:
    _writer(layout).trial(trial_record(0))
    path = layout.attempt_file("trials", 0, 0)
    table = pq.read_table(path)
    metadata = {**(table.schema.metadata or {}), b"servetune.schema_version": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(RunFolderError, match=f"{path}: written with record version 99"):
        read_trials(layout, problems.append)
    assert problems == []


def test_writing_again_replaces_and_leaves_no_temporary(layout: RunLayout) -> None:
    writer = _writer(layout)
    writer.trial(trial_record(0, reason="first"))
    writer.trial(trial_record(0, reason="second"))
    writer.stage(_STAGE)
    writer.requests(3, 0, 1, b"requests")
    writer.samples(3, 0, b"samples")
    writer.log(3, 0, "größe \ud800\n")
    assert [record.reason for record in read_trials(layout)] == ["second"]
    assert layout.stage_part("requests", 3, 0, 1).read_bytes() == b"requests"
    assert layout.attempt_file("samples", 3, 0).read_bytes() == b"samples"
    assert layout.log_file(3, 0).read_text(encoding="utf-8") == "größe \\ud800\n"
    assert {path for path in layout.root.rglob("*") if path.is_file()} == {
        layout.attempt_file("trials", 0, 0),
        layout.stage_part("stages", 3, 0, 1),
        layout.stage_part("requests", 3, 0, 1),
        layout.attempt_file("samples", 3, 0),
        layout.log_file(3, 0),
    }


def test_a_parameter_nobody_declared_is_our_bug_and_writes_nothing(layout: RunLayout) -> None:
    with pytest.raises(InternalError, match="without a column: block-size, seed"):
        _writer(layout).trial(trial_record(0, params={"seed": 1, "block-size": 16}))
    assert layout.files("trials") == []
