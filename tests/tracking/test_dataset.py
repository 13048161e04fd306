"""A real run on simulated devices, opened as one dataset by the tools that people use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import tracking
from runtimes.json_types import Json
from tests.e2e import studies
from tracking.layout import TABLES, RunLayout
from tracking.parquet.read import read_trials

_CONFIGS: list[Json] = [{"level": 3, "sizes": [1, 2]}, {"level": 0}]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The parent of two run folders."""
    folder = tmp_path_factory.mktemp("runs")
    stages: Json = {
        "kind": "stages",
        "stages": [{"kind": "concurrency", "value": streams, "requests": 12} for streams in (2, 4)],
    }
    engine: Json = {
        "imitates": "vllm",
        "startup_s": 0.1,
        "search": {"compilation-config": _CONFIGS},
    }
    data = studies.experiment(
        engines={"simulated": engine},
        workload={"input_tokens": 32, "output_tokens": 8, "load": stages},
    )
    for _ in range(2):
        done = studies.servetune(
            "run", studies.write(folder, data), "--results", folder / "runs", timeout_s=120
        )
        assert done.returncode == 0, done.stderr
    yield folder / "runs"


@pytest.fixture(scope="module")
def layout(results: Path) -> RunLayout:
    return RunLayout(sorted(results.iterdir())[0])


def test_a_finished_run_is_one_file_a_table(layout: RunLayout) -> None:
    assert [len(layout.files(table)) for table in TABLES] == [1, 1, 1, 1]
    assert len(list(layout.events_dir.iterdir())) == 1


def test_open_run_gives_typed_tables(layout: RunLayout) -> None:
    run = tracking.open_run(layout.root)
    trials = run.trials(["number", "param_compilation_config", "not_there"])
    assert trials.column_names == ["number", "param_compilation_config"]
    kind = trials.schema.field("param_compilation_config").type
    assert kind == pa.struct([("level", pa.int64()), ("sizes", pa.list_(pa.int64()))])
    assert [line.number for line in run.listing()] == [0, 1]
    assert all(line.objectives for line in run.listing())
    assert set(run.stages(["stage"])["stage"].to_pylist()) == {0, 1}
    requests = run.requests(1)
    assert requests["stage"].to_pylist() == [0] * 12 + [1] * 12
    assert set(requests["number"].to_pylist()) == {1}
    events = run.events()
    assert events["kind"].to_pylist()[-1] == "run_ended"
    assert events["kind"].to_pylist().count("finished") == 2
    assert len(run.pandas.events(["kind"])) == len(events)
    params = [dict(row.params)["compilation-config"] for row in read_trials(layout)]
    assert sorted(params, key=str) == sorted(_CONFIGS, key=str)


def test_pandas_opens_each_folder_as_one_table(layout: RunLayout) -> None:
    trials = pd.read_parquet(layout.trials_dir)
    stages = pd.read_parquet(layout.stages_dir)
    requests = pd.read_parquet(layout.requests_dir)
    key = ["run", "number", "attempt"]
    joined = requests.merge(stages, on=[*key, "stage"]).merge(trials, on=key)
    assert len(joined) == len(requests) == 2 * 2 * 12
    assert {config["level"] for config in joined["param_compilation_config"]} == {0, 3}
    assert len(pd.read_parquet(layout.samples_dir)) > 0
    assert "phase" in pd.read_parquet(layout.events_dir)


def test_duckdb_joins_the_tables_of_all_runs(results: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")

    def table(name: str) -> str:
        return f"read_parquet('{results}/*/{name}/*.parquet', union_by_name = true)"

    rows = duckdb.sql(
        f"""
        SELECT t.run, t.number, t.param_compilation_config.level,
               any_value(t.param_compilation_config.sizes[1]),
               count(*), count(DISTINCT s.stage), max(r.ttft_ms) <= max(s.ttft_max_ms),
               any_value(t.objectives['output_throughput_per_gpu']), any_value(s.slo)
        FROM {table("requests")} r
        JOIN {table("stages")} s USING (run, number, attempt, stage)
        JOIN {table("trials")} t USING (run, number, attempt)
        WHERE t.state = 'completed' GROUP BY ALL ORDER BY 1, 2
        """
    ).fetchall()
    assert len(rows) == 2 * 2
    assert {(row[4], row[5]) for row in rows} == {(24, 2)}
    assert {(row[2], row[3]) for row in rows} == {(3, 1), (0, None)}
    finished = duckdb.sql(
        f"SELECT run, count(*) FROM {table('events')} WHERE kind = 'finished' GROUP BY run"
    ).fetchall()
    assert [count for _, count in finished] == [2, 2]
    assert duckdb.sql(f"SELECT count(*) > 0 FROM {table('samples')}").fetchall() == [(True,)]


def test_polars_scans_the_tables_of_all_runs(results: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")

    def table(name: str) -> Any:
        return polars.scan_parquet(f"{results}/*/{name}/*.parquet", missing_columns="insert")

    key = ["run", "number", "attempt"]
    found = (
        table("requests")
        .join(table("stages").select(*key, "stage", "load_value"), on=[*key, "stage"])
        .join(table("trials"), on=key)
        .group_by("run", "number")
        .agg(
            polars.len().alias("requests"),
            polars.col("param_compilation_config").struct.field("level").first(),
            polars.col("load_value").max(),
        )
        .collect()
    )
    assert found["requests"].to_list() == [24] * 4
    assert sorted(found["level"].to_list()) == [0] * 2 + [3] * 2
    assert set(found["load_value"].to_list()) == {4.0}
    assert table("events").filter(polars.col("kind") == "finished").collect().height == 4
    assert table("samples").select("metric").collect().height > 0
