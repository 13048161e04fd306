"""GPU-seconds of a run, from its journal: what drivers held, and what killed attempts used of it.

A driver that was killed is taken to have held its devices until its last event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tracking.events import BundleLost, BundleTaken, Event, Finished, Launched, RunStarted


def capacity(journal: Sequence[tuple[float, Event]]) -> tuple[int, float]:
    """GPUs the last driver held, and GPU-seconds all drivers held them."""
    held: dict[str, int] = {}
    gpu_seconds = 0.0
    last_s = 0.0
    for at_s, event in journal:
        if isinstance(event, RunStarted):
            held = {}
        else:
            gpu_seconds += sum(held.values()) * (at_s - last_s)
        last_s = at_s
        if isinstance(event, BundleTaken):
            held[event.bundle] = len(event.gpu_ids)
        elif isinstance(event, BundleLost):
            held.pop(event.bundle, None)
    return sum(held.values()), gpu_seconds


def rowless_gpu_seconds(
    journal: Sequence[tuple[float, Event]], known: Collection[tuple[int, int]]
) -> float:
    """GPU-seconds of attempts without a row, from launch to the last event of their driver.

    They were killed with it, or run at this moment; one whose row was lost later counts until it
    finished. `known` are the (number, attempt) of rows.
    """
    ends = drivers(journal)
    finished = {
        (event.number, event.attempt): at_s
        for at_s, event in journal
        if isinstance(event, Finished)
    }
    total = 0.0
    for at_s, event in journal:
        if isinstance(event, Launched) and (event.number, event.attempt) not in known:
            last_s = min((end for _, end in ends if end >= at_s), default=at_s)
            end_s = finished.get((event.number, event.attempt), last_s)
            total += len(event.gpu_ids) * (end_s - at_s)
    return total


def drivers(journal: Sequence[tuple[float, Event]]) -> list[tuple[float, float]]:
    """Times of the first and the last event of every driver of the run."""
    spans: list[tuple[float, float]] = []
    for at_s, event in journal:
        if isinstance(event, RunStarted) or not spans:
            spans.append((at_s, at_s))
        spans[-1] = (spans[-1][0], at_s)
    return spans
