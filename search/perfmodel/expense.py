"""How long a trial is expected to hold its GPUs: start, warm-up and stages of load."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.json_types import Json
from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.arrivals import Load as StageLoad
from runtimes.load.max_under_slo import STREAM_REQUESTS, MaxUnderSloProgram
from runtimes.load.program import LoadProgram, SingleStage
from runtimes.load.programs import StagesProgram
from runtimes.load.sweep import SweepProgram
from search.perfmodel.answer import Prediction
from search.perfmodel.demand import Demand
from search.perfmodel.question import Load
from search.perfmodel.study import Forecast, Forecaster

_BARE_START_S = 60.0
_LOADED_BYTES_PER_S = 1e9
"""An engine is taken to start in a minute (imports, compilation, graphs) and the time in which each
of its GPUs reads its weights at 1 GB/s. Assumptions: both depend on disks and caches by far more
than on anything that the model knows."""
_WARM_UP_WAVES = 2
"""Waves of requests of a warm-up that becomes steady as soon as it can."""
_LONG_PROBES = 12
"""Of a search for the highest rate under an SLO, as many as are usual."""


def expected_seconds(
    forecaster: Forecaster,
    forecasts: Sequence[Forecast],
    program: LoadProgram,
    *,
    options: Sequence[dict[str, Json]],
    warmup_requests: int | None,
) -> list[float]:
    """Seconds from the start of each deployment to the end of its last stage.

    `options` are those of each one's engine: a simulation says in them how long it takes to start.
    `warmup_requests` is None for as many as are needed.
    """
    stages = _stages(program)
    predicted = [_each_stage(forecaster, forecasts, stage) for stage in stages]
    found = []
    for index, forecast in enumerate(forecasts):
        mean = forecast.prediction
        total_s = _start_s(mean, options[index]) + _warm_up_s(mean, warmup_requests)
        if stages:
            total_s += sum(
                _stage_s(stage, predicted[place][index], forecaster.demand)
                for place, stage in enumerate(stages)
            )
        else:
            total_s += _searched_s(program, mean)
        found.append(total_s)
    return found


def _stages(program: LoadProgram) -> Sequence[StageLoad]:
    """The stages that are known beforehand; none where they are chosen while they are measured."""
    match program:
        case SingleStage(load=load):
            return (load,)
        case StagesProgram(loads=loads):
            return loads
    return ()


def _each_stage(
    forecaster: Forecaster, forecasts: Sequence[Forecast], stage: StageLoad
) -> list[Prediction]:
    load = forecaster.demand.of_stage(stage)
    if not isinstance(load, Load):
        return [forecast.prediction for forecast in forecasts]
    return forecaster.predictions(
        [forecast.configuration for forecast in forecasts], [load] * len(forecasts)
    )


def _start_s(prediction: Prediction, options: dict[str, Json]) -> float:
    simulated = options.get("startup_s")
    if isinstance(simulated, int | float):
        return float(simulated)
    return _BARE_START_S + prediction.memory.weights / _LOADED_BYTES_PER_S


def _warm_up_s(prediction: Prediction, requests: int | None) -> float:
    waves_s = _WARM_UP_WAVES * _alone_s(prediction)
    if requests is None:
        return waves_s
    return min(waves_s, requests / prediction.request_throughput) if requests else 0.0


def _stage_s(stage: StageLoad, prediction: Prediction, demand: Demand) -> float:
    """Until the last answer, or the first rule that ends the stage."""
    rate = prediction.request_throughput
    if not isinstance(stage, ConcurrencyLoad) and not prediction.stable:
        rate = min(rate, stage.value * demand.per_session)
    lasts_s = stage.requests / rate
    if stage.stop.output_tokens is not None:
        lasts_s = min(lasts_s, stage.stop.output_tokens / demand.output_tokens / rate)
    if stage.stop.duration_s is not None:
        lasts_s = min(lasts_s, stage.stop.duration_s)
    return lasts_s + _alone_s(prediction)


def _searched_s(program: LoadProgram, prediction: Prediction) -> float:
    """Stages that are chosen while they are measured, by how many there usually are."""
    rate = prediction.request_throughput
    match program:
        case MaxUnderSloProgram(requests=requests):
            return _LONG_PROBES * requests / rate + STREAM_REQUESTS * _alone_s(prediction)
        case SweepProgram(requests=requests, points=points):
            # Its rates lie evenly between a single stream's and the highest.
            return points * requests / (rate / 2)
    return 0.0


def _alone_s(prediction: Prediction) -> float:
    """From a request to its last token, without the wait before it is first computed."""
    return max(0.0, prediction.e2e_ms - prediction.waiting_ms) / 1e3
