"""Records of other versions: older ones are read and go on, newer ones are refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from orchestrator.load_run import load_run
from runtimes.errors import RunFolderError
from runtimes.json_types import Json
from tests.e2e import studies
from tests.tracking.run_samples import trial_record
from tracking.layout import TABLES, RunLayout, TableName
from tracking.open import open_run
from tracking.parquet.events import read_events, write_events
from tracking.parquet.parameters import ParameterType
from tracking.parquet.read import read_stages, read_trials
from tracking.parquet.schema import SCHEMA_VERSION
from tracking.parquet.upgrade import Upgrade
from tracking.parquet.upkeep import Upkeep
from tracking.parquet.write import RecordWriter
from tracking.report import write_report

GOLDEN = Path(__file__).parents[1] / "golden" / "record_version_1"
"""A run of the last servetune that wrote version 1, as it left it."""

_TYPES: dict[str, ParameterType] = {
    "max-num-seqs": "int",
    "compilation-config": {"level": "int", "sizes": ["int"]},
}


_V1_TYPES: dict[str, ParameterType] = {"tp": "int", "pp": "int", "dp": "int", **_TYPES}


@pytest.fixture
def old(tmp_path: Path) -> RunLayout:
    return RunLayout(shutil.copytree(GOLDEN, tmp_path / GOLDEN.name))


def _check(layout: RunLayout) -> None:
    trials = [row for row in read_trials(layout) if row.number < 2]
    assert [(row.number, row.state.value) for row in trials] == [(0, "completed"), (1, "completed")]
    assert {row.params["max-num-seqs"] for row in trials} == {4}
    assert [row.params["compilation-config"] for row in trials] == [
        {"level": 3, "sizes": [1, 2]},
        {"level": 0, "sizes": []},
    ]
    assert all(row.measurement is not None and row.measurement.goodput > 0 for row in trials)
    assert [(row.number, row.load) for row in read_stages(layout)] == [
        (0, "concurrency"), (1, "concurrency"),
    ]  # fmt: skip
    run = open_run(layout.root)
    assert run.requests(1)["index"].to_pylist() == list(range(12))
    assert len(run.samples(0)) > 0
    assert [line.state for line in run.listing()][:2] == ["completed"] * 2
    kinds = run.events()["kind"].to_pylist()
    assert (kinds[0], kinds.count("finished")) == ("run_started", 2)


def test_the_golden_run_is_of_version_one(old: RunLayout) -> None:
    (first, _) = old.files("trials")
    metadata = pq.read_schema(first.path).metadata or {}
    assert metadata[b"servetune.schema_version"] == b"1"
    assert SCHEMA_VERSION > 1


def test_a_run_of_version_one_is_opened_and_reported(
    old: RunLayout, caplog: pytest.LogCaptureFixture
) -> None:
    _check(old)
    data = load_run(old)
    best = data.best()
    assert best is not None
    write_report(data, old.report)
    assert data.run in old.report.read_text(encoding="utf-8")
    assert caplog.text == ""


def test_a_run_of_version_one_goes_on_in_its_folder(old: RunLayout) -> None:
    old.create()
    with Upkeep(old) as upkeep:
        writer = RecordWriter(old, _TYPES, ["goodput_per_gpu"])
        for number, size in ((2, 4), (3, 8)):
            params: dict[str, Json] = {"compilation-config": {"level": 1, "sizes": [size]}}
            writer.trial(trial_record(number, params=params))
            upkeep.ended(number, 0)
    _check(old)
    assert [row.params["compilation-config"] for row in read_trials(old)][2:] == [
        {"level": 1, "sizes": [4]},
        {"level": 1, "sizes": [8]},
    ]
    # Files of one schema are merged, those of two never; nothing said here that there is to be one.
    assert {table: len(old.files(table)) for table in TABLES} == {
        "trials": 2, "stages": 1, "requests": 1, "samples": 1,
    }  # fmt: skip
    trials = open_run(old.root).trials()
    assert trials["number"].to_pylist() == [0, 1, 2, 3]
    # Version 1 had JSON text where version 2 has structs: what both can be is text.
    assert trials["param_compilation_config"].to_pylist()[1:3] == [
        '{"level":0,"sizes":[]}',
        '{"level":1,"sizes":[4]}',
    ]
    assert trials.schema.field("param_compilation_config").metadata == {b"encoding": b"json"}
    assert trials.schema.field("param_max_num_seqs").type == pa.int64()


def _schemas(layout: RunLayout) -> dict[str, int]:
    """Schemas by table that the files of a run have, metadata included."""
    return {
        table: len(
            {pq.read_schema(file.path).serialize().to_pybytes() for file in layout.files(table)}
        )
        for table in TABLES
    }


def test_what_version_one_wrote_is_written_again_in_the_schema_of_now(old: RunLayout) -> None:
    trials, stages = read_trials(old), read_stages(old)
    samples = open_run(old.root).samples(0)
    old.create()
    with Upkeep(old) as upkeep:
        upkeep.one_schema(_V1_TYPES, ["output_throughput_per_gpu"])
    assert (read_trials(old), read_stages(old)) == (trials, stages)
    _check(old)
    now = open_run(old.root).samples(0)
    assert now.select(samples.column_names) == samples
    assert set(now["gpu"].to_pylist()) == {""}
    for table in TABLES:
        (file,) = old.files(table)
        metadata = pq.read_schema(file.path).metadata or {}
        assert metadata[b"servetune.schema_version"] == str(SCHEMA_VERSION).encode()
    kind = open_run(old.root).trials().schema.field("param_compilation_config").type
    assert kind == pa.struct([("level", pa.int64()), ("sizes", pa.list_(pa.int64()))])


@pytest.mark.parametrize("table", TABLES)
def test_a_file_with_a_column_that_nobody_knows_is_not_written_again(
    old: RunLayout, table: TableName
) -> None:
    path = old.files(table)[0].path
    rows = pq.read_table(path)
    pq.write_table(rows.append_column("of_tomorrow", rows["number"]), path)
    content = path.read_bytes()
    Upgrade(_V1_TYPES, ["output_throughput_per_gpu"]).file(path, table)
    assert path.read_bytes() == content


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_file_of_version_one_stays_and_the_others_are_written_again(
    old: RunLayout, table: TableName, caplog: pytest.LogCaptureFixture
) -> None:
    old.create()
    path = old.files(table)[0].path
    content = _zeros(path.read_bytes())
    path.write_bytes(content)
    with Upkeep(old) as upkeep:
        upkeep.one_schema(_V1_TYPES, ["output_throughput_per_gpu"])
    files = [file.path for name in TABLES for file in old.files(name)]
    others = [file for file in files if file.read_bytes() != content]
    assert len(files) - len(others) == 1
    assert "cannot be read and stays as it is" in caplog.text
    for file in others:
        metadata = pq.read_schema(file).metadata or {}
        assert metadata[b"servetune.schema_version"] == str(SCHEMA_VERSION).encode()


def test_a_run_of_version_one_is_resumed_for_real_and_opens_as_one_folder(old: RunLayout) -> None:
    """As it comes out of a store that keeps no empty folders, with one trial still to be run."""
    assert not old.events_dir.exists()
    assert not old.live_dir.exists()
    old.files("trials")[1].path.unlink()
    done = studies.servetune("resume", old.root, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert _schemas(old) == dict.fromkeys(TABLES, 1)
    trials = pd.read_parquet(old.trials_dir)
    assert list(zip(trials["number"], trials["attempt"], strict=True)) == [(0, 0), (1, 1)]
    assert [config["level"] for config in trials["param_compilation_config"]] == [3, 0]
    assert trials["environment_hash"].isna().tolist() == [True, False]
    assert {"gpu_use", "repeat_of"} <= set(pd.read_parquet(old.stages_dir))
    for table in (*TABLES, "events"):
        rows = ds.dataset(old.root / table, format="parquet").count_rows()
        assert rows == len(pd.read_parquet(old.root / table)) > 0
        if (polars := _polars()) is not None:
            assert polars.read_parquet(f"{old.root / table}/*.parquet").height == rows


def _polars() -> Any:
    try:
        import polars
    except ModuleNotFoundError:
        return None
    return polars


def _newer(path: Path) -> None:
    table = pq.read_table(path)
    metadata = {**(table.schema.metadata or {}), b"servetune.schema_version": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), path)


_OPENED: dict[str, Callable[[RunLayout], object]] = {
    "trials": lambda layout: open_run(layout.root).trials(),
    "stages": lambda layout: open_run(layout.root).stages(),
    "requests": lambda layout: open_run(layout.root).requests(0),
    "samples": lambda layout: open_run(layout.root).samples(0),
    "events": lambda layout: open_run(layout.root).events(),
}


@pytest.mark.parametrize("table", _OPENED)
def test_a_newer_file_is_refused_and_named_and_the_other_tables_open(
    old: RunLayout, table: str
) -> None:
    old.create()
    write_events(old, last=True)
    path = sorted((old.root / table).glob("*.parquet"))[0]
    _newer(path)
    with pytest.raises(RunFolderError, match=f"{path}: written with record version 99"):
        _OPENED[table](old)
    for name in _OPENED.keys() - {table}:
        _OPENED[name](old)


def _torn(content: bytes) -> bytes:
    return content[:-9]


def _zeros(content: bytes) -> bytes:
    return b"PAR1" + bytes(len(content) - 2004) + content[-2000:]


@pytest.mark.parametrize("damage", [_torn, _zeros, lambda _: b"", lambda _: b"no Parquet"])
@pytest.mark.parametrize("table", _OPENED)
def test_a_damaged_file_is_named_and_nothing_else_is_lost(
    old: RunLayout,
    table: str,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    old.create()
    write_events(old, last=True)
    path = sorted((old.root / table).glob("*.parquet"))[-1]
    path.write_bytes(damage(path.read_bytes()))
    run = open_run(old.root)
    rows = {
        "trials": len(run.trials()),
        "stages": len(run.stages()),
        "requests": len(run.requests(0)) + len(run.requests(1)),
        "samples": min(1, len(run.samples(0))) + min(1, len(run.samples(1))),
        "events": int("run_ended" in run.events()["kind"].to_pylist()),
    }
    whole = {"trials": 2, "stages": 2, "requests": 24, "samples": 2, "events": 1}
    lost = {"trials": 1, "stages": 1, "requests": 12, "samples": 1, "events": 0}
    assert rows == {**whole, table: whole[table] - lost[table]}
    assert f"{path}: cannot be read and is left out" in caplog.text


def test_events_of_a_run_that_goes_on_are_there_to_the_last(old: RunLayout) -> None:
    """Closed segments of the journal are files; the open one is read from the journal."""
    old.create()
    segment = old.journal_dir / "00000001.jsonl"
    lines = segment.read_text(encoding="utf-8").splitlines(keepends=True)
    segment.write_text("".join(lines[:4]), encoding="utf-8")
    (old.journal_dir / "00000002.jsonl").write_text("".join(lines[4:6]), encoding="utf-8")
    write_events(old, last=False)
    assert [path.name for path in old.events_dir.iterdir()] == [old.events_file(1, 1).name]
    (old.journal_dir / "00000003.jsonl").write_text("".join(lines[6:]), encoding="utf-8")
    assert len(read_events(old)) == len(lines)
    write_events(old, last=True)
    assert [path.name for path in old.events_dir.iterdir()] == [old.events_file(1, 3).name]
    table = read_events(old, ["segment", "line", "kind", "number", "values"])
    assert table["segment"].to_pylist() == [1] * 4 + [2] * 2 + [3] * (len(lines) - 6)
    assert table["line"].to_pylist()[:6] == [1, 2, 3, 4, 1, 2]
    proposed = [row for row in table.to_pylist() if row["kind"] == "proposed"]
    assert dict(proposed[0]["values"])["compilation-config"] == '{"level":3,"sizes":[1,2]}'
    assert isinstance(table.schema.field("values").type, pa.MapType)
