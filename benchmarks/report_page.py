"""Time and size of the report of a large run, written and opened in headless Chromium.

    python -m benchmarks.report_page [--trials 1000]

Makes up the trials, writes their report, then prints as JSON how large it is, how long writing
takes, after how long a browser has the page and its first plot, and how long it takes to filter and
to sort the table of trials. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.tracking.run_samples import study
from tracking.report import write_report
from tracking.run_data import RunData

_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_FILTER = """() => { const began = performance.now();
const box = document.querySelector('#filters input'); box.value = '8192';
box.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight;
return performance.now() - began; }"""
_SORT = """() => { const began = performance.now();
document.querySelector('#trials th button').click(); document.body.offsetHeight;
return performance.now() - began; }"""


def large_run(trials: int) -> RunData:
    """The sample study over and over, one after another, cut to `trials`."""
    data = study()
    last = data.trials[-1].number + 1
    copies = [
        replace(
            trial,
            number=last * copy + trial.number,
            started_unix_s=(trial.started_unix_s or 0.0) + 1400.0 * copy,
            ended_unix_s=(trial.ended_unix_s or 0.0) + 1400.0 * copy,
            baseline=trial.baseline and not copy,
        )
        for copy in range(math.ceil(trials / last))
        for trial in data.trials
    ]
    return replace(data, trials=tuple(each for each in copies if each.number < trials))


def opened(page_file: Path, browser_path: str) -> dict[str, float]:
    """What a browser takes, in seconds."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=_OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        began = time.monotonic()
        page.goto(page_file.as_uri())
        loaded = time.monotonic()
        page.locator(".plot[data-name]").first.scroll_into_view_if_needed()
        page.wait_for_selector('.plot[data-state="drawn"]')
        drawn = time.monotonic()
        figures = {
            "load_s": loaded - began,
            "first_plot_s": drawn - loaded,
            "filter_s": page.evaluate(_FILTER) / 1e3,
            "sort_s": page.evaluate(_SORT) / 1e3,
        }
        browser.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000)
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs Chromium, which is not on PATH")
    data = large_run(options.trials)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        began = time.monotonic()
        write_report(data, path)
        written = time.monotonic()
        figures = {
            "trials": options.trials,
            "size_mb": path.stat().st_size / 1e6,
            "write_s": written - began,
            **opened(path, browser),
        }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
