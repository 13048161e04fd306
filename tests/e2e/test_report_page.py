"""The report in a real browser: drawn, sortable, to be copied from, and silent on the network."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.report_page import large_run
from runtimes.failure import Failure, FailureKind
from search.trial import TrialState
from tests.tracking.run_samples import run_data, study, trial_record
from tracking.plots.base import draw_all
from tracking.plots.files import csv_text
from tracking.report import write_report
from tracking.run_data import RunData

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_HOSTILE = "</script><script>window.hit=1</script><img src=http://x.invalid/ onerror=hit()>{{7*7}}"
_TIMEOUT_MS = 60_000
_MAX_BYTES = 10e6
_TITLES = "buttons => buttons.map(button => button.dataset.title)"
_FILL = "text => getComputedStyle(text).fill"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if _CHROMIUM is None:
        pytest.skip("needs chromium, which is not on PATH")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=_CHROMIUM, args=_OPTIONS)
        yield started
        started.close()


@dataclass
class Opened:
    """A report in a browser, with what it asked for and complained of."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def draw_all(self) -> list[Locator]:
        """Scroll to every plot, as a reader would, until each is drawn."""
        plots = self.page.locator(".plot[data-name]").all()
        for plot in plots:
            plot.scroll_into_view_if_needed()
            handle = plot.element_handle()
            state = "plot => ['drawn', 'failed'].includes(plot.dataset.state)"
            self.page.wait_for_function(state, arg=handle, timeout=_TIMEOUT_MS)
        return plots

    def assert_quiet(self) -> None:
        """Nothing was fetched but the file, and nothing went wrong."""
        assert self.errors == []
        assert self.requests == [self.url]


Open = Callable[..., Opened]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    pages: list[Page] = []

    def show(data: RunData, *, dark: bool = False, scripts: bool = True) -> Opened:
        path = tmp_path / "report.html"
        write_report(data, path)
        context = browser.new_context(
            viewport={"width": 1300, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            accept_downloads=True,
        )
        page = context.new_page()
        pages.append(page)
        shown = Opened(page, path.as_uri())
        page.on("request", lambda request: shown.requests.append(request.url))
        page.on("pageerror", lambda error: shown.errors.append(str(error)))
        page.on(
            "console",
            lambda line: shown.errors.append(line.text) if line.type == "error" else None,
        )
        page.goto(shown.url, timeout=_TIMEOUT_MS)
        return shown

    yield show
    for page in pages:
        page.context.close()


def _hostile() -> RunData:
    failure = Failure(FailureKind.CRASHED, _HOSTILE, remedy=_HOSTILE, log_tail=_HOSTILE)
    trials = [
        replace(
            trial_record(number, engine=_HOSTILE, params={_HOSTILE: f"{_HOSTILE}{number}"}),
            deploy_command=("vllm", "serve", _HOSTILE),
            bundle=_HOSTILE,
            node=_HOSTILE,
            versions={_HOSTILE: _HOSTILE},
        )
        for number in range(3)
    ]
    trials.append(trial_record(3, state=TrialState.FAILED, failure=failure))
    data = run_data(trials, excluded={_HOSTILE: 1})
    return replace(data, name=_HOSTILE, run=_HOSTILE, experiment={_HOSTILE: _HOSTILE})


def test_every_plot_is_drawn_and_nothing_is_fetched(opened: Open) -> None:
    shown = opened(study())
    plots = shown.draw_all()
    assert [plot.get_attribute("data-name") for plot in plots] == [
        kind.name for kind, _ in draw_all(study())
    ]
    for plot in plots:
        assert plot.get_attribute("data-state") == "drawn", plot.get_attribute("id")
        assert "WebGL" not in plot.inner_text(), "the policy lets plotly make its shaders"
        assert plot.locator(".drawing .main-svg").first.is_visible()
    buttons = shown.page.locator(".modebar-btn")
    assert "Zoom in" in buttons.evaluate_all(_TITLES)
    assert not [title for title in buttons.evaluate_all(_TITLES) if "Share" in title], "it uploads"
    shown.assert_quiet()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_and_plots_are_light_or_dark(opened: Open, dark: bool) -> None:
    page = opened(run_data([trial_record(0), trial_record(1)]), dark=dark).page
    tick = page.locator(".plot .xtick text").first
    tick.wait_for(timeout=_TIMEOUT_MS)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    inks = [page.evaluate("getComputedStyle(document.body).color"), tick.evaluate(_FILL)]
    for ink in inks:
        assert (_brightness(ink) > _brightness(back)) == dark, (ink, back)


def _brightness(colour: str) -> int:
    return sum(int(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])


def test_plots_wait_until_they_are_near(opened: Open) -> None:
    shown = opened(study())
    last = shown.page.locator(".plot[data-name]").last
    assert last.get_attribute("data-state") is None
    assert shown.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hostile_texts_do_nothing(opened: Open) -> None:
    shown = opened(_hostile())
    shown.draw_all()
    assert shown.page.evaluate("window.hit") is None
    assert shown.page.locator("img[src^='http']").count() == 0
    assert shown.page.locator("a:not([href^='#'])").count() == 0
    assert shown.page.locator("#answer h1").inner_text() == _HOSTILE
    shown.assert_quiet()


def test_a_table_sorts_by_any_column_and_back(opened: Open) -> None:
    page = opened(study()).page
    numbers = "[...document.querySelectorAll('#trials tbody tr')].map(r => r.cells[0].innerText)"
    original = page.evaluate(numbers)
    heading = page.locator("#trials th", has_text="trial").first
    heading.locator("button").click()
    assert page.evaluate(numbers) == [str(number) for number in range(11, -1, -1)]
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").click()
    assert page.evaluate(numbers) == [str(number) for number in range(12)]
    heading.locator("button").click()
    assert page.evaluate(numbers) == original
    page.locator("#trials th", has_text="TTFT p99").locator("button").click()
    assert page.evaluate(numbers)[0] == "6", "the slowest first, what has none last"


def test_trials_are_filtered_by_state_engine_and_words(opened: Open) -> None:
    page = opened(study()).page
    shown = page.locator("#trials tbody tr:visible")
    count = page.locator("#filters output")
    assert count.inner_text() == "12 of 12"
    page.select_option("#filters select[name=engine]", "sglang")
    assert shown.count() == 2
    page.fill("#filters input", "8192")
    assert (shown.count(), count.inner_text()) == (1, "1 of 12")
    page.select_option("#filters select[name=engine]", "")
    page.fill("#filters input", "")
    page.select_option("#filters select[name=state]", "failed")
    assert shown.count() == 1


def test_the_command_is_copied(opened: Open) -> None:
    shown = opened(study())
    shown.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = shown.page.locator("#command button")
    button.click()
    shown.page.wait_for_function("document.querySelector('#command button').innerText == 'copied'")
    text = shown.page.evaluate("navigator.clipboard.readText()")
    assert text == shown.page.locator("#best-command").inner_text()
    assert text.startswith("vllm serve")


def test_a_plot_is_saved_as_csv_and_png(opened: Open) -> None:
    shown = opened(study())
    (plot, *_) = shown.draw_all()
    (kind, drawn), *_ = draw_all(study())
    with shown.page.expect_download() as saved:
        plot.locator(".csv").click()
    assert saved.value.suggested_filename == f"{kind.name}.csv"
    rows = list(csv.reader(saved.value.path().read_text("utf-8").splitlines()))
    expected = list(csv.reader(csv_text(drawn.table).splitlines()))
    assert rows[0] == expected[0]
    for row, other in zip(rows[1:], expected[1:], strict=True):
        for ours, theirs in zip(row, other, strict=True):
            assert ours == theirs or float(ours) == float(theirs)
    with shown.page.expect_download(timeout=_TIMEOUT_MS) as saved:
        plot.locator(".png").click()
    assert saved.value.suggested_filename == f"{kind.name}.png"
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    assert shown.errors == []


def test_without_scripts_all_but_the_drawings_can_be_read(opened: Open) -> None:
    shown = opened(study(), scripts=False)
    page = shown.page
    assert page.locator("#best-command").is_visible()
    assert page.locator("#trials tbody tr:visible").count() == 12
    assert page.locator("button:visible").count() == 0
    first = page.locator(".plot").first
    assert first.locator("table").is_visible()
    assert "user_tokens_per_s" in first.inner_text()
    shown.assert_quiet()


def test_a_thousand_trials_stay_small_and_usable(opened: Open, tmp_path: Path) -> None:
    shown = opened(large_run(1_000))
    page = shown.page
    assert (tmp_path / "report.html").stat().st_size < _MAX_BYTES
    assert page.locator("#trials tbody tr").count() == 1_000
    page.select_option("#filters select[name=state]", "failed")
    assert page.locator("#filters output").inner_text() == "83 of 1,000"
    page.locator("#trials th", has_text="trial").first.locator("button").click()
    for plot in shown.draw_all():
        assert plot.get_attribute("data-state") == "drawn", plot.get_attribute("id")
    shown.assert_quiet()
