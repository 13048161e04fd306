"""Studies that are stopped or killed: nothing lost, nothing left, resumed to the same end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from runtimes.json_types import Json
from search.trial import TrialState
from tests.e2e import studies
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials
from tracking.records import TrialRecord

RAY: dict[str, Json] = {
    "kind": "ray", "address": "local", "simulated_gpus": 2, "accelerator": "H100",
}  # fmt: skip
LOCAL: dict[str, Json] = {**RAY, "kind": "local"}


def slow(cluster: dict[str, Json]) -> dict[str, Json]:
    """Six trials of a few seconds, two at a time, long enough to be hit in the middle."""
    return studies.experiment(
        engines={
            "simulated": {
                "startup_s": 0.2,
                "search": {
                    "max-num-seqs": [2, 4, 8],
                    "max-num-batched-tokens": [256, 512],
                },
            }
        },
        workload={
            "input_tokens": 32,
            "output_tokens": 64,
            "load": {"kind": "concurrency", "value": 4, "requests": 16},
        },
        cluster=cluster,
    )


def identity(row: TrialRecord) -> tuple[int, str, tuple[str, ...], TrialState]:
    return (row.number, json.dumps(dict(row.params)), row.command, row.state)


def finished(run: Path) -> int:
    return sum(event["kind"] == "finished" for event in studies.journal(run))


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory,
) -> set[tuple[int, str, tuple[str, ...], TrialState]]:
    """What the study comes to when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = studies.servetune("run", studies.write(folder, slow(LOCAL)), "--results", folder)
    assert done.returncode == 0, done.stderr
    return {identity(row) for row in read_trials(RunLayout(studies.only_run(folder)))}


@pytest.mark.ray
@pytest.mark.parametrize("cluster", [LOCAL, RAY], ids=["local", "ray"])
def test_killed_driver_loses_nothing_and_resumes_to_the_same_end(
    cluster: dict[str, Json],
    tmp_path: Path,
    unbroken: set[tuple[int, str, tuple[str, ...], TrialState]],
) -> None:
    kill_and_resume(cluster, tmp_path, unbroken)


def kill_and_resume(
    cluster: dict[str, Json],
    folder: Path,
    unbroken: set[tuple[int, str, tuple[str, ...], TrialState]],
) -> None:
    """SIGKILL a driver in the middle of its study, check what is left, resume it."""
    path = studies.write(folder, slow(cluster))
    results = folder / "runs"
    with studies.started("run", path, "--results", results) as process:
        studies.wait_for(
            lambda: results.is_dir() and finished(studies.only_run(results)) >= 2,
            "two finished trials",
        )
        run = studies.only_run(results)
        studies.wait_for(lambda: studies.engine_processes(run), "running engines")
        process.kill()
        process.wait()
        before = {row.number: row for row in read_trials(RunLayout(run))}
        studies.gone(studies.engine_processes(run))
    assert len(before) >= 2
    resumed = studies.servetune("resume", run, "--json")
    assert resumed.returncode == 0, resumed.stderr
    rows = read_trials(RunLayout(run))
    assert {identity(row) for row in rows} == unbroken
    assert len(rows) == len(unbroken)
    after = {row.number: row for row in rows}
    for number, row in before.items():
        assert after[number] == row
    assert json.loads(resumed.stdout)["trials"] == {"completed": 6}


@pytest.mark.parametrize(
    ("signals", "name"),
    [
        ([signal.SIGINT], "SIGINT"),
        ([signal.SIGTERM], "SIGTERM"),
        ([signal.SIGINT, signal.SIGINT], "SIGINT"),
    ],
    ids=["sigint", "sigterm", "sigint-twice"],
)
def test_a_stopped_study_ends_its_engines_and_keeps_its_record(
    signals: list[signal.Signals], name: str, tmp_path: Path
) -> None:
    path = studies.write(tmp_path, slow(LOCAL))
    results = tmp_path / "runs"
    with studies.started("run", path, "--results", results, "--json") as process:
        studies.wait_for(
            lambda: results.is_dir() and finished(studies.only_run(results)) >= 1,
            "one finished trial",
        )
        run = studies.only_run(results)
        studies.wait_for(lambda: len(studies.engine_processes(run)) >= 3, "running engines")
        engines = studies.engine_processes(run)
        for number in signals:
            studies.interrupt(process, number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not any(engine.alive() for engine in engines)
    rows = read_trials(RunLayout(run))
    states = {row.state for row in rows}
    assert states == {TrialState.COMPLETED, TrialState.CANCELLED}
    document = json.loads(stdout)
    assert document["best"] is not None
    assert (run / "report.html").is_file()
    assert name in str(studies.journal(run)[-1]["reason"])
    again = studies.servetune("resume", run, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["trials"] == {"completed": 6}


def test_a_second_driver_is_refused_while_the_first_works(tmp_path: Path) -> None:
    # Far more trials than end while the others look on, however slow this machine is.
    search: dict[str, Json] = {"max-num-seqs": list(range(2, 66))}
    many: dict[str, Json] = {"simulated": {"startup_s": 0.2, "search": search}}
    path = studies.write(tmp_path, {**slow(LOCAL), "engines": many})
    results = tmp_path / "runs"
    with studies.started("run", path, "--results", results) as process:
        studies.wait_for(
            lambda: results.is_dir() and finished(studies.only_run(results)) >= 1, "a trial"
        )
        run = studies.only_run(results)
        second = studies.servetune("resume", run)
        assert second.returncode == 2
        assert "in use by" in second.stderr
        status = studies.servetune("status", run, "--json")
        assert json.loads(status.stdout)["state"] == "running"
        studies.interrupt(process)
        process.communicate(timeout=60)
    assert process.returncode == 130
