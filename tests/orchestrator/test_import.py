"""`servetune import`: results of other tools, written down as a run that everything opens."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.load_run import load_run
from tests.orchestrator.commands import servetune
from tests.runtimes.test_peer_results import GOLDEN
from tracking.layout import RunLayout
from tracking.open import open_run
from tracking.records import IMPORTED

FILES = ("vllm_bench_detailed.json", "guidellm.json")


def imported(cwd: Path, *more: str) -> RunLayout:
    done = servetune("import", *(GOLDEN / name for name in FILES), *more, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["trials"] == {"completed": 3}
    (run,) = (cwd / "runs").iterdir()
    assert document["record"] == str(run.relative_to(cwd))
    return RunLayout(run)


def test_an_imported_run_has_a_trial_for_each_result(tmp_path: Path) -> None:
    layout = imported(tmp_path, "--gpus", "2")
    data = load_run(layout)
    assert [(trial.params["tool"], trial.params["load"]) for trial in data.trials] == [
        ("vllm-bench", "concurrency 4"),
        ("guidellm", "concurrency 2"),
        ("guidellm", "poisson 12.5"),
    ]
    for trial, stage in zip(data.trials, data.stages, strict=True):
        assert (trial.gpus, trial.engine, trial.command) == (2, "external", ())
        assert IMPORTED in trial.flags
        assert trial.measurement == stage.measurement
        assert trial.measurement is not None
        assert trial.objectives == {"output_throughput": trial.measurement.output_throughput}
    assert data.ended == "imported from vllm_bench_detailed.json, guidellm.json"
    assert [one.versions["imported_from"] for one in data.trials] == [FILES[0], *[FILES[1]] * 2]

    frames = open_run(layout.root).pandas
    assert len(frames.trials()) == 3
    requests = frames.requests(0)
    assert len(requests) == 12
    assert set(requests["output_tokens"]) == {8}
    assert len(frames.requests(1)) == 7
    assert len(frames.requests(2)) == 0


def test_report_status_and_resume_of_an_imported_run(tmp_path: Path) -> None:
    layout = imported(tmp_path)
    assert "imported" in layout.report.read_text(encoding="utf-8")
    report = servetune("report", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "another load generator measured it" in " ".join(report.stdout.split())
    assert " resume " not in report.stdout
    status = servetune("status", cwd=tmp_path)
    assert "tool=guidellm load=poisson 12.5" in status.stdout
    resumed = servetune("resume", layout.root, cwd=tmp_path)
    assert resumed.returncode == 2
    assert "was imported from another tool; nothing of it can be run again" in resumed.stderr


def test_the_table_names_each_load(tmp_path: Path) -> None:
    done = servetune("import", GOLDEN / "guidellm.json", "--results", "there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["guidellm", "concurrency", "2"],
        ["guidellm", "poisson", "12.5"],
    ]
    assert "record   there/imported-tiny-" in done.stdout


def test_nothing_is_written_when_one_of_the_files_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"a": 1}')
    done = servetune("import", GOLDEN / FILES[0], wrong, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{wrong}: is the result of no known tool" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_nested_too_deeply(tmp_path: Path) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    done = servetune("import", deep, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{deep}: is nested too deeply to be the result of any tool" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    done = servetune("import", GOLDEN / FILES[0], "--results", taken, cwd=tmp_path)
    assert done.returncode == 2
    assert f"--results {taken}: cannot be written: Not a directory" in done.stderr
    done = servetune("import", GOLDEN / FILES[0], "--gpus", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--gpus 0: a server has at least 1" in done.stderr
