"""Whether a prediction meets the limits of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtimes.slo import Slo, SloLimit
from search.perfmodel.answer import Prediction

_LAST = 0.999
"""The percentile that stands for the maximum, which has none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a prediction is from the limits.

    Attributes:
        excess: the largest relative excess over a limit; ≤ 0 meets all of them.
        at_best: the same at the faster ends of the intervals.
    """

    excess: float
    at_best: float

    @property
    def standing(self) -> int:
        """0: meets the limits; 1: may meet them, within its interval; 2: breaks them."""
        return 0 if self.excess <= 0 else 1 if self.at_best <= 0 else 2


def verdict_of(prediction: Prediction, output_tokens: float, slo: Slo) -> Verdict:
    """`prediction` of requests of `output_tokens` against `slo`."""
    if not prediction.stable:
        return Verdict(math.inf, math.inf) if slo.limits else Verdict(-math.inf, -math.inf)
    faster = (
        prediction.ttft_interval_ms.low / prediction.ttft_ms,
        prediction.tpot_interval_ms.low / prediction.tpot_ms,
    )
    excess = [_excess(prediction, limit, output_tokens, (1.0, 1.0)) for limit in slo.limits]
    at_best = [_excess(prediction, limit, output_tokens, faster) for limit in slo.limits]
    return Verdict(max(excess, default=-math.inf), max(at_best, default=-math.inf))


def latency_ms(
    prediction: Prediction,
    metric: str,
    percentile: float | None,
    output_tokens: float,
    scale: tuple[float, float] = (1.0, 1.0),
) -> float:
    """The latency `metric` (of `runtimes.slo.LATENCY_METRICS`) in ms, TTFT and TPOT times `scale`.

    Waiting is taken to have an exponential tail, so that its percentile q is its mean times
    −ln(1 − q); all else is taken to be the same for every request, and the gap between tokens to be
    the time per token. A `percentile`, in [0, 100], below that of the mean is the mean, as None is.
    """
    share = 0.0 if percentile is None else min(percentile / 100, _LAST)
    tail = 1.0 if percentile is None else max(1.0, -math.log1p(-share))
    waiting_ms = prediction.waiting_ms
    ttft_ms = (prediction.ttft_ms + (tail - 1.0) * waiting_ms) * scale[0]
    tpot_ms = prediction.tpot_ms * scale[1]
    match metric:
        case "ttft_ms":
            return ttft_ms
        case "e2e_ms":
            return ttft_ms + max(0.0, output_tokens - 1) * tpot_ms
    return tpot_ms


def _excess(
    prediction: Prediction, limit: SloLimit, output_tokens: float, scale: tuple[float, float]
) -> float:
    value = latency_ms(prediction, limit.metric, limit.percentile, output_tokens, scale)
    return value / limit.limit_ms - 1.0
