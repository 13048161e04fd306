"""Inline SVG from element trees, so that every attribute and every text is escaped by construction.

Coordinates are the units of the drawing's view box; colours come from the page's style sheet
through class names, so one palette serves text and drawings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from tracking.words import printable


def drawing(width: float, height: float, title: str) -> Element:
    """An empty drawing that scales with its column; `title` is what a screen reader says."""
    return Element(
        "svg",
        {
            "viewBox": f"0 0 {_n(width)} {_n(height)}",
            "role": "img",
            "aria-label": printable(title),
            "style": f"max-width:{_n(width)}px",
        },
    )


def rect(
    parent: Element, x: float, y: float, width: float, height: float, **attributes: str
) -> Element:
    """A rectangle; never narrower than half a unit, so that short things stay visible."""
    box = {"x": _n(x), "y": _n(y), "width": _n(max(width, 0.5)), "height": _n(height)}
    return SubElement(parent, "rect", {**box, **_names(attributes)})


def line(parent: Element, x1: float, y1: float, x2: float, y2: float, **attributes: str) -> Element:
    ends = {"x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2)}
    return SubElement(parent, "line", {**ends, **_names(attributes)})


def polyline(parent: Element, points: Iterable[tuple[float, float]], **attributes: str) -> Element:
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return SubElement(parent, "polyline", {"points": path, **_names(attributes)})


def label(parent: Element, x: float, y: float, words: str, **attributes: str) -> Element:
    element = SubElement(parent, "text", {"x": _n(x), "y": _n(y), **_names(attributes)})
    element.text = printable(words)
    return element


def tooltip(element: Element, words: str) -> None:
    """What a pointer resting on `element` is told; works without scripts."""
    SubElement(element, "title").text = printable(words)


MARKS = ("circle", "square", "triangle", "diamond")
"""Shapes that tell series apart without colour."""


def mark(
    parent: Element, shape: str, x: float, y: float, size: float, **attributes: str
) -> Element:
    """A point drawn as one of `MARKS`, `size` from its centre to its edge."""
    if shape == "circle":
        centre = {"cx": _n(x), "cy": _n(y), "r": _n(size)}
        return SubElement(parent, "circle", {**centre, **_names(attributes)})
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0.0, -1.1), (1.05, 0.85), (-1.05, 0.85)),
        "diamond": ((0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)),
    }[shape]
    path = " ".join(f"{_n(x + dx * size)},{_n(y + dy * size)}" for dx, dy in corners)
    return SubElement(parent, "polygon", {"points": path, **_names(attributes)})


def text_of(element: Element) -> str:
    """The drawing as markup to stand in an HTML page."""
    return tostring(element, encoding="unicode")


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from `low`..`high` to coordinates `start`..`end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values inside the scale, some `about` of them: steps of 1, 2 or 5 times a power."""
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def horizontal_axis(parent: Element, scale: Scale, top: float, bottom: float, title: str) -> None:
    """Grid lines, figures and a title below; from `top` to `bottom` is the plot."""
    for value in scale.ticks():
        x = scale(value)
        line(parent, x, top, x, bottom, class_="grid")
        label(parent, x, bottom + 16, _tick(value), class_="tick", text_anchor="middle")
    middle = (scale.start + scale.end) / 2
    label(parent, middle, bottom + 36, title, class_="axis", text_anchor="middle")


def vertical_axis(parent: Element, scale: Scale, left: float, right: float, title: str) -> None:
    """Grid lines, figures left of the plot, and a title above it."""
    for value in scale.ticks():
        y = scale(value)
        line(parent, left, y, right, y, class_="grid")
        label(parent, left - 8, y + 4, _tick(value), class_="tick", text_anchor="end")
    label(parent, 0, scale.end - 14, title, class_="axis")


def _round_step(about: float) -> float:
    if about <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * 0.999)


def _tick(value: float) -> str:
    """All digits of a round value and no more: `0.05`, `20`, `1,500`."""
    return f"{value:,.12f}".rstrip("0").rstrip(".")


def _names(attributes: dict[str, str]) -> dict[str, str]:
    """Python's spelling to SVG's: `class_` → `class`, `text_anchor` → `text-anchor`."""
    return {
        name.rstrip("_").replace("_", "-"): printable(value) for name, value in attributes.items()
    }


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
