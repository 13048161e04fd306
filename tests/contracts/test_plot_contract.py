"""What every plot keeps; a new file in tracking/plots is tried from the start."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.tracking.plot_samples import hostile_run, rich_run
from tests.tracking.run_samples import run_data, study, trial_record
from tracking.plots.base import PLOTS, Drawn, draw_all
from tracking.run_data import RunData

_TAGS = re.compile(r"</?b>|<br>|<extra></extra>")


@pytest.fixture(scope="module")
def rich() -> RunData:
    return rich_run()


@pytest.fixture(scope="module")
def hostile() -> RunData:
    return hostile_run()


def drawn_of(name: str, data: RunData) -> Drawn:
    drawn = PLOTS.get(name)().draw(data)
    assert drawn is not None
    return drawn


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a figure with the names that lead to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, path)
    elif isinstance(value, str):
        yield path, value


def test_every_plot_has_a_place_of_its_own() -> None:
    kinds = list(PLOTS.entries().values())
    assert len({kind.position for kind in kinds}) == len(kinds)
    assert [kind.name for kind in kinds] == list(PLOTS.entries())


def test_they_come_in_the_order_of_the_report(rich: RunData) -> None:
    positions = [kind.position for kind, _ in draw_all(rich)]
    assert positions == sorted(positions)
    assert len(positions) == len(PLOTS.names())


def test_a_thousand_trials_stay_small() -> None:
    sizes = [len(json.dumps(one.figure)) for _, one in draw_all(rich_run(1000, 64))]
    assert sum(sizes) < 2_000_000


@pytest.mark.parametrize("name", PLOTS.names())
class TestPlotContract:
    def test_the_figure_is_json_that_plotly_takes(self, name: str, rich: RunData) -> None:
        import plotly.graph_objects as go

        figure = drawn_of(name, rich).figure
        text = json.dumps(figure, allow_nan=False)
        assert set(json.loads(text)) == {"data", "layout"}
        assert json.loads(text) == figure
        go.Figure(figure)

    def test_it_is_of_the_common_look(self, name: str, rich: RunData) -> None:
        layout = drawn_of(name, rich).figure["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
        assert layout["height"] > 0
        assert "title" not in layout

    def test_rows_fit_the_columns(self, name: str, rich: RunData) -> None:
        table = drawn_of(name, rich).table
        assert len(set(table.columns)) == len(table.columns)
        assert table.rows
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(cell is None or isinstance(cell, str | int | float) for cell in row)
            assert all(math.isfinite(cell) for cell in row if isinstance(cell, float))

    def test_the_caption_is_sentences(self, name: str, rich: RunData) -> None:
        caption = drawn_of(name, rich).caption
        assert caption.endswith(".")
        assert "  " not in caption
        assert "None" not in caption
        assert "nan" not in caption.split()

    def test_a_run_that_holds_nothing_has_no_plot(self, name: str) -> None:
        assert PLOTS.get(name)().draw(run_data([])) is None

    def test_runs_that_hold_little_are_no_error(self, name: str) -> None:
        for data in (run_data([trial_record(0)]), study(), rich_run(3)):
            drawn = PLOTS.get(name)().draw(data)
            assert drawn is None or json.dumps(drawn.figure, allow_nan=False)

    def test_texts_of_a_run_are_no_markup(self, name: str, hostile: RunData) -> None:
        for path, text in strings(drawn_of(name, hostile).figure):
            assert "\x1b" not in text
            if path.endswith("dimensions.ticktext"):
                continue  # plotly.js takes no markup there, so that entities would be seen
            assert "<" not in _TAGS.sub("", text), path
            if path.endswith("template"):
                assert "evil" not in text, "a template is no place for texts of a run"

    def test_it_draws_the_same_twice(self, name: str, rich: RunData) -> None:
        assert drawn_of(name, rich) == drawn_of(name, rich)
