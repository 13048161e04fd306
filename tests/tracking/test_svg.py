"""Drawing primitives: escaped by construction, round ticks."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import svg


@given(st.text())
def test_any_text_is_content_and_never_markup(words: str) -> None:
    root = svg.drawing(10, 10, words)
    svg.label(root, 1, 2, words, data_note=words)
    svg.tooltip(root, words)
    read = ElementTree.fromstring(svg.text_of(root))
    assert [element.tag for element in read] == ["text", "title"]
    assert set(read[0].attrib) == {"x", "y", "data-note"}


@pytest.mark.parametrize(
    ("high", "wanted"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (77.0, [0, 20, 40, 60]),
        (2300.0, [0, 500, 1000, 1500, 2000]),
        (0.003, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003]),
    ],
)
def test_ticks_are_round(high: float, wanted: list[float]) -> None:
    assert svg.Scale(0.0, high, 0, 100).ticks() == pytest.approx(wanted)


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_there_are_always_some_ticks_and_never_many(high: float) -> None:
    ticks = svg.Scale(0.0, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 8
    assert ticks[0] == 0
    assert ticks[-1] <= high * (1 + 1e-6)


def test_a_scale_of_nothing_maps_to_its_start() -> None:
    scale = svg.Scale(0.0, 0.0, 10, 20)
    assert scale(0.0) == 10
    assert scale.ticks() == [0.0]


@pytest.mark.parametrize("shape", svg.MARKS)
def test_marks_are_drawn_around_their_point(shape: str) -> None:
    element = svg.mark(svg.drawing(10, 10, ""), shape, 50, 60, 5)
    if shape == "circle":
        assert (element.attrib["cx"], element.attrib["cy"]) == ("50", "60")
        return
    corners = [tuple(map(float, corner.split(","))) for corner in element.attrib["points"].split()]
    assert min(x for x, _ in corners) < 50 < max(x for x, _ in corners)
    assert min(y for _, y in corners) < 60 < max(y for _, y in corners)
