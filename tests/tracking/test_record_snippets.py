"""The ways that docs/record.md shows to open a record, run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from runtimes.json_types import Json
from runtimes.measurement import RequestRecord
from tests.tracking.run_samples import trial_record
from tracking.layout import RunLayout
from tracking.parquet.parameters import ParameterTypes
from tracking.parquet.write import RecordWriter, encode_requests

ROOT = Path(__file__).parents[2]
_OLD = "a-20251231T000000Z-0000"
_NUMBERS, _TEXT = "b-20260101T000000Z-0000", "c-20260102T000000Z-0000"


def _snippet(kind: str, word: str) -> str:
    """The fenced block of the page's part on opening in which `word` stands."""
    page = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    part = page[page.index("## Opening it") : page.index("### Versions")]
    (found,) = [
        block for block in re.findall(rf"```{kind}\n(.*?)```", part, re.DOTALL) if word in block
    ]
    return str(found)


def _python(word: str) -> dict[str, Any]:
    """Names that a block of Python left."""
    names: dict[str, Any] = {}
    exec(compile(_snippet("python", word), word, "exec"), names)
    return names


def _write(folder: Path, types: ParameterTypes, objective: str, params: dict[str, Json]) -> None:
    layout = RunLayout(folder)
    layout.create()
    layout.experiment.write_text("name: demo\n", encoding="utf-8")
    trial = trial_record(0, params=params, objectives={objective: 1.0})
    RecordWriter(layout, types, [objective]).trial(trial)
    request = RequestRecord(
        0, 0, 0, (1_000_000, 3_000_000), 4_000_000,
        prompt_tokens=8, output_tokens=2, requested_output_tokens=2,
    )  # fmt: skip
    payload = encode_requests(run=trial.run, number=0, attempt=0, stage=0, records=[request])
    layout.attempt_file("requests", 0, 0).write_bytes(payload)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three runs, the first of version 1; parameters come, go and change their type."""
    folder = tmp_path / "runs"
    shutil.copytree(ROOT / "tests" / "golden" / "record_version_1", folder / _OLD)
    _write(
        folder / _NUMBERS,
        {"max-num-seqs": "int", "compilation-config": {"level": "int", "mode": "string"}},
        "goodput_per_gpu",
        {"max-num-seqs": 8, "compilation-config": {"level": 2}},
    )
    _write(
        folder / _TEXT,
        {"max-num-seqs": "string", "gpu-memory-utilization": "float"},
        "ttft_p99_ms",
        {"max-num-seqs": "auto", "gpu-memory-utilization": 0.9},
    )
    monkeypatch.chdir(tmp_path)
    return folder


def test_ours(runs: Path) -> None:
    newest = _python("import tracking")["run"]
    assert newest.layout.run == _TEXT
    assert newest.trials(["param_max_num_seqs"])["param_max_num_seqs"].to_pylist() == ["auto"]


def test_pandas_of_one_run(runs: Path) -> None:
    (runs / _NUMBERS).rename(runs / "RUN")
    trials = _python('read_parquet("runs/RUN')["trials"]
    assert trials["param_max_num_seqs"].tolist() == [8]


def test_pandas_of_many_runs(runs: Path) -> None:
    trials = _python("pandas.concat")["trials"]
    assert trials["param_max_num_seqs"].tolist() == [4, 4, 8, "auto"]
    assert trials["param_gpu_memory_utilization"].isna().tolist() == [True, True, True, False]
    assert trials["objective_ttft_p99_ms"].tolist()[-1] == 1.0
    assert pd.isna(trials["environment_hash"].iloc[0])


def test_polars_of_many_runs(runs: Path) -> None:
    pytest.importorskip("polars", reason="polars is not installed")
    trials = _python("polars.concat")["trials"].collect()
    assert trials["param_max_num_seqs"].to_list() == ["4", "4", "8", "auto"]
    assert trials["param_gpu_memory_utilization"].to_list() == [None, None, None, 0.9]
    assert trials["objective_ttft_p99_ms"].to_list() == [None, None, None, 1.0]
    assert {"param_compilation_config", "environment_hash"} <= set(trials.columns)


def test_duckdb_of_many_runs(runs: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    found = duckdb.sql(_snippet("sql", "DuckDB")).fetchall()
    names = {pq.read_table(file)["run"][0].as_py() for file in runs.glob("*/trials/*.parquet")}
    assert {row[0] for row in found} == names
    trials = duckdb.sql(
        "SELECT * EXCLUDE (param_compilation_config) "
        "FROM read_parquet('runs/*/trials/*.parquet', union_by_name = true)"
    ).to_arrow_table()
    assert sorted(trials["param_max_num_seqs"].to_pylist()) == ["4", "4", "8", "auto"]
