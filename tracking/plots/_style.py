"""The one look of all plots: colours, axes, text, and figures as JSON of few digits.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart. Backgrounds are
transparent, and text and grid are of a grey that light and dark pages both carry.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.trial import TrialState
from tracking.words import printable

Trace = dict[str, Any]
"""One trace, or one part of a layout, as plotly.js takes it."""

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8a6d3b")
"""One an engine or a curve."""
STRONG = "#d55e00"
"""Of the best trial and of limits; no engine has it."""
GREY = "#80868f"
GRID = "rgba(128,134,143,0.28)"
FAINT = "rgba(128,134,143,0.45)"
STATE_COLOURS: Mapping[TrialState, str] = {
    TrialState.COMPLETED: "#009e73",
    TrialState.PRUNED: "#56b4e9",
    TrialState.INFEASIBLE: "#e69f00",
    TrialState.FAILED: "#d55e00",
    TrialState.CANCELLED: "#a7a3ad",
    TrialState.RUNNING: "#cc79a7",
    TrialState.QUEUED: "#cc79a7",
}
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "pentagon", "hexagon",
)  # fmt: skip
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_LOG_STEPS = ((1,), (1, 2, 5), (1, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))
_MANY_POINTS = 300
_DIGITS = 5
_TEXT_LENGTH = 80


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, the same in every plot of a run; more than there are repeat."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(sorted(set(names)))}


def symbols_of(counts: Iterable[int]) -> dict[int, str]:
    """A marker for each number of GPUs, fewest first."""
    return {count: SYMBOLS[index % len(SYMBOLS)] for index, count in enumerate(sorted(set(counts)))}


def figure(traces: Iterable[Trace], *, height: int = 420, **layout: Any) -> dict[str, Any]:
    """Traces and a layout as JSON: plain lists, `_DIGITS` significant digits, null for no number.

    `layout` is merged into the common one, key by key at the top.
    """
    common: dict[str, Any] = {
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": GREY},
        "separators": ".,",
        "margin": {"l": 64, "r": 24, "t": 48, "b": 56},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "font": {"size": 12}, "namelength": -1},
        "legend": legend(),
        "colorway": list(COLOURS),
    }
    return {"data": _plain(list(traces)), "layout": _plain({**common, **layout})}


def legend(**more: Any) -> Trace:
    """At the top of the figure, above the drawing, in one or more rows."""
    top = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "top"}
    return {**top, "yref": "container", "bgcolor": "rgba(0,0,0,0)", **more}


def axis(title: str = "", **more: Any) -> Trace:
    """A linear axis with thousands apart; `title` is ours, never a user's."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": GRID,
        "linecolor": FAINT,
        "tickcolor": FAINT,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "separatethousands": True,
        "automargin": True,
        **more,
    }


def log_axis(title: str, values: Iterable[float | None], **more: Any) -> Trace:
    """A logarithmic axis around the positive ones of `values`, with a handful of round ticks."""
    positive = [value for value in values if value is not None and 0 < value < math.inf]
    if not positive:
        return axis(title, type="log", **more)
    low, high = min(positive) / 1.15, max(positive) * 1.15
    shown = _log_ticks(low, high)
    ticks = {"tickvals": shown, "ticktext": [f"{tick:,.6g}" for tick in shown]} if shown else {}
    span = [math.log10(low), math.log10(high)]
    return axis(title, type="log", range=span, tickangle=0, **{**ticks, **more})


def _log_ticks(low: float, high: float) -> list[float]:
    """The coarsest round steps of which at least three lie in the range; else the finest."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in _LOG_STEPS:
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) >= 3:
            break
    return found


def name_axis(names: Sequence[str], title: str = "", **more: Any) -> Trace:
    """A vertical axis with one row a name, the first on top; rows are numbered from 0."""
    shown = [text(name) for name in names]
    ticks = {"tickvals": list(range(len(names))), "ticktext": shown}
    span = [len(names) - 0.4, -0.6]
    return axis(title, **{**ticks, "range": span, "showgrid": False, **more})


def text(value: object, length: int = _TEXT_LENGTH) -> str:
    """`value` as text that plotly shows as it is: no tags, no entities, no control characters.

    Plotly takes some HTML in names, ticks and hover text (`<b>`, `<a href>`).
    """
    return html.escape(plain_text(value, length), quote=False)


def plain_text(value: object, length: int = _TEXT_LENGTH) -> str:
    """The same for the ticks of parallel coordinates, where plotly takes no HTML at all."""
    shown = " ".join(printable(str(value)).split())
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def marker(colour: str, symbols: str | Sequence[str], points: int = 1, **more: Any) -> Trace:
    """Marks of one colour, smaller where there are many; hollow ones have no filling."""
    size = 10 if points <= _MANY_POINTS else 6
    edge = {"width": 2 if points <= _MANY_POINTS else 1.5, "color": colour}
    return {"color": colour, "symbol": symbols, "size": size, "line": edge, **more}


def key(words: str, symbol: str = "circle", colour: str = GREY, **more: Any) -> Trace:
    """An entry of the legend that stands for no points of its own."""
    return {
        "type": "scatter", "mode": "markers", "name": words, "x": [None], "y": [None],
        "marker": marker(colour, symbol), "hoverinfo": "skip", **more,
    }  # fmt: skip


def name_keys(colours: Mapping[str, str]) -> list[Trace]:
    """Entries of the legend for engines, each of which shows and hides the points of its own."""
    return [
        key(text(name), "circle", colour, legendgroup=text(name))
        for name, colour in colours.items()
    ]


def lines(*parts: str) -> str:
    """Lines of hover text, already escaped; empty ones are left out."""
    return "<br>".join(part for part in parts if part)


def panels(count: int, gap: float = 0.08) -> list[list[float]]:
    """Domains of `count` drawings side by side."""
    width = (1 - gap * (count - 1)) / count
    return [[index * (width + gap), index * (width + gap) + width] for index in range(count)]


def heading(words: str, x: float, y: float = 1.0) -> Trace:
    """A caption above one of several drawings, centred at `x`, in the figure's own measure."""
    return {
        "text": words, "x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "center",
        "yanchor": "bottom", "showarrow": False, "font": {"size": 13},
    }  # fmt: skip


def mixed(colour: str, share: float, other: str = GREY) -> str:
    """`share` of `colour` and the rest of `other`, opaque."""
    parts = [
        round(share * int(colour[at : at + 2], 16) + (1 - share) * int(other[at : at + 2], 16))
        for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _rounded(value)
    return value


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
