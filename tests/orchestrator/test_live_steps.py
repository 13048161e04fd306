"""Steps of a start, where users see them: the live table, and the file that `status` reads."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.progress import Progress
from orchestrator.cli.status_view import print_status
from orchestrator.live_status import LiveStatusFile, read_live_status
from orchestrator.messages import Phase
from orchestrator.observer import Status
from orchestrator.scheduler import Waiting
from runtimes.plan import Allocation
from search.trial import Params
from tracking.layout import RunLayout
from tracking.run_data import Goal, RunData

TRIAL = Waiting(3, Params("vllm", {"tp": 2}), 2)
DEVICES = Allocation("bundle", "node", ("0", "1"))
STEP = "loading weights, 3 of 8 (38%)"
STATUS = Status(
    elapsed_s=1.0,
    queued=0,
    running=1,
    busy_gpus=2,
    capacity_gpus=8,
    foreign_gpus=0,
    quarantined_gpus=0,
    busy_gpu_seconds=2.0,
    idle_gpu_seconds=6.0,
    counts={},
    best=None,
)


def screen(progress: Progress) -> str:
    console = Console(file=StringIO(), width=160)
    console.print(progress._render())
    output = console.file
    assert isinstance(output, StringIO)
    return output.getvalue()


def test_the_table_shows_the_step_until_the_next_phase() -> None:
    progress = Progress(Console(file=StringIO()))
    progress.launched(TRIAL, DEVICES)
    assert "starting" in screen(progress)
    progress.step(3, 0, STEP)
    progress.step(9, 0, "of a trial that is not there")
    assert STEP in screen(progress)
    progress.step(3, 0, "installing " + "x" * 200)
    assert "xxx" in screen(progress)
    assert "x" * 41 not in screen(progress)
    progress.phase(3, 0, Phase.WARMING, 1.0)
    assert "installing" not in screen(progress)
    assert "warming" in screen(progress)


def test_status_shows_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "status.json"
    data = RunData("run", "name", {}, (Goal("output_throughput", "maximize"),), (), ())

    def shown() -> str:
        live._written_s = 0.0
        live.status(STATUS)
        print_status(data, RunLayout(tmp_path), read_live_status(path), driven=True)
        return capsys.readouterr().out

    live = LiveStatusFile(path, "http://127.0.0.1:1/metrics")
    live.launched(TRIAL, DEVICES)
    live.step(3, 0, STEP)
    live.step(9, 0, "of a trial that is not there")
    assert f"vllm: {STEP}" in shown()
    live.phase(3, 0, Phase.WARMING, 1.0)
    assert STEP not in shown()
