"""Measured curves in logarithmic scales, read for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.node_curves import Curve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST = 1e-6
"""Sizes below are read as this: a size of 0 has no logarithm."""


class CurveSet:
    """Piecewise power laws: straight lines between the points in logarithmic scales.

    Args:
        curves: (size, figure) pairs each, sizes ascending, all positive.
        before: slope, in logarithmic scales, left of a curve's first point: 0 is constant,
            1 proportional to the size.
        after: the same right of its last point.
    """

    def __init__(self, curves: Sequence[Curve], *, before: float, after: float) -> None:
        points = max(len(curve) for curve in curves)
        self._points = points
        self._sizes = np.full((points, len(curves)), np.inf)
        self._starts = np.zeros((len(curves), points + 1))
        self._figures = np.zeros((len(curves), points + 1))
        self._slopes = np.zeros((len(curves), points + 1))
        for row, curve in enumerate(curves):
            sizes, figures = np.log2(np.asarray(curve, dtype=np.float64)).T
            count = len(curve)
            self._sizes[:count, row] = sizes
            self._starts[row, : count + 1] = np.concatenate((sizes[:1], sizes))
            self._figures[row, : count + 1] = np.concatenate((figures[:1], figures))
            inner = np.diff(figures) / np.diff(sizes)
            self._slopes[row, : count + 1] = np.concatenate(([before], inner, [after]))

    def __call__(self, row: Ints, size: Floats) -> Floats:
        """The figure of curve number `row` at `size`, for each pair of the two arrays."""
        position = np.log2(np.maximum(size, _LEAST))
        place = row * (self._points + 1)
        for sizes in self._sizes:
            place = place + (position >= sizes[row])
        slope, start = self._slopes.ravel()[place], self._starts.ravel()[place]
        figures: Floats = np.exp2(self._figures.ravel()[place] + slope * (position - start))
        return figures


def rising_time(curve: Curve) -> Curve:
    """A curve of rates, none of which grows faster than its size.

    Where one does, by noise or by rounding, more work would take less time: the smaller size
    gets the rate at which it takes as long as the larger.
    """
    points = list(curve)
    for index in range(len(points) - 2, -1, -1):
        (size, rate), (next_size, next_rate) = points[index], points[index + 1]
        points[index] = (size, max(rate, next_rate * size / next_size))
    return tuple(points)


def moved(curve: Curve, factor: float) -> Curve:
    """A curve of rates by size whose rise comes at sizes smaller by `factor`.

    Only the rise moves: where the rate falls again with size, that stays where it is. A rate
    therefore never falls when `factor` grows. A factor of 1 gives the same curve.
    """
    if factor == 1:
        return curve
    sizes, rates = np.asarray(curve, dtype=np.float64).T
    best = tuple(zip(sizes.tolist(), np.maximum.accumulate(rates).tolist(), strict=True))
    both = CurveSet((curve, best), before=1, after=0)
    # Points that all but coincide are one: a line through two of them would be noise.
    at = np.exp2(np.unique(np.round(np.log2((sizes, sizes / factor)), 6)))
    itself, envelope = np.zeros(len(at), dtype=np.int64), np.ones(len(at), dtype=np.int64)
    figures = both(itself, at) * both(envelope, at * factor) / both(envelope, at)
    return rising_time(tuple(zip(at.tolist(), figures.tolist(), strict=True)))
