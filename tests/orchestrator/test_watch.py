"""Following a study from another terminal: real studies, pipes and pseudo-terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.watch_view import JsonView, LinesView, header, screen
from orchestrator.watching import STALE_S, EndedTrial, RunningTrial, Snapshot, Watch
from search.goals import Goal
from tests.e2e import studies
from tests.orchestrator.commands import servetune
from tests.orchestrator.run_folders import RUN, write_run
from tests.tracking.run_samples import trial_record
from tracking.events import Ending
from tracking.lock import RunLock

GOALS = (Goal("goodput_per_gpu", "maximize"),)
MEASURING = RunningTrial(
    number=12,
    engine="vllm",
    parameters={"tp": 2, "max-num-seqs": 256},
    gpus=2,
    gpu_ids=("0", "1"),
    node="node-a",
    phase="measuring",
    doing="measuring",
    progress="40/72",
    output_tokens_per_s_per_gpu=1234.0,
    ttft_mean_ms=212.0,
    tpot_mean_ms=21.4,
    in_flight=32,
    requests_running=30.0,
    requests_waiting=2.0,
    kv_cache_usage_ratio=0.62,
    prefix_cache_hit_ratio=0.31,
    running_s=75.0,
)
SNAPSHOT = Snapshot(
    run=RUN,
    elapsed_s=200.0,
    counts={"completed": 3, "failed": 1},
    planned=12,
    busy_gpus=2,
    capacity_gpus=8,
    best=EndedTrial(3, "completed", {"goodput_per_gpu": 3.86}),
    running=(MEASURING, RunningTrial(13, engine="vllm", phase="starting", doing="loading")),
    recent=(EndedTrial(4, "failed", {}, "CUDA out of memory"),),
)


def drawn(snapshot: Snapshot, width: int) -> list[str]:
    """The screen, line by line."""
    console = Console(file=StringIO(), width=width, record=True)
    console.print(screen(snapshot, GOALS, width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_screen_has_every_live_figure() -> None:
    lines = drawn(SNAPSHOT, 180)
    assert lines[0] == (
        f"{RUN}  3 min 20 s  4 of 12 trials ended (3 completed, 1 failed)  GPUs 2 busy, 6 idle"
    )
    assert lines[1] == "best so far: trial 3, goodput per GPU 3.86 requests/s/GPU"
    heading, first, second = lines[3:6]
    assert heading.split("  ")[0] == "trial"
    for value in ("12", "40/72", "1,234", "212", "21.4", "32", "30.0/2.00", "62 %", "31 %",
                  "1 min 15 s", "vllm tp=2 max-num-seqs=256"):  # fmt: skip
        assert value in first
    assert "loading" in second
    assert lines[-1] == "trial   4  failed  CUDA out of memory"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_a_narrow_terminal_keeps_what_matters_and_breaks_no_line(width: int) -> None:
    lines = drawn(SNAPSHOT, width)
    assert max(map(len, lines)) <= width
    assert any(line.lstrip().startswith("12 ") for line in lines)
    assert any("doing" in line for line in lines)


def test_a_driver_that_is_starting_or_silent_says_so() -> None:
    starting = Snapshot(RUN, silent_s=float("inf"))
    assert header(starting) == [RUN, "its driver is starting", "0 trials ended"]
    silent = Snapshot(RUN, elapsed_s=5.0, silent_s=42.0)
    assert "its driver has said nothing for 42 s" in header(silent)


def test_lines_come_with_changes_alone() -> None:
    console = Console(file=StringIO(), width=200, record=True)
    view = LinesView(console, GOALS)
    for snapshot in (SNAPSHOT, SNAPSHOT):
        view.show(snapshot)
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines] == [RUN, "trial", "trial", "trial", "best"]


def test_json_comes_with_changes_alone_and_has_no_infinity(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = JsonView()
    view.show(Snapshot(RUN, silent_s=float("inf")))
    view.show(SNAPSHOT)
    view.show(SNAPSHOT)
    starting, running = map(json.loads, capsys.readouterr().out.splitlines())
    assert (starting["state"], starting["silent_s"]) == ("starting", None)
    assert (running["state"], running["running"][0]["kv_cache_usage_ratio"]) == ("running", 0.62)


# --- the status of a driver ---------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", '{"at_unix_s": 1', "[]", "null", '{"running": 3}'])
def test_a_status_that_cannot_be_read_leaves_the_record(tmp_path: Path, text: str | None) -> None:
    layout = write_run(tmp_path, [trial_record(0)], ended="")
    if text is not None:
        layout.live_status.write_text(text)
    snapshot = Watch(layout).look()
    assert snapshot.state == "starting"
    assert snapshot.counts == {"completed": 1}
    assert snapshot.best is not None
    assert snapshot.best.number == 0


def test_a_status_of_odd_values_breaks_nothing(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [], ended="")
    odd = {"at_unix_s": time.time(), "counts": {"completed": "x"}, "best": {"trial": "1"},
           "running": {"3": {"gpus": None, "parameters": [], "planned": 4}, "x": {}, "4": 7},
           "recent": [None, {"trial": 1}]}  # fmt: skip
    layout.live_status.write_text(json.dumps(odd))
    snapshot = Watch(layout).look()
    assert snapshot.state == "running"
    assert [trial.number for trial in snapshot.running] == [3]
    assert [trial.number for trial in snapshot.recent] == [1]
    assert drawn(snapshot, 100)


def test_a_status_that_is_old_is_called_so(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [], ended="")
    layout.live_status.write_text(json.dumps({"at_unix_s": time.time() - STALE_S - 5}))
    assert Watch(layout).look().state == "silent"


# --- a run that is not running ------------------------------------------------------------------


def test_a_run_that_ended_says_so_at_once(tmp_path: Path) -> None:
    trials = [trial_record(0, baseline=True), trial_record(1, goodput_per_gpu=9.5)]
    write_run(tmp_path / "runs", trials)
    done = servetune("watch", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{RUN}: every combination was tried; 2 completed"
    assert lines[1].startswith("best: trial 1, goodput per GPU 9.50 requests/s/GPU, 1.22× the ")
    assert lines[2].startswith("go on ")
    assert f"report runs/{RUN}" in lines[2]


def test_a_run_whose_driver_was_killed_shows_how_to_go_on(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "runs", [trial_record(0)], ended="")
    layout.live_status.write_text(json.dumps({"at_unix_s": time.time(), "running": {"1": {}}}))
    done = servetune("watch", RUN, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{RUN}: not running; its driver was killed; 1 completed" in done.stdout
    assert f"resume runs/{RUN}  # nothing that finished runs again" in done.stdout
    (document,) = map(json.loads, servetune("watch", "--json", cwd=tmp_path).stdout.splitlines())
    assert (document["state"], document["ending"]) == ("interrupted", Ending.KILLED.value)


def test_a_budget_that_is_spent_is_raised_before_going_on(tmp_path: Path) -> None:
    ended = "the budget of 2 GPU hours is spent"
    write_run(tmp_path / "runs", [trial_record(0)], ended=ended, ending=Ending.BUDGET)
    done = servetune("watch", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        f"resume runs/{RUN}  # after raising `budget` in runs/{RUN}/experiment.yaml" in done.stdout
    )


def test_watching_takes_no_lock(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [], ended="")
    watch = Watch(layout)
    assert not watch.driven
    with RunLock(layout.lock):
        assert watch.driven
        watch.look()
    with RunLock(layout.lock):
        pass


# --- a run that is running ----------------------------------------------------------------------


def test_a_running_study_is_followed_to_its_end(tmp_path: Path) -> None:
    """By a pipe, by JSON and on two terminals at once, of which one leaves early."""
    results = tmp_path / "runs"
    path = studies.write(tmp_path, studies.experiment(workload={
        "input_tokens": 32, "output_tokens": 128,
        "load": {"kind": "concurrency", "value": 4, "requests": 48},
    }))  # fmt: skip
    with studies.started("run", path, "--results", results) as study:
        studies.wait_for(lambda: list(results.glob("*/live/status.json")), "the study runs")
        followers = [
            subprocess.Popen(
                studies.command("watch", "--results", results, *options),
                env=studies.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True,
            )
            for options in ((), ("--json",))
        ]  # fmt: skip
        wide = in_terminal(results, columns=150, until=lambda out: b"tok/s/GPU" in out)
        assert wide[0] == 0
        piped, as_json = (follower.communicate(timeout=120) for follower in followers)
        study.communicate(timeout=120)
    assert study.returncode == 0
    assert [follower.returncode for follower in followers] == [0, 0]
    assert (piped[1], as_json[1]) == ("", "")
    assert "every combination was tried; 4 completed" in piped[0]
    assert re.search(r"^trial +\d  completed  ", piped[0], re.MULTILINE)
    documents: list[dict[str, Any]] = [json.loads(line) for line in as_json[0].splitlines()]
    assert {document["state"] for document in documents} <= {"starting", "running", "ended"}
    assert documents[-1]["state"] == "ended"
    assert documents[-1]["trials"] == {"completed": 4}
    assert any(trial["in_flight"] for each in documents[:-1] for trial in each["running"])
    assert b"Traceback" not in wide[1]


def in_terminal(
    results: Path, *, columns: int, until: Callable[[bytes], bool]
) -> tuple[int, bytes]:
    """Watch on a pseudo-terminal; Ctrl-C once `until` holds of what it shows. Exit code, output."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        studies.command("watch", "--results", results),
        env=studies.environment(TERM="xterm-256color"), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    shown, left = b"", False
    deadline_s = time.monotonic() + 120
    try:
        while time.monotonic() < deadline_s:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:  # the other side is closed
                    break
            if not left and until(shown):
                os.write(ours, b"\x03")
                left = True
        return process.wait(timeout=30), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
