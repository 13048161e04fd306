"""`load.engine`: the deciding load once more, from another load generator, beside ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.load_run import load_run
from orchestrator.spec import Experiment
from orchestrator.study import run
from tests.e2e import studies
from tests.orchestrator.attempts import attempted, order, several
from tests.orchestrator.commands import executable
from tests.runtimes.test_peer_results import GOLDEN
from tracking.layout import RunLayout


def install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `guidellm` that leaves the report among the golden files."""
    executable(folder, "guidellm", script)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_its_figures_stand_beside_ours_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    script = f'cp {GOLDEN}/guidellm.json benchmarks.json; echo "$@" > {told}'
    install(tmp_path / "bin", script, monkeypatch)
    load = {"kind": "concurrency", "value": 4, "requests": 12, "engine": "guidellm"}
    workload = {"input_tokens": 32, "output_tokens": 8, "load": load}
    data = studies.experiment(
        workload=workload,
        engines={"simulated": {"imitates": "vllm", "startup_s": 0.1}},
        cluster={"kind": "in_process", "simulated_gpus": 1, "accelerator": "H100"},
    )
    result = run(Experiment.from_dict(data), results=tmp_path / "runs")
    assert "kind=max_requests,count=12" in told.read_text()
    assert "prompt_tokens=32,output_tokens=8" in told.read_text()
    (stage,) = load_run(RunLayout(result.folder)).stages
    assert stage.measurement.requests_completed == 12
    assert stage.cross_check["requests_completed"] == 6
    assert stage.cross_check_note.startswith("guidellm: random prompts of its own, 32 input")


def test_one_that_is_not_installed_leaves_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    attempt = attempted(replace(order(), cross_check="aiperf"))
    assert attempt.measured.measurement.requests_completed == 12
    (record,) = attempt.cross_checked
    assert record.cross_check == {}
    assert record.cross_check_note == "aiperf: not installed (aiperf is not on PATH)"


def test_several_servers_are_no_load_of_a_peer() -> None:
    asked = several(replace(order(gpus=2), cross_check="guidellm"), {}, {})
    attempt = attempted(asked)
    (record,) = attempt.cross_checked
    assert record.cross_check_note == (
        "guidellm: not run, since it knows no load over several servers"
    )


def test_our_client_alone_by_default() -> None:
    attempt = attempted(order())
    assert attempt.cross_checked == []
