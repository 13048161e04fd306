"""The timeline of a run: one row per GPU, one bar per attempt on it, gaps where it was idle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tracking import svg
from tracking.records import TrialRecord
from tracking.run_data import RunData, attaches
from tracking.words import count, duration

_WIDTH = 1120.0
_LEFT = 92.0
_RIGHT = 12.0
_TOP = 8.0
_ROWS_HEIGHT = 720.0
"""Rows shrink once they would take more than this."""
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class _Held:
    """An attempt that held devices from `start_s` to `end_s`, counted from the run's start."""

    trial: TrialRecord
    start_s: float
    end_s: float


def gantt(data: RunData) -> str:
    """The drawing as markup; empty while no attempt held a device."""
    held = _held(data.trials)
    if not held:
        return ""
    devices = sorted({key for item in held for key in _devices(item.trial)}, key=_natural)
    row = min(26.0, max(5.0, _ROWS_HEIGHT / len(devices)))
    bottom = _TOP + row * len(devices)
    never_used = data.capacity_gpus - len(devices)
    height = bottom + (62 if never_used > 0 else 44)
    root = svg.drawing(_WIDTH, height, "Timeline of trials over GPUs")
    scale = svg.Scale(0.0, max(item.end_s for item in held), _LEFT, _WIDTH - _RIGHT)
    _draw_rows(root, devices, row)
    _draw_time(root, scale, bottom)
    rows = {device: _TOP + index * row for index, device in enumerate(devices)}
    for item in held:
        for device in _devices(item.trial):
            _draw_bar(root, item, device, rows[device], row, scale)
    if never_used > 0:
        words = f"and {count(never_used, 'GPU')} that no trial held"
        svg.label(root, _LEFT, bottom + 56, words, class_="tick")
    return svg.text_of(root)


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


def _devices(trial: TrialRecord) -> list[tuple[str, str]]:
    return [(trial.bundle, gpu) for gpu in trial.gpu_ids]


def _natural(device: tuple[str, str]) -> list[tuple[bool, int, str]]:
    """Sorts `gpu10` after `gpu9`."""
    parts = _DIGITS.split("/".join(device))
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _draw_rows(root: Element, devices: Sequence[tuple[str, str]], row: float) -> None:
    every = max(1, round(12 / row))
    for index, (bundle, gpu) in enumerate(devices):
        y = _TOP + index * row
        svg.rect(root, _LEFT, y + 1, _WIDTH - _RIGHT - _LEFT, row - 2, class_="idle")
        if index % every == 0:
            name = f"{bundle}/{gpu}" if bundle else gpu
            shown = name if len(name) <= 13 else f"…{name[-12:]}"
            text = svg.label(
                root, _LEFT - 8, y + row / 2 + 4, shown, class_="tick", text_anchor="end"
            )
            svg.tooltip(text, name)


def _draw_time(root: Element, scale: svg.Scale, bottom: float) -> None:
    unit_s, unit = next(
        (size, name)
        for size, name in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if scale.high >= 3 * size or size == 1
    )
    shown = svg.Scale(0.0, scale.high / unit_s, scale.start, scale.end)
    svg.horizontal_axis(root, shown, _TOP, bottom, f"{unit} since the first trial started")


def _draw_bar(
    root: Element, item: _Held, device: tuple[str, str], y: float, row: float, scale: svg.Scale
) -> None:
    trial = item.trial
    x, end = scale(item.start_s), scale(item.end_s)
    bar = svg.rect(
        root,
        x,
        y + 1,
        end - x,
        row - 2,
        class_=f"bar state-{trial.state.value}",
        data_trial=str(trial.number),
        data_attempt=str(trial.attempt),
        data_device="/".join(device),
    )
    svg.tooltip(bar, _words(item))
    _draw_overhead(root, item, y, row, scale)
    name = str(trial.number)
    if row >= 11 and end - x > 7 * len(name) + 6:
        svg.label(root, (x + end) / 2, y + row / 2 + 4, name, class_="on-bar", text_anchor="middle")


def _draw_overhead(root: Element, item: _Held, y: float, row: float, scale: svg.Scale) -> None:
    """Time before and after measuring is paler: the GPU was held and nothing was measured."""
    trial = item.trial
    if not trial.measure_s:
        return
    before_s = (trial.startup_s or 0.0) + (trial.warmup_s or 0.0)
    measured_from = min(item.start_s + before_s, item.end_s)
    measured_to = min(measured_from + trial.measure_s, item.end_s)
    for start_s, end_s in ((item.start_s, measured_from), (measured_to, item.end_s)):
        if end_s > start_s:
            x = scale(start_s)
            svg.rect(root, x, y + 1, scale(end_s) - x, row - 2, class_="overhead")


def _words(item: _Held) -> str:
    trial = item.trial
    attempt = f", attempt {trial.attempt + 1}" if trial.attempt else ""
    parameters = " ".join(f"{name}={value}" for name, value in trial.params.items())
    return (
        f"trial {trial.number}{attempt}: {trial.state.value}, {count(trial.gpus, 'GPU')}, "
        f"{duration(item.end_s - item.start_s)}\n{trial.engine} {parameters}"
    )
