"""Make the pictures of the README from a real run of the quickstart, on this machine.

    .venv/bin/python -m docs.make_pictures

Takes about as long as `make quickstart`, and needs Chromium for the picture of the report. Writes
`docs/images/quickstart.svg` and `docs/images/report.png`.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tracking.layout import find_run

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
COLUMNS = 124
FIRST_LINES = 9
"""Lines of progress that are shown before the rest is left out."""
_SUMMARY = re.compile(r"\S+: \d+ \w+(?:, \d+ \w+)*")
# A page that shows the picture must not fetch fonts from elsewhere.
_SVG_FORMAT = re.sub(r"@font-face \{\{.*?\}\}|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
_CHROMIUM_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
)


def run_quickstart(folder: Path) -> str:
    """What `servetune run` prints, with its colours; the run folder is below `folder`/runs."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "run", str(ROOT / "examples/quickstart.yaml")],
        cwd=folder,
        env={
            **os.environ,
            # Where `servetune` is found, commands to paste are called so.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TTY_INTERACTIVE": "0",  # colours, and no line that is drawn over
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=True,
    )
    return done.stdout


def shortened(output: Text) -> Text:
    """The first lines of progress, how many are left out, and the whole of the last screen."""
    lines = output.split("\n", allow_blank=True)
    summary = max(index for index, line in enumerate(lines) if _SUMMARY.fullmatch(line.plain))
    head, left_out, tail = lines[:FIRST_LINES], lines[FIRST_LINES:summary], lines[summary:]
    gap = Text(f"… {len([line for line in left_out if line.plain])} more lines", style="dim")
    return Text("\n").join([Text("$ make quickstart"), *head, gap, Text(), *tail])


def draw_terminal(output: str, path: Path) -> None:
    """`output`, as a terminal shows it, as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(shortened(Text.from_ansi(output)), soft_wrap=False, no_wrap=False)
    svg = console.export_svg(title="servetune", code_format=_SVG_FORMAT, unique_id="quickstart")
    path.write_text(svg, encoding="utf-8")


def photograph(page: Path, picture: Path, browser: str) -> None:
    """The top of an HTML file as PNG."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *_CHROMIUM_OPTIONS,
                f"--user-data-dir={profile}",
                "--window-size=1300,1500",
                "--virtual-time-budget=20000",  # until the plots of the window are drawn
                f"--screenshot={picture}",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            timeout=120,
            check=True,
        )


def main() -> None:
    """Make both pictures."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs Chromium, which is not on PATH")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        output = run_quickstart(Path(folder))
        draw_terminal(output, IMAGES / "quickstart.svg")
        photograph(find_run(Path(folder) / "runs").report, IMAGES / "report.png", browser)


if __name__ == "__main__":
    main()
