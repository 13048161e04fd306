"""Speed for one user against output of one GPU, each completed trial a point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from search.trial import TrialState
from tracking import svg
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.words import count, figure

_WIDTH = 1120.0
_HEIGHT = 420.0
_LEFT = 72.0
_RIGHT = 24.0
_TOP = 34.0
_BOTTOM = 48.0


@dataclass(frozen=True, slots=True)
class Point:
    """One completed trial.

    Attributes:
        user_tokens_per_s: 1000 / mean time per output token in ms: the speed one user sees.
        gpu_tokens_per_s: output tokens per second and GPU.
        slo_met: whether every limit held.
    """

    trial: TrialRecord
    user_tokens_per_s: float
    gpu_tokens_per_s: float
    slo_met: bool


def points(data: RunData) -> list[Point]:
    """Completed trials with a time per output token, in order of number."""
    found = []
    for trial in data.last_attempts():
        measured = trial.measurement
        if trial.state is not TrialState.COMPLETED or measured is None:
            continue
        if measured.tpot_ms is None or measured.tpot_ms.mean <= 0:
            continue
        if measured.output_throughput is None:
            continue
        user = 1000.0 / measured.tpot_ms.mean
        found.append(Point(trial, user, measured.output_throughput / trial.gpus, measured.slo_met))
    return found


def frontier(found: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in both directions, from the slowest user to the fastest."""
    front: list[Point] = []
    by_speed = sorted(found, key=lambda point: (-point.user_tokens_per_s, -point.gpu_tokens_per_s))
    for point in by_speed:
        if not front or point.gpu_tokens_per_s > front[-1].gpu_tokens_per_s:
            front.append(point)
    return front[::-1]


def engines(found: Sequence[Point]) -> list[tuple[str, str, int]]:
    """Each engine with its mark and its colour's number, in order of name."""
    return engines_of(point.trial for point in found)


def engines_of(trials: Iterable[TrialRecord]) -> list[tuple[str, str, int]]:
    """The same of `trials`."""
    names = sorted({trial.engine for trial in trials})
    return [
        (name, svg.MARKS[index % len(svg.MARKS)], index % 6) for index, name in enumerate(names)
    ]


def scatter(data: RunData) -> str:
    """The drawing as markup; empty while no trial has both figures."""
    found = points(data)
    if not found:
        return ""
    root = svg.drawing(_WIDTH, _HEIGHT, "Tokens per second and user against tokens and GPU")
    bottom = _HEIGHT - _BOTTOM
    across = svg.Scale(0.0, _room([p.user_tokens_per_s for p in found]), _LEFT, _WIDTH - _RIGHT)
    up = svg.Scale(0.0, _room([p.gpu_tokens_per_s for p in found]), bottom, _TOP)
    svg.vertical_axis(root, up, _LEFT, _WIDTH - _RIGHT, "output tokens per second and GPU")
    svg.horizontal_axis(root, across, _TOP, bottom, "output tokens per second and user")
    _draw_frontier(root, frontier(found), across, up)
    styles = {name: (shape, colour) for name, shape, colour in engines(found)}
    best, baseline = data.best(), data.baseline()
    for point in found:
        x, y = across(point.user_tokens_per_s), up(point.gpu_tokens_per_s)
        shape, colour = styles[point.trial.engine]
        _draw_point(root, point, shape, colour, x, y)
        if best is not None and point.trial.number == best.number:
            svg.mark(root, "circle", x, y, 11, class_="ring")
            _draw_note(root, x, y - 8, f"best: trial {best.number}", "note strong")
        elif baseline is not None and point.trial.number == baseline.number:
            _draw_note(root, x, y + 16, f"baseline: trial {baseline.number}", "note")
    return svg.text_of(root)


def _room(values: Sequence[float]) -> float:
    return 1.08 * max(values)


def _draw_frontier(root: Element, front: Sequence[Point], across: svg.Scale, up: svg.Scale) -> None:
    line = [(across(point.user_tokens_per_s), up(point.gpu_tokens_per_s)) for point in front]
    if len(line) > 1:
        svg.polyline(root, line, class_="front")


def _draw_note(root: Element, x: float, y: float, words: str, style: str) -> None:
    """Beside a point, on the side where there is room."""
    near_the_edge = x > 0.85 * _WIDTH
    anchor, offset = ("end", -14.0) if near_the_edge else ("start", 14.0)
    svg.label(root, x + offset, y, words, class_=style, text_anchor=anchor)


def _draw_point(root: Element, point: Point, shape: str, colour: int, x: float, y: float) -> None:
    verdict = "met" if point.slo_met else "missed"
    element = svg.mark(
        root,
        shape,
        x,
        y,
        6,
        class_=f"point engine-{colour} {verdict}",
        data_trial=str(point.trial.number),
    )
    parameters = " ".join(f"{name}={value}" for name, value in point.trial.params.items())
    svg.tooltip(
        element,
        f"trial {point.trial.number}: {point.trial.engine} on {count(point.trial.gpus, 'GPU')}\n"
        f"{figure(point.user_tokens_per_s)} tokens/s/user, "
        f"{figure(point.gpu_tokens_per_s)} tokens/s/GPU\n{parameters}",
    )
