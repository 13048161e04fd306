"""A made-up run of any size that every plot has something to show of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from runtimes.measurement import Distribution, Interval, Measurement
from search.perfmodel.expected import Estimate, Expected
from search.trial import TrialState
from tests.tracking.run_samples import measurement, out_of_memory, run_data, trial_record
from tracking.records import EngineUse, StageRecord, TrialRecord
from tracking.run_data import Goal, RunData

GOALS = (Goal("goodput_per_gpu", "maximize"), Goal("tpot_p99_ms", "minimize"))
LOADS = (8.0, 16.0, 32.0, 64.0)
HOSTILE = "<img src=x onerror=\"window.hit=1\"><a href='http://evil.example'>%{x}</a>&lt;\x1b[2J"
_SPEED = {"vllm": 1.0, "sglang": 1.1, "tensorrt_llm": 1.2}
_TIMEOUT = Failure(FailureKind.START_TIMEOUT, "not ready within 600 s")


def rich_run(trials: int = 40, gpus: int = 16, seed: int = 1) -> RunData:
    """Three engines on nodes of 8 GPUs; one trial in seven is not measured; four loads each."""
    draw = Random(seed)
    free = [0.0] * gpus
    records: list[TrialRecord] = []
    stages: list[StageRecord] = []
    for number in range(trials):
        tp = draw.choice((1, 2, 4, 8))
        first = min(range(0, gpus - tp + 1, tp), key=lambda at: max(free[at : at + tp]))
        start, seconds = max(free[first : first + tp]), draw.uniform(60, 400)
        free[first : first + tp] = [start + seconds + draw.uniform(0, 30)] * tp
        trial = trial_record(
            number,
            engine=draw.choice(tuple(_SPEED)),
            gpus=tp,
            gpu_ids=[str(at % 8) for at in range(first, first + tp)],
            start_s=start,
            seconds=seconds,
            baseline=number == 0,
        )
        trial = replace(trial, bundle=f"node-{first // 8}", params=_params(draw, trial.engine, tp))
        if number and number % 7 == 0:
            records.append(_unmeasured(draw, trial))
            continue
        trial, own = _measured(draw, trial)
        records.append(trial)
        stages += own
    data = run_data(records, goals=GOALS, capacity_gpus=gpus)
    return replace(data, stages=tuple(stages))


def hostile_run() -> RunData:
    """The same with markup and control characters in every text that an engine or a user gives."""
    data = rich_run(trials=24)
    trials = []
    for trial in data.trials:
        failure = trial.failure
        trials.append(
            replace(
                trial,
                engine=trial.engine + HOSTILE,
                params={HOSTILE + key: f"{HOSTILE}{own}" for key, own in trial.params.items()},
                bundle=HOSTILE + trial.bundle,
                node=HOSTILE,
                reason=HOSTILE,
                flags=(HOSTILE,),
                failure=failure and replace(failure, message=HOSTILE, remedy=HOSTILE),
            )
        )
    return replace(data, trials=tuple(trials))


def _params(draw: Random, engine: str, tp: int) -> Mapping[str, Json]:
    own: dict[str, Json] = (
        {"chunked-prefill-size": draw.randrange(512, 16384, 16)}
        if engine == "sglang"
        else {"max-num-seqs": draw.choice((64, 128, 256))}
    )
    return {"tp": tp, "schedule": draw.choice(("lpm", "fcfs")), **own}


def _unmeasured(draw: Random, trial: TrialRecord) -> TrialRecord:
    state, failure = draw.choice(
        (
            (TrialState.FAILED, _TIMEOUT),
            (TrialState.INFEASIBLE, out_of_memory()),
            (TrialState.PRUNED, None),
            (TrialState.CANCELLED, None),
        )
    )
    return replace(
        trial,
        state=state,
        failure=failure,
        reason="" if failure else "TTFT p99 far above its limit",
        measurement=None,
        objectives={},
        deciding_stage=None,
        warmup_s=None,
        measure_s=None,
    )


def _measured(draw: Random, trial: TrialRecord) -> tuple[TrialRecord, list[StageRecord]]:
    speed = 1500 * trial.gpus**0.8 * _SPEED[trial.engine] * draw.gauss(1, 0.05)
    tpot_ms, ttft_ms = 30 / trial.gpus**0.5 * draw.gauss(1, 0.03), draw.uniform(100, 350)
    stages = []
    for stage, load in enumerate(LOADS):
        share = load / LOADS[-1]
        measured = _figures(
            speed * (1 - (1 - share) ** 2),
            ttft_ms * (0.3 + 0.7 * share**2),
            tpot_ms * (0.4 + 0.6 * share),
        )
        stages.append(
            StageRecord(
                trial.run,
                trial.number,
                trial.attempt,
                stage,
                "concurrency",
                load,
                0.0,
                1.0,
                measured,
                engine_use=_use(draw, share, load),
            )
        )
    last = stages[-1].measurement
    assert last.tpot_ms is not None
    goodput = last.goodput / trial.gpus
    expected = Expected(
        _estimate(draw, ttft_ms), _estimate(draw, tpot_ms), _estimate(draw, speed), 4.0
    )
    completed = replace(
        trial,
        measurement=last,
        objectives={"goodput_per_gpu": goodput, "tpot_p99_ms": last.tpot_ms.p99},
        deciding_stage=len(LOADS) - 1,
        predicted=expected,
    )
    return completed, stages


def _figures(speed: float, ttft_ms: float, tpot_ms: float) -> Measurement:
    made = measurement(output_throughput=speed, ttft_ms=ttft_ms, tpot_ms=tpot_ms)
    ttft, tpot = _distribution(ttft_ms), _distribution(tpot_ms)
    verdicts = tuple(
        replace(verdict, value_ms=(ttft if verdict.limit.metric == "ttft_ms" else tpot).p99)
        for verdict in made.slo
    )
    return replace(
        made,
        ttft_ms=ttft,
        tpot_ms=tpot,
        itl_ms=_distribution(tpot_ms * 1.02),
        e2e_ms=_distribution(255 * tpot_ms + ttft_ms),
        slo=verdicts,
        intervals={"goodput": Interval(made.goodput * 0.97, made.goodput * 1.03)},
    )


def _distribution(mean: float) -> Distribution:
    return Distribution(
        400, mean, p50=mean * 0.95, p90=mean * 1.3, p95=mean * 1.4, p99=mean * 1.6, max=mean * 2.5,
        p0_1=mean * 0.5, p1=mean * 0.55, p5=mean * 0.62, p10=mean * 0.68, p25=mean * 0.8,
        p75=mean * 1.12, p99_9=mean * 2.2, min=mean * 0.48,
    )  # fmt: skip


def _use(draw: Random, share: float, load: float) -> EngineUse:
    return EngineUse(
        kv_cache_usage_mean=0.4 * share,
        kv_cache_usage_max=min(1.0, share * draw.uniform(0.6, 1.1)),
        requests_running_mean=load * 0.9,
        requests_waiting_mean=max(0.0, draw.gauss(2, 3)),
        requests_waiting_max=load * 0.2,
        preemptions=float(max(0, round(draw.gauss(-5, 10)))),
        queue_mean_s=abs(draw.gauss(0, 0.05)),
        prefill_mean_s=0.1,
        decode_mean_s=3.0,
    )


def _estimate(draw: Random, value: float) -> Estimate:
    found = value * draw.gauss(1, 0.12)
    return Estimate(found, found * 0.8, found * 1.25)
