"""Plots as files, by a real browser, and what a page shows of a run with hostile texts."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from runtimes.errors import MissingToolError
from tests.tracking.plot_samples import hostile_run, rich_run
from tests.tracking.run_samples import run_data, trial_record
from tracking.plots.base import Table, draw_all
from tracking.plots.files import csv_text, write_plots, write_pngs
from tracking.plots.plotly_js import plotly_js
from tracking.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
_PNG = b"\x89PNG\r\n\x1a\n"


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, of the header."""
    head = path.read_bytes()[:24]
    assert head.startswith(_PNG)
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def test_csv_holds_the_whole_table() -> None:
    table = Table(("a", "b_ms"), ((None, 1 / 3), (True, 'x,"\n'), (False, 12)))
    rows = list(csv.reader(csv_text(table).splitlines(keepends=True)))
    assert rows == [["a", "b_ms"], ["", str(1 / 3)], ["true", 'x,"\n'], ["false", "12"]]


_FORMULAS = ("=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "--flag 1", "-")
_PLAIN = ("-1.5", "+3", "-1e-9", "a=b", "'x", "é", "")


def test_no_text_of_a_csv_is_a_formula() -> None:
    table = Table(_FORMULAS, (_FORMULAS, (*_PLAIN, -1.5, -2)))
    heading, texts, plain = csv.reader(io.StringIO(csv_text(table), newline=""))
    assert heading == texts == [f"'{text}" for text in _FORMULAS]
    assert plain == [*_PLAIN, "-1.5", "-2"]


@needs_chromium
def test_the_pages_csv_is_that_of_the_files(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    trials = [
        trial_record(number, params={"=cmd|calc": text, "tp": number + 1})
        for number, text in enumerate((*_FORMULAS, *_PLAIN))
    ]
    data = run_data(trials)
    page_path = tmp_path / "report.html"
    write_report(data, page_path)
    written = {kind.name: csv_text(one.table) for kind, one in draw_all(data)}
    assert any("'=cmd|calc" in text and "'--flag 1" in text for text in written.values())
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(page_path.as_uri())
        buttons = page.locator(".plot button.csv")
        assert buttons.count() > 0
        for index in range(buttons.count()):
            with page.expect_download() as saved:
                buttons.nth(index).click()
            name = Path(saved.value.suggested_filename).stem
            shown = Path(saved.value.path()).read_bytes().decode()
            assert _texts(shown) == _texts(written[name]), name
        browser.close()


def _texts(text: str) -> list[list[str]]:
    """Cells of a CSV, numbers in one spelling."""
    return [
        [_one_spelling(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))
    ]


def _one_spelling(cell: str) -> str:
    try:
        return repr(float(cell))
    except ValueError:
        return cell


@needs_chromium
def test_a_drawing_is_replaced_as_a_whole(tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    drawn = draw_all(rich_run(12))[:1]
    path, other = tmp_path / f"{drawn[0][0].name}.png", tmp_path / "other"
    path.write_text("good")
    other.hardlink_to(path)
    assert write_pngs(drawn, tmp_path) == [path]
    assert path.read_bytes().startswith(_PNG)
    assert other.read_text() == "good"
    assert set(tmp_path.iterdir()) == {path, other}


@needs_chromium
def test_every_plot_is_written_as_csv_and_png(tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    data = rich_run(24)
    written = write_plots(data, tmp_path / "plots")
    drawn = draw_all(data)
    names = [kind.name for kind, _ in drawn]
    assert [path.name for path in written] == [
        *(f"{name}.csv" for name in names),
        *(f"{name}.png" for name in names),
    ]
    for kind, one in drawn:
        width, height = png_size(tmp_path / "plots" / f"{kind.name}.png")
        assert width == 2400
        assert height > 2 * one.figure["layout"]["height"]
        with (tmp_path / "plots" / f"{kind.name}.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert tuple(rows[0]) == one.table.columns
        assert len(rows) - 1 == len(one.table.rows)


def test_a_run_that_holds_nothing_writes_nothing(tmp_path: Path) -> None:
    assert write_plots(run_data([]), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("browser", "words"),
    [("/nonexistent", "no Chrome or Chromium was found"), ("/bin/false", "did not start")],
)
def test_without_a_browser_the_csvs_are_written_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: str, words: str
) -> None:
    pytest.importorskip("kaleido")
    monkeypatch.setenv("BROWSER_PATH", browser)
    with pytest.raises(MissingToolError, match=rf"{words}.*servetune\[png\]"):
        write_plots(rich_run(12), tmp_path)
    assert (tmp_path / "pareto.csv").exists()
    assert not list(tmp_path.glob("*.png"))


def test_without_kaleido_the_csvs_are_written_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(MissingToolError, match=r"kaleido is not installed.*servetune\[png\]"):
        write_plots(rich_run(12), tmp_path)
    assert (tmp_path / "timeline.csv").exists()


@needs_chromium
def test_hostile_texts_stay_text_in_a_browser(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    figures = [one.figure for _, one in draw_all(hostile_run())]
    page_path = tmp_path / "page.html"
    figure_json = json.dumps(figures).replace("<", "\\u003c")
    page_path.write_text(
        f"<!doctype html><meta charset=utf-8><script>{plotly_js()}</script><body><script>"
        f"const figures = {figure_json};\n"
        "const place = () => document.body.appendChild(document.createElement('div'));\n"
        "window.drawn = Promise.all("
        "figures.map(one => Plotly.newPlot(place(), one.data, one.layout)))</script>",
        encoding="utf-8",
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        errors: list[str] = []
        requests: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_path.as_uri())
        assert page.evaluate("window.drawn.then(all => all.length)") == len(figures)
        assert page.evaluate("document.querySelectorAll('img, svg a').length") == 0
        assert page.evaluate("window.hit") is None
        browser.close()
    assert errors == []
    assert requests == [page_path.as_uri()]
