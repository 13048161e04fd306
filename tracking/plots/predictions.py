"""Predicted against measured, with the bounds that were to hold nine times of ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tracking.plots._style import (
    GREY,
    Trace,
    figure,
    heading,
    log_axis,
    marker,
    name_keys,
    panels,
    text,
)
from tracking.plots._trials import engine_colours
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.report_predictions import Comparison, comparisons
from tracking.run_data import RunData
from tracking.words import count

_PANELS = {
    "ttft_ms": ("TTFT mean", "ms"),
    "tpot_ms": ("TPOT mean", "ms"),
    "output_throughput": ("output throughput", "tokens/s"),
}
_COLUMNS = (
    "trial", "engine", "gpus", "figure", "unit", "measured", "predicted", "predicted_low",
    "predicted_high", "within_bounds", "refined",
)  # fmt: skip


@PLOTS.register("predictions")
class PredictionsPlot(Plot):
    """A drawing a figure: predictions over what was measured."""

    name = "predictions"
    title = "Predicted against measured"
    position = 90

    def draw(self, data: RunData) -> Drawn | None:
        found = {name: compared for name, compared in comparisons(data).items() if compared}
        if not found:
            return None
        rows = tuple(
            (
                one.trial.number,
                one.trial.engine,
                one.trial.gpus,
                name,
                _PANELS[name][1],
                one.measured,
                one.predicted.value,
                one.predicted.low,
                one.predicted.high,
                one.within,
                one.refined.value,
            )
            for name, compared in found.items()
            for one in compared
        )
        return Drawn(_caption(found), Table(_COLUMNS, rows), _figure(data, found))


def _figure(data: RunData, found: Mapping[str, Sequence[Comparison]]) -> dict[str, Any]:
    colours = engine_colours(data, (one.trial for each in found.values() for one in each))
    layout: dict[str, Any] = {"annotations": [], "height": 440}
    traces: list[Trace] = []
    for place, (domain, (name, compared)) in enumerate(
        zip(panels(len(found)), found.items(), strict=True)
    ):
        at = "" if place == 0 else str(place + 1)
        words, unit = _PANELS[name]
        values = [value for one in compared for value in (one.measured, one.predicted.value)]
        bounds = [v for one in compared for v in (one.predicted.low, one.predicted.high)]
        layout[f"xaxis{at}"] = log_axis(
            f"measured ({unit})", values, domain=domain, anchor=f"y{at}"
        )
        layout[f"yaxis{at}"] = log_axis(
            f"predicted ({unit})" if place == 0 else "", [*values, *bounds], anchor=f"x{at}"
        )
        layout["annotations"].append(heading(words, sum(domain) / 2, 1.01))
        traces.append(_identity(values, place, at))
        for engine, colour in colours.items():
            mine = [one for one in compared if one.trial.engine == engine]
            if mine:
                traces.append(_points(engine, colour, mine, at, unit))
    layout["margin"] = {"l": 64, "r": 24, "t": 72, "b": 56}
    return figure([*traces, *name_keys(colours)], **layout)


def _identity(values: Sequence[float], place: int, at: str) -> Trace:
    ends = [min(values) / 1.15, max(values) * 1.15]
    return {
        "type": "scatter", "mode": "lines", "name": "predicted = measured", "x": ends, "y": ends,
        "xaxis": f"x{at}", "yaxis": f"y{at}", "legendgroup": "identity", "showlegend": place == 0,
        "line": {"color": GREY, "dash": "dot", "width": 1.5}, "hoverinfo": "skip",
    }  # fmt: skip


def _points(engine: str, colour: str, found: Sequence[Comparison], at: str, unit: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": text(engine),
        "legendgroup": text(engine),
        "showlegend": False,
        "x": [one.measured for one in found],
        "y": [one.predicted.value for one in found],
        "xaxis": f"x{at}",
        "yaxis": f"y{at}",
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, one.predicted.high - one.predicted.value) for one in found],
            "arrayminus": [max(0.0, one.predicted.value - one.predicted.low) for one in found],
            "thickness": 1,
            "width": 3,
            "color": colour,
        },
        "marker": marker(
            colour, ["circle" if one.within else "circle-open" for one in found], len(found)
        ),
        "text": [f"trial {one.trial.number}, {count(one.trial.gpus, 'GPU')}" for one in found],
        "hovertemplate": f"%{{fullData.name}} %{{text}}<br>measured %{{x:,.4g}} {unit}"
        f"<br>predicted %{{y:,.4g}} {unit}<extra></extra>",
    }


def _caption(found: Mapping[str, Sequence[Comparison]]) -> str:
    said = []
    for name, compared in found.items():
        error = median(abs(one.error) for one in compared)
        within = sum(one.within for one in compared)
        said.append(
            f"{_PANELS[name][0]} is off by {100 * error:.0f} % in the median, {within} of "
            f"{len(compared)} within their bounds"
        )
    trials = len({one.trial.number for each in found.values() for one in each})
    return (
        f"{count(trials, 'trial')}, with the bounds that were to hold nine times of ten; hollow "
        f"ones lie outside of them. {'; '.join(said)}."
    )
