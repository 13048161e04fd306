"""The end of a run: how it ended, what the last screen says of it, and how to go on."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.documents import result_document
from orchestrator.cli.next_steps import next_steps
from orchestrator.cli.summary_view import print_summary
from orchestrator.decisions import BundleReady, StopAsked, Tick
from orchestrator.load_run import load_run
from orchestrator.placement import Bundle
from orchestrator.scheduler import Limits, Scheduler
from orchestrator.study_log import StudyLog
from runtimes.failure import Failure, FailureKind
from search.trial import TrialState
from tests.orchestrator.commands import ROOT
from tests.orchestrator.run_folders import RUN, write_run
from tests.tracking.run_samples import START_UNIX_S, measurement, out_of_memory, trial_record
from tracking.events import Ending, Launched, RunEnded, decode, encode
from tracking.journal import Journal
from tracking.layout import RunLayout
from tracking.lock import RunLock
from tracking.reasons import Cause
from tracking.records import TrialRecord
from tracking.summary import summarise_run

TRIALS = [
    trial_record(0, gpus=2, baseline=True),
    trial_record(1, gpus=2, measured=measurement(output_throughput=3000.0)),
]
RUNNING_PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")


def written(
    folder: Path, ended: str = "every combination was tried", ending: Ending = Ending.COMPLETE
) -> RunLayout:
    return write_run(folder, TRIALS, ended=ended, ending=ending)


def commands(layout: RunLayout) -> list[str]:
    """Subcommands that are proposed, in order."""
    steps = [command for _, command in next_steps(load_run(layout), layout)]
    return [step.partition(str(layout.root))[0].split()[-1] for step in steps]


# --- how a run ended ----------------------------------------------------------------------------


def test_an_ending_survives_the_journal() -> None:
    ended = RunEnded("the budget of 2 GPU hours is spent", Ending.BUDGET)
    told = json.loads(json.dumps(encode(ended)))
    assert told["ending"] == "budget"
    assert decode(told) == ended


@pytest.mark.parametrize("more", [{}, {"ending": "of a newer version"}])
def test_an_ending_that_is_not_known_is_unknown(more: dict[str, str]) -> None:
    found = decode({"kind": "run_ended", "reason": "all 3 trials were tried", **more})
    assert isinstance(found, RunEnded)
    assert found.ending is Ending.UNKNOWN


def test_a_scheduler_knows_how_it_ends() -> None:
    assert Scheduler(Limits()).ending is Ending.COMPLETE
    spent = Scheduler(Limits(wall_clock_s=10.0))
    spent.handle(BundleReady(Bundle("a", "node", ("0",), "H100")), 0.0)
    spent.handle(Tick(), 11.0)
    assert spent.ending is Ending.BUDGET
    spent.handle(StopAsked("SIGINT"), 12.0)
    assert spent.ending is Ending.BUDGET, "the first reason stays"
    stopped = Scheduler(Limits())
    stopped.handle(StopAsked("SIGINT"), 0.0)
    assert stopped.ending is Ending.STOPPED


@pytest.mark.parametrize(
    ("ended", "ending", "first"),
    [
        ("every combination was tried", Ending.COMPLETE, "report"),
        ("stopped by SIGINT", Ending.STOPPED, "resume"),
        ("the budget of 2 GPU hours is spent", Ending.BUDGET, "resume"),
        ("all 2 trials were tried", Ending.UNKNOWN, "resume"),
        ("", Ending.KILLED, "resume"),
    ],
)
def test_how_to_go_on_follows_from_how_it_ended(
    tmp_path: Path, ended: str, ending: Ending, first: str
) -> None:
    layout = written(tmp_path, ended, ending)
    assert load_run(layout).ending is ending
    rest = ["report", "export", "compare"]
    assert commands(layout) == (rest if first == "report" else ["resume", *rest])


def test_a_run_that_goes_on_is_to_be_watched(tmp_path: Path) -> None:
    layout = written(tmp_path, ended="")
    with RunLock(layout.lock):
        assert load_run(layout).ending is Ending.RUNNING
        assert commands(layout) == ["watch", "report", "compare"]


# --- what it says -------------------------------------------------------------------------------


def test_the_last_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = written(tmp_path, "stopped by SIGTERM", Ending.STOPPED)
    print_summary(load_run(layout), layout)
    shown = capsys.readouterr().out
    for said in (
        f"{RUN}: 2 completed\nended: stopped by SIGTERM\n",
        "best: trial 1, 2 GPUs, 1.50× the engine's defaults (trial 0; no interval)\n",
        "vllm serve meta-llama/Llama-3.1-8B \\\n  --tensor-parallel-size 2\n",
        "why      trial 0, the runner-up, lost, 33 % less goodput per GPU (no interval): ",
        f"resume {layout.root}  # nothing that finished runs again\n",
    ):
        assert said in shown


def _failed(number: int, message: str) -> TrialRecord:
    failure = Failure(FailureKind.CRASHED, message, remedy="read its log")
    return trial_record(number, state=TrialState.FAILED, failure=failure)


def test_failures_of_one_cause_are_one_and_leave_the_rest_of_the_screen_in_sight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    often = [_failed(number, "killed") for number in range(10, 50)]
    rare = [_failed(number, f"cause {number}") for number in range(50, 57)]
    layout = write_run(tmp_path, [*TRIALS, *rare, *often])
    print_summary(load_run(layout), layout)
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("failed ")]
    assert failed[0] == (
        "failed   trials 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21 and 28 more: "
        "crashed: killed"
    )
    assert failed[1:] == [f"failed   trial {n}: crashed: cause {n}" for n in range(50, 54)]
    assert lines.count("         remedy: read its log") == len(failed)
    more = "         and 3 other causes, of 3 trials: the report lists every failure"
    assert more in lines


def test_what_was_launched_is_not_called_excluded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = out_of_memory()
    trials = [
        trial_record(n, state=TrialState.INFEASIBLE, failure=failure, reason=failure.message)
        for n in range(2)
    ]
    layout = write_run(tmp_path, trials, excluded={"tp 8 needs 16 GPUs": 3})
    print_summary(load_run(layout), layout)
    shown = capsys.readouterr().out
    assert "Nothing was measured. The failures below say why." in shown
    assert re.findall("excluded.*", shown) == ["excluded 3 ×  tp 8 needs 16 GPUs"]
    assert shown.count(failure.message) == 1


def test_a_command_in_a_note_finds_the_run_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    layout = write_run(tmp_path / "kept here", TRIALS, ended="")
    (caveat, *_) = summarise_run(load_run(layout)).caveats
    command = caveat.split("`")[1]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["status", *shlex.split(command)[2:]]) == 0
    assert RUN in capsys.readouterr().out


def test_the_document_says_the_same(tmp_path: Path) -> None:
    layout = written(tmp_path)
    document = json.loads(json.dumps(result_document(load_run(layout), layout), allow_nan=False))
    assert document["ending"] == "complete"
    assert document["gains"][0]["ratio"] == pytest.approx(1.5)
    assert document["why"][0]["difference"] == pytest.approx(-1 / 3)
    assert document["go_on"][0].split()[-2] == "report"


def test_predicted_communication_is_read_from_the_journal(tmp_path: Path) -> None:
    layout = written(tmp_path)
    with Journal(layout.journal_dir, clock=lambda: START_UNIX_S + 900) as journal:
        journal.append(Launched(0, 0, "b0", "node-a", ["0"], {}, 0.12))
        journal.append(Launched(1, 0, "b0", "node-a", ["0"]))
    assert load_run(layout).communication_ratios == {0: 0.12}


# --- the page that describes it -----------------------------------------------------------------


@pytest.mark.parametrize("name", [*Cause, *(each for each in Ending if each)])
def test_every_cause_and_ending_is_documented(name: str) -> None:
    assert f"`{name}`" in RUNNING_PAGE


def test_every_event_of_the_log_is_documented() -> None:
    source = Path(ROOT, StudyLog.__module__.replace(".", "/") + ".py").read_text(encoding="utf-8")
    events = set(re.findall(r'event="(\w+)"', source))
    assert len(events) > 8
    assert not [event for event in events if f"`{event}`" not in RUNNING_PAGE]


def test_every_key_of_the_document_is_documented(tmp_path: Path) -> None:
    layout = written(tmp_path)
    document = result_document(load_run(layout), layout)
    nested = [document["gains"], document["why"], document["flagged"]]
    rows = [row for rows in nested if isinstance(rows, list) for row in rows]
    names = {*document, *(name for row in rows if isinstance(row, dict) for name in row)}
    names -= {"engine", "objective"}  # said in words
    assert not [name for name in names if f"`{name}`" not in RUNNING_PAGE]
