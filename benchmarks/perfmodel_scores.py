"""How far predictions are from measurements: errors, intervals, and what a search loses by them.

Pure functions of arrays over rows of measurements; a figure that a row has not is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]
Mask = npt.NDArray[np.bool_]

METRICS = ("ttft", "tpot", "throughput")
_ENDS = (0.05, 0.95)
"""Quantiles at the ends of an interval that holds nine of ten."""
_NARROWEST = (0.95, 1.05)
"""No interval is narrower: identical runs differ by some percent."""
_WIDEST = (0.1, 10.0)
"""None is wider: beyond a factor of ten nothing is said."""
_FEWEST_ROWS = 40
_FEWEST_PAIRS = 3
"""Pairs of model and accelerator from which on the spread of a key is its own: fewer say little
about the next pair."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """Measured over predicted figures, and what belongs together, all [rows].

    Attributes:
        ttft, tpot, throughput: measured over predicted.
        key: whose overheads predicted the row.
        group: rows of one group weigh as much as those of any other, however many.
        pair: model and accelerator.
    """

    ttft: Floats
    tpot: Floats
    throughput: Floats
    key: Names
    group: Names
    pair: Names

    def where(self, mask: Mask) -> Ratios:
        """Those of the rows in `mask`."""
        return Ratios(*(getattr(self, field.name)[mask] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Ratios]) -> Ratios:
        """The rows of `parts` one after another."""
        return cls(*(
            np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)
        ))  # fmt: skip


def spreads(ratios: Ratios, keys: Iterable[str]) -> dict[str, dict[str, list[float]]]:
    """Factors by key and metric between which measured over predicted lies nine times of ten.

    Those of all rows where a key has too few of its own.

    Args:
        ratios: of rows that were predicted by fits which had not seen them.
        keys: those to give spreads for, with rows or without.
    """
    pooled = {metric: _spread(ratios, metric) for metric in METRICS}
    found = {}
    for key in keys:
        own = ratios.where(ratios.key == key)
        found[key] = {
            metric: _spread(own, metric) if _enough(own, metric) else pooled[metric]
            for metric in METRICS
        }
    return found


def _enough(ratios: Ratios, metric: str) -> bool:
    known = np.isfinite(getattr(ratios, metric))
    return bool(known.sum() >= _FEWEST_ROWS and len(set(ratios.pair[known])) >= _FEWEST_PAIRS)


def _spread(ratios: Ratios, metric: str) -> list[float]:
    values = getattr(ratios, metric)
    known = np.isfinite(values)
    low, high = weighted_quantiles(values[known], group_weights(ratios.group[known]), _ENDS)
    power = few_pairs(len(set(ratios.pair[known])))
    low, high = low**power, high**power
    return [
        max(min(low, _NARROWEST[0]), _WIDEST[0]),
        min(max(high, _NARROWEST[1]), _WIDEST[1]),
    ]


def few_pairs(pairs: int) -> float:
    """How much wider an interval is that knows its spread from so many pairs only.

    That of a prediction interval by Student's t over that of a normal distribution: rows of one
    pair are off together, so that pairs count, not rows.
    """
    known = max(pairs, 2)
    quantile = stats.t.ppf(_ENDS[1], known - 1) / stats.norm.ppf(_ENDS[1])
    return float(quantile * np.sqrt(1 + 1 / known))


def group_weights(groups: Names) -> Floats:
    """Weights of rows that add up to 1 in each group."""
    _, at, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weights: Floats = 1.0 / sizes[at]
    return weights


def weighted_quantiles(
    values: Floats, weights: Floats, quantiles: Sequence[float]
) -> tuple[float, ...]:
    """Quantiles of `values`, each in the middle of its share of the sum of `weights`.

    NaN of no values.
    """
    if not len(values):
        return (float("nan"),) * len(quantiles)
    order = np.argsort(values)
    ordered, shares = values[order], weights[order] / weights.sum()
    middles = np.cumsum(shares) - shares / 2
    return tuple(float(each) for each in np.interp(quantiles, middles, ordered))


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors of `n` predictions, 0.1 for 10 %; NaN of none."""

    n: int
    median: float
    mean: float
    p90: float

    @classmethod
    def of(cls, predicted: Floats, measured: Floats) -> Errors:
        """Of the rows that have both figures."""
        both = np.isfinite(predicted) & np.isfinite(measured)
        errors = np.abs(predicted[both] / measured[both] - 1)
        if not len(errors):
            return cls(0, *(float("nan"),) * 3)
        median, p90 = np.quantile(errors, (0.5, 0.9))
        return cls(len(errors), float(median), float(errors.mean()), float(p90))


def regret(predicted: Floats, measured: Floats, top: int = 1) -> float:
    """What is lost of the largest measured value by trying only the `top` best predicted."""
    tried = np.argsort(-predicted, kind="stable")[:top]
    return float(1 - measured[tried].max() / measured.max())


def rank_correlation(predicted: Floats, measured: Floats) -> float:
    """Spearman's coefficient, ties at their mean rank; NaN where all values are equal."""
    both = np.isfinite(predicted) & np.isfinite(measured)
    if len(set(predicted[both])) < 2 or len(set(measured[both])) < 2:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(predicted[both]), stats.rankdata(measured[both]))[0, 1])


def inside(
    ratios: Ratios, spreads_by_key: Mapping[str, Mapping[str, Sequence[float]]], metric: str
) -> Floats:
    """1 where measured over predicted lies between the factors of the row's key, 0 where not.

    NaN where nothing was measured.
    """
    values: Floats = getattr(ratios, metric)
    low, high = np.array([spreads_by_key[key][metric] for key in ratios.key]).T
    return np.where(np.isfinite(values), (values >= low) & (values <= high), np.nan)


def quantile(values: Sequence[float], share: float) -> float:
    """Of the values that are numbers; NaN of none."""
    numbers = np.array(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(np.quantile(numbers, share)) if len(numbers) else float("nan")
