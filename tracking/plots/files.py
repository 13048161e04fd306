"""The plots of a run as files: a CSV of every value drawn, and a PNG."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtimes.errors import MissingToolError
from tracking.files import write_atomically
from tracking.plots.base import Cell, Drawn, Plot, Table, draw_all
from tracking.run_data import RunData

_WIDTH = 1200
_SCALE = 2
"""Pixels of the file to one of the drawing."""
_MISSING = (
    "no PNG of the plots was written, only CSV: {}. Install kaleido (pip install 'servetune[png]') "
    "and Chrome or Chromium (apt install chromium; BROWSER_PATH names another one)."
)
_INK = "#1c2430"
_TITLE_HEIGHT = 44
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a cell a formula (OWASP, "CSV Injection")."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def write_plots(data: RunData, folder: Path) -> list[Path]:
    """Write NAME.csv and NAME.png of every plot that the run has something for into `folder`.

    Returns:
        the files written, in the order of the report. A run without anything to draw writes none.

    Raises:
        MissingToolError: kaleido or a browser is missing; the CSVs are written all the same.
        OSError: the disk refused.
    """
    drawn = draw_all(data)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, one in drawn:
        path = folder / f"{kind.name}.csv"
        write_atomically(path, csv_text(one.table).encode(errors="replace"))
        written.append(path)
    if drawn:
        written += write_pngs(drawn, folder)
    return written


def csv_text(table: Table) -> str:
    """RFC 4180 with a heading; full precision, `true` and `false`, empty where unknown.

    Text that a spreadsheet would run as a formula stands behind an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell(column) for column in table.columns])
    writer.writerows([_cell(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def write_pngs(drawn: Sequence[tuple[type[Plot], Drawn]], folder: Path) -> list[Path]:
    """Write NAME.png of each of `drawn` into `folder`, all by one browser, without network.

    Each is complete under its name, or what was there stays.

    Raises:
        MissingToolError: kaleido or a browser is missing, or the browser does not start.
        OSError: the disk refused.
    """
    try:
        import kaleido
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError
    except ImportError:
        raise MissingToolError(_MISSING.format("kaleido is not installed")) from None
    options = {"format": "png", "width": _WIDTH, "scale": _SCALE}
    offline = {"mathjax": False}  # it would come from a CDN; plotly.js is the installed package's
    names = [f"{kind.name}.png" for kind, _ in drawn]
    try:
        with tempfile.TemporaryDirectory() as made:
            figures = [
                {"fig": picture(kind, one), "path": Path(made, name), "opts": options}
                for (kind, one), name in zip(drawn, names, strict=True)
            ]
            kaleido.write_fig_from_object_sync(figures, kopts=offline, cancel_on_error=True)
            for name in names:
                write_atomically(folder / name, Path(made, name).read_bytes())
    except ChromeNotFoundError:
        raise MissingToolError(_MISSING.format("no Chrome or Chromium was found")) from None
    except (BrowserClosedError, BrowserFailedError) as error:
        raise MissingToolError(
            _MISSING.format("the browser that was found did not start")
        ) from error
    return [folder / name for name in names]


def picture(kind: type[Plot], one: Drawn) -> Mapping[str, Any]:
    """The figure on white paper, under its title and without buttons."""
    layout = dict(one.figure["layout"])
    layout.pop("updatemenus", None)
    height = layout["height"] + _TITLE_HEIGHT
    layout |= {
        "height": height,
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {**layout["font"], "color": _INK},
        "margin": {**layout["margin"], "t": layout["margin"]["t"] + _TITLE_HEIGHT},
        "legend": {**layout["legend"], "y": 1 - _TITLE_HEIGHT / height},
        "title": {
            "text": f"<b>{kind.title}</b>",
            "font": {"size": 18},
            "x": 0.01,
            "xanchor": "left",
            "y": 1 - 8 / height,
            "yanchor": "top",
            "yref": "container",
        },
    }
    return {"data": one.figure["data"], "layout": layout}


def _cell(cell: Cell) -> str | int | float:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    formula = isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell
