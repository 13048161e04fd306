"""What an objective comes to for a prediction: the measurement it would be, read as any other."""

from __future__ import annotations

import math

from runtimes.measurement import PERCENTILES, Distribution, Measurement, percentile_name
from search.objectives.base import OBJECTIVES
from search.perfmodel.study import Forecast
from search.perfmodel.verdict import latency_ms


def goal_value(
    name: str, forecast: Forecast, *, gpu_price_per_hour: float | None = None
) -> float | None:
    """The objective called `name`, in its own unit; None where the model does not tell it.

    Goodput is the rate of all requests where the limits hold, and unknown where they do not.
    """
    value = OBJECTIVES.get(name).value(
        _imagined(forecast), gpus=forecast.prediction.gpus, gpu_price_per_hour=gpu_price_per_hour
    )
    return value if value is not None and math.isfinite(value) else None


def _imagined(forecast: Forecast) -> Measurement:
    prediction = forecast.prediction
    holds = forecast.verdict.excess <= 0
    ttft_ms, e2e_ms = _distribution(forecast, "ttft_ms"), _distribution(forecast, "e2e_ms")
    return Measurement(
        requests_completed=0,
        requests_failed=0,
        duration_s=0.0,
        input_tokens=None,
        output_tokens=None,
        requested_output_tokens=0,
        ttft_ms=ttft_ms,
        tpot_ms=_distribution(forecast, "tpot_ms"),
        itl_ms=_distribution(forecast, "itl_ms"),
        e2e_ms=e2e_ms,
        ttft_scheduled_ms=ttft_ms,
        e2e_scheduled_ms=e2e_ms,
        request_throughput=prediction.request_throughput,
        input_throughput=prediction.total_throughput - prediction.output_throughput,
        output_throughput=prediction.output_throughput,
        total_throughput=prediction.total_throughput,
        goodput=prediction.request_throughput if holds else math.nan,
        slo_attainment=1.0 if holds else None,
    )


def _distribution(forecast: Forecast, metric: str) -> Distribution:
    def at(percentile: float | None) -> float:
        return latency_ms(forecast.prediction, metric, percentile, forecast.load.output_tokens)

    percentiles = {percentile_name(one): at(one) for one in PERCENTILES}
    return Distribution(count=None, mean=at(None), min=None, max=None, **percentiles)
