"""The plots of the report: what stands in the page of each, within the room that there is."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from tracking.plots.base import Cell, Drawn, Figure, Plot, draw_all
from tracking.report_script import json_block
from tracking.run_data import RunData
from tracking.words import count, figure, printable

MAX_CHARACTERS = 5_000_000
"""Room for all plots of a page."""
PREVIEW_ROWS = 12
_DEFAULT_HEIGHT = 450
_WEBGL = frozenset({"parcoords", "splom", "surface"})


@dataclass(frozen=True, slots=True)
class PlotView:
    """One plot.

    Attributes:
        height: of the drawing, pixels.
        payload: `figure` as plotly takes it, with `columns` and `rows` of its table; empty where
            it has no room.
        shaders: whether it is drawn by WebGL.
        has_table: whether the payload has its rows.
        columns, rows: the table's beginning as text, for a reader without scripts.
        left_out: what the page has not of it, and where it is; empty for nothing.
    """

    name: str
    title: str
    caption: str
    height: int
    payload: Markup
    shaders: bool
    has_table: bool
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total_rows: int
    left_out: str


def plot_views(data: RunData, room: int = MAX_CHARACTERS) -> list[PlotView]:
    """Every plot that the run has something for; together not over `room` characters of JSON.

    Figures come before the tables, so that as much as possible can be seen.
    """
    drawn = draw_all(data)
    figures = [json_block(result.figure) for _, result in drawn]
    fits = []
    for text in figures:
        fits.append(len(text) <= room)
        room -= len(text) if fits[-1] else 0
    views = []
    for (plot, result), text, shown in zip(drawn, figures, fits, strict=True):
        rows = json_block(result.table.rows)
        with_rows = shown and len(rows) <= room
        room -= len(rows) if with_rows else 0
        views.append(_view(plot, result, text if shown else None, rows if with_rows else None))
    return views


def _view(plot: type[Plot], result: Drawn, drawing: Markup | None, rows: Markup | None) -> PlotView:
    payload = Markup("")
    if drawing is not None:
        columns = json_block(result.table.columns)
        payload = Markup('{"figure":%s,"columns":%s,"rows":%s}') % (
            drawing, columns, rows or Markup("[]"),
        )  # fmt: skip
    table = result.table
    height = (result.figure.get("layout") or {}).get("height")
    return PlotView(
        name=plot.name,
        title=plot.title,
        caption=printable(result.caption),
        height=int(height) if isinstance(height, int | float) else _DEFAULT_HEIGHT,
        payload=payload,
        shaders=drawing is not None and uses_shaders(result.figure),
        has_table=rows is not None,
        columns=tuple(map(printable, table.columns)),
        rows=tuple(tuple(map(_cell, row)) for row in table.rows[:PREVIEW_ROWS]),
        total_rows=len(table.rows),
        left_out=_left_out(plot, result, drawing is not None, rows is not None),
    )


def uses_shaders(figure: Figure) -> bool:
    """Whether plotly draws any of its traces by WebGL."""
    kinds = {str(trace.get("type", "scatter")) for trace in figure.get("data", ())}
    return bool(kinds & _WEBGL) or any(kind.endswith(("gl", "3d")) for kind in kinds)


def _left_out(plot: type[Plot], result: Drawn, has_figure: bool, has_rows: bool) -> str:
    if has_rows:
        return ""
    rows = f"{count(len(result.table.rows), 'row')} of values"
    what = f"Its {rows} are" if has_figure else f"The plot and its {rows} are"
    return (
        f"{what} too many for this page; `servetune report RUN --files DIR` writes "
        f"{plot.name}.csv and {plot.name}.png."
    )


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return figure(value)
    return printable(str(value))
