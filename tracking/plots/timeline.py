"""The timeline of a run: one row a GPU, one bar an attempt on it, gaps where it was idle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search.trial import TrialState
from tracking.plots._style import (
    STATE_COLOURS,
    Trace,
    axis,
    figure,
    lines,
    mixed,
    name_axis,
    text,
)
from tracking.plots._trials import title_words
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import RunData, attaches
from tracking.words import count, duration

_ROWS_HEIGHT = 720
_MOST_LABELS = 32
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
_DIGITS = re.compile(r"(\d+)")
_COLUMNS = (
    "trial", "attempt", "state", "engine", "node", "bundle", "gpu", "start_s", "end_s",
    "startup_s", "warmup_s", "measure_s", "stop_s",
)  # fmt: skip
_LIGHT = (TrialState.PRUNED, TrialState.INFEASIBLE, TrialState.CANCELLED)
"""States whose colour is too light for white numbers."""
_PALE, _MIDDLE = 0.35, 0.65
"""How much of its colour a bar keeps while an engine starts or stops, and while it warms up."""
_NEUTRAL = "#60656e"

Device = tuple[str, str]
"""Bundle and GPU."""


@dataclass(frozen=True, slots=True)
class _Held:
    """An attempt that held devices from `start_s` to `end_s`, counted from the run's start."""

    trial: TrialRecord
    start_s: float
    end_s: float

    @property
    def devices(self) -> list[Device]:
        return [(self.trial.bundle, gpu) for gpu in self.trial.gpu_ids]

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class _Bar:
    """An attempt on rows that lie side by side."""

    held: _Held
    first_row: int
    rows: int


@PLOTS.register("timeline")
class TimelinePlot(Plot):
    """Attempts over GPUs, by time; devices that lie side by side share one bar."""

    name = "timeline"
    title = "Timeline of the GPUs"
    position = 80

    def draw(self, data: RunData) -> Drawn | None:
        held = _held(data.trials)
        if not held:
            return None
        devices = sorted({device for item in held for device in item.devices}, key=_natural)
        rows = tuple(
            (
                item.trial.number,
                item.trial.attempt,
                item.trial.state.value,
                item.trial.engine,
                item.trial.node,
                *device,
                item.start_s,
                item.end_s,
                item.trial.startup_s,
                item.trial.warmup_s,
                item.trial.measure_s,
                item.trial.stop_s,
            )
            for item in held
            for device in item.devices
        )
        drawn = _figure(held, devices)
        return Drawn(_caption(data, held, devices), Table(_COLUMNS, rows), drawn)


def _held(trials: Sequence[TrialRecord]) -> list[_Held]:
    placed = [
        (trial, trial.started_unix_s, trial.ended_unix_s)
        for trial in trials
        if trial.started_unix_s is not None
        and trial.ended_unix_s is not None
        and trial.gpu_ids
        and not attaches(trial.engine)
    ]
    first = min((start for _, start, _ in placed), default=0.0)
    return [_Held(trial, start - first, end - first) for trial, start, end in placed]


def _natural(device: Device) -> list[tuple[bool, int, str]]:
    """Sorts `gpu10` after `gpu9`."""
    parts = _DIGITS.split("/".join(device))
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _bars(held: Sequence[_Held], devices: Sequence[Device]) -> Iterator[_Bar]:
    row_of = {device: row for row, device in enumerate(devices)}
    for item in held:
        rows = sorted(row_of[device] for device in set(item.devices))
        first = 0
        for at in range(1, len(rows) + 1):
            if at == len(rows) or rows[at] != rows[at - 1] + 1:
                yield _Bar(item, rows[first], at - first)
                first = at


def _figure(held: Sequence[_Held], devices: Sequence[Device]) -> dict[str, Any]:
    last_s = max(item.end_s for item in held)
    unit_s, unit = next(one for one in _UNITS if last_s >= 3 * one[0] or one[0] == 1)
    bars = list(_bars(held, devices))
    traces: list[Trace] = []
    for state, colour in STATE_COLOURS.items():
        mine = [bar for bar in bars if bar.held.trial.state is state]
        if mine:
            traces += _state_traces(state, colour, mine, unit_s)
    every = -(-len(devices) // _MOST_LABELS)
    names = ["/".join(part for part in device if part) for device in devices]
    rows = name_axis(names)
    rows["tickvals"], rows["ticktext"] = rows["tickvals"][::every], rows["ticktext"][::every]
    idle = {
        "type": "rect", "layer": "below", "x0": 0, "x1": last_s / unit_s, "y0": -0.5,
        "y1": len(devices) - 0.5, "line": {"width": 0}, "fillcolor": "rgba(128,134,143,0.14)",
    }  # fmt: skip
    return figure(
        [*traces, *_phase_keys()],
        height=round(150 + min(_ROWS_HEIGHT, max(120.0, 26.0 * len(devices)))),
        barmode="overlay",
        xaxis=axis(f"{unit} since the first trial started", range=[0, 1.01 * last_s / unit_s]),
        yaxis={**rows, "range": [len(devices) - 0.45, -0.55]},
        shapes=[idle],
        uniformtext={"mode": "hide", "minsize": 9},
    )


def _state_traces(
    state: TrialState, colour: str, bars: Sequence[_Bar], unit_s: float
) -> list[Trace]:
    """Bars in three layers, palest first, and above them the numbers with what a pointer shows."""

    def layer(shade: str, spans: Sequence[tuple[float, float] | None], **more: Any) -> Trace:
        kept = [(bar, span) for bar, span in zip(bars, spans, strict=True) if span is not None]
        return {
            "type": "bar",
            "orientation": "h",
            "name": state.value,
            "legendgroup": state.value,
            "showlegend": False,
            "base": [start / unit_s for _, (start, _) in kept],
            "x": [(end - start) / unit_s for _, (start, end) in kept],
            "y": [bar.first_row + (bar.rows - 1) / 2 for bar, _ in kept],
            "width": [bar.rows - 0.12 for bar, _ in kept],
            "marker": {"color": shade, "line": {"width": 0}},
            "hoverinfo": "skip",
            **more,
        }

    whole = [(bar.held.start_s, bar.held.end_s) for bar in bars]
    measured = [_measured(bar.held) for bar in bars]
    return [
        layer(_tint(colour, _PALE), whole),
        layer(_tint(colour, _MIDDLE), [_warmup(bar.held) for bar in bars]),
        layer(colour, measured),
        layer(
            "rgba(0,0,0,0)",
            whole,
            text=[str(bar.held.trial.number) for bar in bars],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": [_ink(bar.held) for bar in bars], "size": 11},
            hovertext=[_hover(bar.held) for bar in bars],
            hoverinfo="text",
        ),
        _key(state.value, colour, legendgroup=state.value),
    ]


def _tint(colour: str, share: float) -> str:
    """Lighter in the same hue, on dark pages too, so that what was measured is darkest."""
    return mixed(colour, share, "#ffffff")


def _ink(held: _Held) -> str:
    """Of a number in the middle of its bar: white where that is dark."""
    start, end = _measured(held) or (0.0, 0.0)
    dark = start <= (held.start_s + held.end_s) / 2 <= end and held.trial.state not in _LIGHT
    return "#ffffff" if dark else "#1c2430"


def _measured(held: _Held) -> tuple[float, float] | None:
    trial = held.trial
    if not trial.measure_s:
        return None
    start = min(held.start_s + (trial.startup_s or 0) + (trial.warmup_s or 0), held.end_s)
    return start, min(start + trial.measure_s, held.end_s)


def _warmup(held: _Held) -> tuple[float, float] | None:
    trial = held.trial
    if not trial.warmup_s:
        return None
    start = min(held.start_s + (trial.startup_s or 0), held.end_s)
    return start, min(start + trial.warmup_s, held.end_s)


def _key(words: str, colour: str, **more: Any) -> Trace:
    """An entry of the legend, drawn as a bar that stands nowhere."""
    marker = {"color": colour, "line": {"width": 0}}
    return {
        "type": "bar", "orientation": "h", "name": words, "x": [None], "y": [None],
        "marker": marker, "hoverinfo": "skip", **more,
    }  # fmt: skip


def _phase_keys() -> list[Trace]:
    phases = (("start and stop", _PALE), ("warm-up", _MIDDLE), ("measured", 1.0))
    return [_key(words, _tint(_NEUTRAL, share)) for words, share in phases]


def _hover(held: _Held) -> str:
    trial = held.trial
    phases = [
        f"{words} {duration(seconds)}"
        for words, seconds in (
            ("start", trial.startup_s),
            ("warm-up", trial.warmup_s),
            ("measured", trial.measure_s),
            ("stop", trial.stop_s),
        )
        if seconds
    ]
    attempt = f", attempt {trial.attempt + 1}" if trial.attempt else ""
    reason = trial.failure.message if trial.failure is not None else trial.reason
    return lines(
        title_words(trial),
        f"{trial.state.value}{attempt}, {duration(held.seconds)}",
        ", ".join(phases),
        text(reason),
    )


def _caption(data: RunData, held: Sequence[_Held], devices: Sequence[Device]) -> str:
    last_s = max(item.end_s for item in held)
    busy_s = sum(item.seconds * len(set(item.devices)) for item in held)
    measured_s = sum(
        (end - start) * len(set(item.devices))
        for item in held
        for start, end in [_measured(item) or (0.0, 0.0)]
    )
    share = busy_s / (last_s * len(devices)) if last_s else 0.0
    spare = data.capacity_gpus - len(devices)
    unused = (
        f" {count(spare, 'GPU')} of the study held no trial and are not drawn." if spare > 0 else ""
    )
    return (
        f"{count(len(devices), 'GPU')} over {duration(last_s)}: {100 * share:.0f} % of the time "
        f"held by trials, {100 * measured_s / busy_s if busy_s else 0:.0f} % of that measuring; "
        f"the rest of a bar, paler, is starting, warming up and stopping. Empty is idle.{unused}"
    )
