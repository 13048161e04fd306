"""`servetune report --files`: every plot as a CSV and, where a browser is found, as a PNG."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.orchestrator.run_folders import write_run
from tests.tracking.run_samples import trial_record
from tracking.layout import RunLayout
from tracking.plots.base import PLOTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    trials = [trial_record(0, baseline=True), trial_record(1, goodput_per_gpu=9.5)]
    return write_run(tmp_path / "runs", trials)


def test_both_kinds_are_written_and_named(
    layout: RunLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kaleido", reason="needs kaleido")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs chromium, which is not on PATH")
    folder = tmp_path / "plots"
    assert main(["report", str(layout.root), "--files", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sorted(document["files"]) == sorted(map(str, folder.iterdir()))
    assert (folder / "pareto.csv").read_text("utf-8").startswith("trial,")
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_named_and_the_report_is_there(
    layout: RunLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert main(["report", str(layout.root), "--files", str(tmp_path / "taken")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"servetune: --files {tmp_path / 'taken'}: cannot be written: ")
    assert layout.report.is_file()


def test_every_plot_is_documented() -> None:
    text = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    assert [name for name in PLOTS.names() if f"| `{name}` |" not in text] == []
    assert "`--files DIR`" in text
