"""What a study's own trials teach its predictions: a Bayesian correction with few parameters.

The logarithm of measured over predicted is taken to be a sum of an offset of the study, one of the
engine, a slope over the logarithm of the sequences that run and one over that of the tensor ranks,
and what is left. Each has a normal prior at 0; their variances are shares of the one that the
predictions state, so that the posterior is in closed form (Bishop, Pattern Recognition and Machine
Learning, section 3.3). How much of the posterior mean is applied is chosen by the error of each
trial predicted from the others. Nothing is one of the choices: by that error a correction is never
worse than the predictions themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from search.perfmodel.expected import Estimate

LEAST_PAIRS = 3
"""Trials below which nothing is corrected: predicting one from the others needs two others."""

_STUDY_SHARE = 0.5
_ENGINE_SHARE = 0.2
_SLOPE_SHARE = 0.02
_REST_SHARE = 0.3
"""Of the stated variance, as much as each part of the error is taken to make, before anything was
measured: most of what a model gets wrong of one study is the same in all of its trials."""
_APPLIED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts of the posterior mean that are tried, the least first, which wins a tie."""
_STATED_WORTH = 4.0
"""The stated variance counts like so many trials against those that were measured."""
_Z_90 = 1.6448536269514722
"""Standard deviations from the mean to either end of an interval of 90 %."""

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a prediction was made.

    Attributes:
        engine: name of the engine.
        running: sequences that run at once per replica, above 0.
        tp: ranks that share one layer.
    """

    engine: str
    running: float
    tp: int = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of one trial: predicted and measured, positive, finite and in one unit."""

    setting: Setting
    predicted: Estimate
    measured: float


@dataclass(frozen=True, slots=True)
class Refinement:
    """A correction of one figure.

    Attributes:
        engines: those that have an offset of their own.
        weights: of the parts, as far as they are applied, in the order of `_features`; empty for
            no correction.
        centre: means of the logarithms of running sequences and ranks, from which slopes count.
        spread: standard deviation of what is left, over the one that predictions state.
        held_out: the estimate of each pair that was learnt from, made from the others alone.
    """

    engines: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    centre: tuple[float, float] = (0.0, 0.0)
    spread: float = 1.0
    held_out: tuple[Estimate, ...] = ()

    @property
    def corrects(self) -> bool:
        """False when predictions are left as they are."""
        return any(self.weights)

    def apply(self, setting: Setting, predicted: Estimate) -> Estimate:
        """`predicted` corrected, with the bounds that its own and the study's trials leave."""
        if not self.weights:
            return predicted
        row = _features([setting], self.engines, self.centre)[0]
        return _moved(predicted, float(row @ np.array(self.weights)), self.spread)


def refine(pairs: Sequence[Pair]) -> Refinement:
    """The correction that `pairs` of one figure teach; none from fewer than `LEAST_PAIRS`."""
    predicted = tuple(pair.predicted for pair in pairs)
    if len(pairs) < LEAST_PAIRS:
        return Refinement(held_out=predicted)
    settings = [pair.setting for pair in pairs]
    engines = tuple(sorted({setting.engine for setting in settings}))
    logs = np.array([_logs(setting) for setting in settings])
    centre = (float(logs[:, 0].mean()), float(logs[:, 1].mean()))
    features = _features(settings, engines, centre)
    errors = np.log([pair.measured / pair.predicted.value for pair in pairs])
    stated = np.array([_stated(estimate) for estimate in predicted])
    mean, without = _posterior(features, errors, stated)
    losses = [float(np.abs(errors - part * without).mean()) for part in _APPLIED]
    part = _APPLIED[int(np.argmin(losses))]
    if not part:
        return Refinement(held_out=predicted)
    left = (errors - part * without) / stated
    spread = math.sqrt((_STATED_WORTH + float(left @ left)) / (_STATED_WORTH + len(pairs)))
    weights = tuple(float(value) for value in part * mean)
    found = Refinement(engines, weights, centre, spread)
    shifts = (part * without).tolist()
    held_out = [_moved(one, shift, spread) for one, shift in zip(predicted, shifts, strict=True)]
    return replace(found, held_out=tuple(held_out))


def _posterior(features: _Array, errors: _Array, stated: _Array) -> tuple[_Array, _Array]:
    """The mean of the weights, and what each error is expected to be given all others.

    Leaving one out of a ridge regression is exact in closed form: its residual over 1 − leverage.
    """
    shares = np.full(features.shape[1], _ENGINE_SHARE)
    shares[0], shares[-2:] = _STUDY_SHARE, _SLOPE_SHARE
    prior = shares * float(np.median(stated)) ** 2
    weighted = features / (_REST_SHARE * stated**2)[:, None]
    gain = np.linalg.solve(features.T @ weighted + np.diag(1 / prior), weighted.T)
    mean = gain @ errors
    leverage = np.einsum("ij,ji->i", features, gain)
    return mean, errors - (errors - features @ mean) / (1 - leverage)


def _features(
    settings: Sequence[Setting], engines: tuple[str, ...], centre: tuple[float, float]
) -> _Array:
    """One row each: the study, an engine each, running sequences, ranks."""
    rows = []
    for setting in settings:
        own = [float(setting.engine == engine) for engine in engines]
        slopes = [log - middle for log, middle in zip(_logs(setting), centre, strict=True)]
        rows.append([1.0, *own, *slopes])
    return np.array(rows)


def _logs(setting: Setting) -> tuple[float, float]:
    return math.log(max(setting.running, 1e-3)), math.log(max(setting.tp, 1))


def _stated(estimate: Estimate) -> float:
    """Standard deviation of the logarithm that the bounds stand for, at least 1 %."""
    if not (0 < estimate.low < estimate.high < math.inf):
        return 1.0
    return max(0.01, math.log(estimate.high / estimate.low) / (2 * _Z_90))


def _moved(estimate: Estimate, shift: float, spread: float) -> Estimate:
    """`estimate` times e^shift, its bounds nearer to it, or further from it, by `spread`."""
    value = estimate.value * math.exp(shift)
    half = math.exp(_Z_90 * spread * _stated(estimate))
    return Estimate(value, value / half, value * half)
