"""What one open-loop stage says of whether the SLO holds at its rate."""

from __future__ import annotations

import math

from runtimes.measurement import Distribution, Measurement
from runtimes.slo import SloLimit, SloVerdict

MAX_FAILED = 0.01
"""Share of failed requests beyond which a probe fails: they met no limit, and stand in no
latency."""
MIN_KEPT_UP = 0.5
"""Share of the offered rate that has to come out. A stage below it was over before the engine
could be seen to keep up, however short its latencies were."""
_LEVEL = 0.025
"""One-sided; with it a binomial decision is as sure as one by a confidence interval of 95 %."""


def excess(measurement: Measurement, rate: float) -> float:
    """How far the worst figure is above its limit, as ln(figure / limit); ≤ 0 holds.

    inf where the engine did not keep up with `rate` though the figures so far are within their
    limits, or where one could not be measured.
    """
    worst = max(_excess(verdict) for verdict in measurement.slo)
    return worst if worst > 0 or not _broken_down(measurement, rate) else math.inf


def _excess(verdict: SloVerdict) -> float:
    if verdict.value_ms is None:
        return math.inf
    return math.log(max(verdict.value_ms, 1e-9) / verdict.limit.limit_ms)


def surely_fails(measurement: Measurement, rate: float) -> bool:
    """Whether the SLO does not hold and chance is no explanation.

    A limit surely fails where the confidence interval of its figure lies above it. Where requests
    are too few for an interval, so many of them have to be above the limit as would be by chance
    in one of forty stages at most if the limit held.
    """
    return _broken_down(measurement, rate) or any(
        _surely_broken(measurement, verdict) for verdict in measurement.slo
    )


def _broken_down(measurement: Measurement, rate: float) -> bool:
    """Whether the engine did not keep up, whatever the latencies were until then.

    It did not when a stop rule gave the stage up, requests failed, or less came out than went in:
    by more than the throughput's interval in a stage that never became stationary, or by half.
    """
    total = measurement.requests_completed + measurement.requests_failed
    if measurement.stopped_by in ("hopeless", "error_rate"):
        return True
    if measurement.requests_failed > MAX_FAILED * total:
        return True
    if measurement.request_throughput < MIN_KEPT_UP * rate:
        return True
    steady = measurement.window is None or measurement.window.steady
    interval = measurement.intervals.get("request_throughput")
    return not steady and interval is not None and interval.high < rate


def _surely_broken(measurement: Measurement, verdict: SloVerdict) -> bool:
    limit = verdict.limit
    if verdict.value_ms is None:
        return True
    interval = measurement.intervals.get(f"{limit.metric.removesuffix('_ms')}_{limit.statistic}_ms")
    if interval is not None:
        return interval.low > limit.limit_ms
    values: Distribution | None = getattr(measurement, limit.metric)
    if limit.percentile is None or values is None or verdict.met:
        return False
    above = _share_above(values, limit)
    return _chance(values.count or 0, 1 - limit.percentile / 100, above) < _LEVEL


def _share_above(values: Distribution, limit: SloLimit) -> float:
    """Share of the values above the limit, at least, by the percentiles kept of them."""
    percentiles = ((50, values.p50), (90, values.p90), (95, values.p95), (99, values.p99))
    for percentile, value_ms in percentiles:
        if value_ms is not None and value_ms > limit.limit_ms:
            return 1 - percentile / 100
    return 0.0


def _chance(trials: int, share: float, seen: float) -> float:
    """Bound on the probability of `seen` or a larger share where `share` is true (Chernoff)."""
    if seen <= share:
        return 1.0
    if share <= 0:
        return 0.0
    rest = (1 - seen) * math.log((1 - seen) / (1 - share))
    return math.exp(-trials * (seen * math.log(seen / share) + rest))
