"""Run folders that somebody else wrote, or that are damaged: words, no traceback, no escapes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli import main
from orchestrator.cli.progress import Progress
from orchestrator.cli.watch_view import JsonView, LinesView, View, screen
from orchestrator.live_status import read_live_status
from orchestrator.load_run import load_run
from orchestrator.observer import RunInfo
from orchestrator.watching import Watch
from runtimes.errors import RunFolderError
from runtimes.failure import Failure, FailureKind
from search.goals import Goal
from search.trial import TrialState
from tests.orchestrator.run_folders import write_run
from tests.tracking.run_samples import trial_record
from tracking.events import Finished
from tracking.journal import Journal
from tracking.layout import RunLayout
from tracking.lock import RunLock
from tracking.records import TrialRecord
from tracking.summary import summarise_run

_GOALS = (Goal("goodput_per_gpu", "maximize"),)
_HOSTILE = "boom \x1b[2J\x1b]52;c;YQ==\x07\x9b31m\u202eevil\u2066 [/nope][bold]x \udcff\nnext"
_STORED = _HOSTILE.replace("\udcff", "")  # which no file of the record can hold
_NEVER_SHOWN = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\udcff")


def _clean(shown: str) -> bool:
    return not any(each in shown for each in _NEVER_SHOWN)


def _failed(number: int) -> TrialRecord:
    failure = Failure(FailureKind.CRASHED, _STORED, _STORED, 1, _STORED)
    record = trial_record(number, state=TrialState.FAILED)
    return replace(
        record, failure=failure, engine=_STORED, node=_STORED, flags=(_STORED,), objectives={},
        measurement=None,
    )  # fmt: skip


# --- the status of a driver ---------------------------------------------------------------------

_WORDS = dict.fromkeys(("phase", "step", "engine", "node", "gpus"), _HOSTILE)
_RUNNING = {"1": {**_WORDS, "parameters": {_HOSTILE: _HOSTILE}}}
_STATUSES: dict[str, str] = {
    "deep": "[" * 200_000,
    "nested": '{"running": {"1": {"parameters": ' + '{"a":' * 500 + "1" + "}" * 503,
    "nan": '{"at_unix_s": NaN, "queued": Infinity, "elapsed_s": -Infinity}',
    "nan figures": '{"at_unix_s": %s, "queued": NaN, "running": {"1": {"in_flight": 1e999}}}',
    "long integer": '{"at_unix_s": 1' + "0" * 400 + "}",
    "too long an integer": '{"at_unix_s": 1' + "0" * 5000 + "}",
    "objective": '{"at_unix_s": %s, "best": {"trial": 1, "objectives": {"goodput_per_gpu": 1'
    + "0" * 400
    + "}}}",
    "times": '{"at_unix_s": %s, "running": {"1": {"started_unix_s": -1e308}}}',
    "superscript": '{"at_unix_s": %s, "running": {"\u00b2": {"phase": "x"}}}',
    "long number": '{"at_unix_s": %s, "running": {"' + "9" * 5000 + '": {"phase": "x"}}}',
    "withheld": '{"at_unix_s": %s, "withheld": [{"gpu": 1}]}',
    "words": '{"at_unix_s": %s, "running": ' + json.dumps(_RUNNING) + ', "recent": '
    + json.dumps([{"trial": 1, "state": _HOSTILE, "reason": _HOSTILE}]) + "}",
}  # fmt: skip


def _status(layout: RunLayout, text: str) -> None:
    layout.live_status.write_text(text.replace("%s", str(time.time())), encoding="utf-8")


@pytest.mark.parametrize("text", _STATUSES.values(), ids=_STATUSES)
def test_no_status_breaks_a_view(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = write_run(tmp_path, [trial_record(0)], ended="")
    _status(layout, text)
    snapshot = Watch(layout).look()
    console = Console(file=StringIO(), width=200, record=True)
    console.print(screen(snapshot, _GOALS, 200))
    views: list[View] = [LinesView(console, _GOALS), JsonView()]
    for view in views:
        view.show(snapshot)
    assert _clean(console.export_text())
    with RunLock(layout.lock):
        assert main(["status", str(layout.root)]) == 0
        first, shown = capsys.readouterr().out.split("\n", 1)
        assert main(["status", "--json", str(layout.root)]) == 0
    assert _clean(shown)
    for document in (first, capsys.readouterr().out):
        json.loads(document, parse_constant=pytest.fail)


def test_hostile_words_stay_legible(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [], ended="")
    _status(layout, _STATUSES["words"])
    console = Console(file=StringIO(), width=300, record=True)
    LinesView(console, _GOALS).show(Watch(layout).look())
    shown = console.export_text().splitlines()
    assert len(shown) == 3  # the header, what runs, what ended: no line end of theirs
    assert "boom 31mevil [/nope][bold]x  next" in shown[1]


def test_numbers_of_a_status_are_finite(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text('{"a": NaN, "b": 1e999, "c": 12.5, "d": 1' + "0" * 400 + ', "e": 7}')
    assert read_live_status(path) == {"a": None, "b": None, "c": 12.5, "d": None, "e": 7}


# --- what trials said ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "watch", "report"])
def test_words_of_an_engine_move_no_cursor(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_run(tmp_path, [_failed(0)], ended=_STORED)
    root = made.root.rename(tmp_path / "evil\x1b[2J\n[bold]-20260101T000000Z-abcd")
    assert main([command, str(root)]) in (0, 1)
    shown = capsys.readouterr().out
    assert _clean(shown)
    assert "evil [bold]-20260101T000000Z-abcd" in shown


def test_words_of_an_engine_move_no_cursor_of_a_study(tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=200, record=True)
    with Progress(console) as display:
        display.started(
            RunInfo(_HOSTILE, "n", tmp_path, "", (), planned=1, finished=0, simulated=False)
        )
        display.finished(_failed(0), retry=False)
    shown = console.export_text()
    assert _clean(shown)
    assert "crashed: boom 31mevil [/nope][bold]x" in shown


def test_stdout_shows_what_its_encoding_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = write_run(tmp_path, [], ended="")
    with RunLock(layout.lock):
        _status(layout, '{"at_unix_s": %s, "running": {"1": {"step": "\\udcff"}}}')
        assert main(["status", "--json", str(layout.root)]) == 0
    assert json.loads(capsys.readouterr().out)["live"]["running"]["1"]["step"] == "?"


# --- experiment.yaml ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: \xff\n", "cannot be read"),
        (b"name: 2024-99-99\n", "cannot be read: month must be in"),
        (b"[" * 5000, "cannot be read"),
        (b"name: x\n", "names no objective under `objectives`"),
        (b"name: x\nobjectives: [3]\n", "names no objective under `objectives`"),
        (b"- x\n", "holds no experiment"),
    ],
)
def test_a_foreign_experiment_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    layout = write_run(tmp_path, [])
    layout.experiment.write_bytes(content)
    with pytest.raises(RunFolderError) as raised:
        load_run(layout)
    words = str(raised.value)
    assert words.startswith(f"{layout.experiment}: ")
    assert said in words
    assert words.endswith("Restore the file from a copy of the run, or name another run.")


# --- long names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "x" * 5000],
        ["compare", "x" * 5000, "y"],
        ["compare", "{run}:" + "9" * 5000, "{run}:0"],
    ],
)
def test_a_long_name_is_refused_in_words(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(write_run(tmp_path, [trial_record(0)]).root)
    assert main([each.replace("{run}", run) for each in arguments]) == 2
    assert capsys.readouterr().err.startswith("servetune: ")


# --- rows that are gone -------------------------------------------------------------------------


def _with_ends(tmp_path: Path, trials: int) -> RunLayout:
    layout = write_run(tmp_path, [trial_record(number) for number in range(trials)])
    with Journal(layout.journal_dir, clock=time.time) as journal:
        for number in range(trials):
            journal.append(Finished(number, 0, "completed"))
    return layout


def test_trials_that_cannot_be_read_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = _with_ends(tmp_path, 3)
    assert load_run(layout).unread_trials == 0
    files = layout.files("trials")
    files[0].path.unlink()
    files[1].path.write_bytes(b"damaged")
    data = load_run(layout)
    assert data.unread_trials == 2
    assert any(
        each.startswith("2 finished trials cannot be read: ") and f"resume {layout.root}`" in each
        for each in summarise_run(data).caveats
    )
    files[2].path.unlink()
    for command in ("status", "watch"):
        main([command, str(layout.root)])
        shown = capsys.readouterr().out
        assert "3 unreadable" in shown
        assert f"resume {layout.root}  # measures again what cannot be read" in shown
    main(["status", "--json", str(layout.root)])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert any("3 finished trials cannot be read" in note for note in document["notes"])
    assert any(" resume " in step for step in document["go_on"])


def test_only_the_last_attempt_of_a_trial_counts(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [trial_record(0, attempt=1)])
    with Journal(layout.journal_dir, clock=time.time) as journal:
        journal.append(Finished(0, 0, "failed", retry=True))
        journal.append(Finished(0, 1, "completed"))
    assert load_run(layout).unread_trials == 0
