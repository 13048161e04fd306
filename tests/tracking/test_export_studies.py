"""The study as Optuna and MLflow read it, and as optuna-dashboard serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState as Theirs

from runtimes.errors import MissingToolError, UserError
from runtimes.json_types import Json
from runtimes.secrets import MASK
from search.trial import TrialState
from tests.runtimes.free_ports import free_port
from tests.tracking.run_samples import START_UNIX_S, measurement, run_data, study, trial_record
from tracking.export._distributions import encode
from tracking.export.to_mlflow import export_mlflow
from tracking.export.to_optuna import export_optuna
from tracking.layout import RunLayout
from tracking.run_data import Goal, RunData

_GOALS = (Goal("goodput_per_gpu", "maximize"), Goal("tpot_p99_ms", "minimize"))


def _data() -> RunData:
    """Two goals; completed, doubtful, SLO-breaking, infeasible, failed and pruned trials."""
    sample = study()
    trials = [
        replace(trial, objectives={**trial.objectives, "tpot_p99_ms": 20.0 + trial.number})
        if trial.state is TrialState.COMPLETED
        else trial
        for trial in sample.trials
    ]
    trials[-1] = replace(trials[-1], env={"HF_TOKEN": MASK, "A": "b"})
    doubtful = trial_record(90, flags=("client_limited",))
    slow = trial_record(
        91,
        measured=measurement(ttft_ms=900.0),
        objectives={"goodput_per_gpu": 99.0, "tpot_p99_ms": 1.0},
    )
    return replace(sample, goals=_GOALS, trials=(*trials, doubtful, slow))


def _load(path: Path, name: str) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".log":
            backend = optuna.storages.journal.JournalFileBackend(str(path))
            storage: Any = optuna.storages.JournalStorage(backend)
        else:
            storage = f"sqlite:///{path}"
        return optuna.load_study(study_name=name, storage=storage)


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_optuna_reads_every_trial_as_it_was(file: str, tmp_path: Path) -> None:
    data = _data()
    path = tmp_path / file
    said = export_optuna(data, str(path))
    assert f"{len(data.last_attempts())} trials" in said
    read = _load(path, data.run)
    assert [direction.name for direction in read.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert read.metric_names == [goal.name for goal in _GOALS]
    assert len(read.trials) == len(data.last_attempts())
    for ours, theirs in zip(data.last_attempts(), read.trials, strict=True):
        assert theirs.user_attrs["trial"] == ours.number
        assert theirs.user_attrs["config_id"] == ours.config_id
        assert theirs.user_attrs["state"] == ours.state.value
        assert theirs.params["engine"] == ours.engine
        if ours.state is TrialState.COMPLETED and not ours.doubts:
            assert theirs.state is Theirs.COMPLETE
            assert theirs.values == [ours.objectives[goal.name] for goal in _GOALS]
            assert "--" in theirs.user_attrs["command"]
        if ours.started_unix_s is not None:
            assert theirs.datetime_start is not None
            assert theirs.datetime_start.timestamp() == ours.started_unix_s >= START_UNIX_S


def test_one_trial_is_no_trials(tmp_path: Path) -> None:
    data = run_data([trial_record(0)])
    assert " with 1 trial to " in export_optuna(data, str(tmp_path / "study.db"))


def test_what_is_doubtful_or_breaks_the_slo_is_not_optunas_best(tmp_path: Path) -> None:
    data = _data()
    export_optuna(data, str(tmp_path / "study.db"))
    read = _load(tmp_path / "study.db", data.run)
    by_number = {trial.user_attrs["trial"]: trial for trial in read.trials}
    assert by_number[90].state is Theirs.FAIL
    assert by_number[90].user_attrs["objectives"]["goodput_per_gpu"] > 0
    assert by_number[91].user_attrs["slo_met"] is False
    best = {trial.user_attrs["trial"] for trial in read.best_trials}
    assert best and not best & {90, 91}
    states = {trial.user_attrs["state"]: trial.state for trial in read.trials}
    assert states["infeasible"] is states["pruned"] is Theirs.PRUNED
    assert states["failed"] is Theirs.FAIL


def test_exporting_again_replaces_and_leaves_others_alone(tmp_path: Path) -> None:
    data = _data()
    out = f"sqlite:///{tmp_path / 'study.db'}"
    for _ in range(2):
        export_optuna(data, out)
    assert optuna.get_all_study_names(out) == [data.run]
    assert len(_load(tmp_path / "study.db", data.run).trials) == len(data.last_attempts())
    optuna.create_study(study_name="mine", storage=out)
    with pytest.raises(UserError, match=r"'mine'.*not of this run.*--name"):
        export_optuna(data, out, name="mine")
    export_optuna(data, out, name="other")
    assert set(optuna.get_all_study_names(out)) == {data.run, "mine", "other"}


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("sqlite:////proc/no/such/study.db", "no storage that Optuna can use"),
        ("nosuchdb://user:hidden@host/x", r"\*\*\*@host"),
        ("/proc/study.log", "no storage that Optuna can use"),
        ("/nodir/a/study.log", "no folder /nodir/a; make it first"),
        ("/nodir/a/study.db", "no folder /nodir/a; make it first"),
        (f"{'x' * 5000}/study.db", "File name too long"),
    ],
)
def test_a_storage_that_cannot_be_used_is_said_so(out: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        export_optuna(_data(), out)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("text", ["text", "5", '{"a": 1}'])
def test_a_file_that_is_no_journal_is_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.log"
    path.write_text(text)
    with pytest.raises(UserError, match="no journal of Optuna's"):
        export_optuna(_data(), str(path))
    assert path.read_text() == text


def test_a_missing_driver_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="database driver"):
        export_optuna(_data(), "mysql+mysqldb://user:hidden@127.0.0.1/x")


def test_parameters_are_what_the_experiment_declares() -> None:
    search: Mapping[str, Json] = {
        "seqs": {"int": [1, 1024], "log": True},
        "share": {"float": [0.5, 0.9], "step": 0.1},
        "style": {"choice": ["auto", "fp8"]},
        "nested": {"choice": [{"mode": 3}, None]},
        "mixed": {"choice": [1, 1.0, True]},
        "left": {"int": [1, 4]},
    }
    points: list[dict[str, Json]] = [
        {"seqs": 64, "share": 0.7, "style": "fp8", "nested": {"mode": 3}, "mixed": True, "left": 9},
        {"seqs": 8, "share": 0.5, "style": "auto", "nested": None, "mixed": 1},
    ]
    data = run_data([trial_record(number, params=point) for number, point in enumerate(points)])
    data = replace(data, experiment={"engines": {"vllm": {"search": dict(search)}}})
    first, second = encode(data, data.last_attempts())
    assert first.distributions["seqs"] == IntDistribution(1, 1024, log=True)
    assert first.distributions["share"] == FloatDistribution(0.5, 0.9, step=0.1)
    assert first.distributions["style"] == CategoricalDistribution(("auto", "fp8"))
    assert first.distributions["left"] == CategoricalDistribution((9,))
    assert (first.values["nested"], second.values["nested"]) == ('{"mode":3}', "null")
    assert (first.values["mixed"], second.values["mixed"]) == ("true", "1")
    assert "left" not in second.values


def test_several_engines_keep_their_parameters_apart() -> None:
    data = run_data([trial_record(0), trial_record(1, engine="sglang")])
    first, second = encode(data, data.last_attempts())
    assert set(first.values) == {"engine", "vllm.tp"}
    assert set(second.values) == {"engine", "sglang.tp"}


@contextmanager
def _dashboard(storage: str, port: int) -> Iterator[str]:
    program = Path(sys.executable).with_name("optuna-dashboard")
    if not program.is_file():
        pytest.skip("no optuna-dashboard here")
    process = subprocess.Popen(
        [str(program), storage, "--port", str(port), "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _asked(url: str) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"no answer from {url}"
            time.sleep(0.2)


def test_optuna_dashboard_shows_the_study(tmp_path: Path) -> None:
    data = _data()
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    export_optuna(data, storage)
    with _dashboard(storage, free_port()) as url:
        (summary,) = _asked(f"{url}/api/studies")["study_summaries"]
        assert summary["study_name"] == data.run
        shown = _asked(f"{url}/api/studies/{summary['study_id']}?after=0")
    assert len(shown["trials"]) == len(data.last_attempts())
    assert [trial["values"] for trial in shown["trials"] if trial["state"] == "Complete"]


# --- MLflow -----------------------------------------------------------------------------------


@pytest.fixture
def mlflow_runs(tmp_path: Path) -> Iterator[tuple[RunData, Path]]:
    pytest.importorskip("mlflow", reason="no mlflow here")
    yield _data(), tmp_path / "ml"


def _runs(folder: Path, name: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


@pytest.mark.filterwarnings("ignore")  # of MLflow's own libraries, while it makes its tables
def test_mlflow_has_a_run_per_trial_and_none_twice(mlflow_runs: tuple[RunData, Path]) -> None:
    data, folder = mlflow_runs
    layout = RunLayout(folder / data.run)
    layout.create()
    best = data.best()
    assert best is not None
    layout.log_file(best.number, best.attempt).write_text("one\ntwo\n")
    total = len(data.last_attempts())
    assert f"{total} runs" in export_mlflow(data, layout, str(folder))
    first = {run.info.run_id for run in _runs(folder, data.run)}
    assert "(0 new or changed)" in export_mlflow(data, layout, str(folder))
    runs = _runs(folder, data.run)
    assert {run.info.run_id for run in runs} == first
    by_trial = {int(run.data.tags["servetune.trial"]): run for run in runs}
    assert set(by_trial) == {trial.number for trial in data.last_attempts()}
    for trial in data.last_attempts():
        run = by_trial[trial.number]
        assert run.data.tags["state"] == trial.state.value
        assert run.data.params["engine"] == trial.engine
        assert run.data.metrics.items() >= trial.objectives.items()
        if trial.started_unix_s is not None:
            assert run.info.start_time == round(trial.started_unix_s * 1000)
    artefacts = Path(by_trial[best.number].info.artifact_uri.removeprefix("file://"))
    assert {path.name for path in artefacts.iterdir()} == {
        "command.sh",
        "log_tail.txt",
        "report.html",
    }
    changed = replace(data, trials=(*data.trials, trial_record(92, state=TrialState.CANCELLED)))
    assert "(1 new or changed)" in export_mlflow(changed, layout, str(folder))
    with pytest.raises(UserError, match="not of this run"):
        export_mlflow(replace(data, run="another"), layout, str(folder), name=data.run)


def test_mlflow_refuses_what_it_cannot_write_to(mlflow_runs: tuple[RunData, Path]) -> None:
    data, folder = mlflow_runs
    folder.mkdir()
    (folder / "text.db").write_text("text")
    (folder / "text").write_text("text")
    export_optuna(data, str(folder / "optuna.db"))
    layout = RunLayout(folder)
    for name, words in {
        "text.db": "not a database",
        "text": "not a database",
        "optuna.db": "Can't locate revision",
        "made/mlruns": "no folder .*made; make it first",
        "made/mlflow.db": "no folder .*made; make it first",
    }.items():
        with pytest.raises(UserError, match=words):
            export_mlflow(data, layout, str(folder / name))
    assert (folder / "text.db").read_text() == (folder / "text").read_text() == "text"
    with pytest.raises(UserError, match="is no URL"):
        export_mlflow(data, layout, "http://[bad")


def test_mlflow_does_not_wait_for_a_server_that_is_not_there(
    mlflow_runs: tuple[RunData, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")  # minutes, if it were heeded
    url = f"http://user:hidden@127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match="no MLflow server answers there") as raised:
        export_mlflow(mlflow_runs[0], RunLayout(mlflow_runs[1]), url)
    assert "hidden" not in str(raised.value)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_without_mlflow_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingToolError, match=r"pip install 'servetune\[mlflow\]'"):
        export_mlflow(_data(), RunLayout(tmp_path), str(tmp_path))
