"""What client, engine and devices say of one trial's deciding stage, as figures side by side."""

from __future__ import annotations

from dataclasses import dataclass

from tracking.records import EngineUse, TrialRecord
from tracking.run_data import RunData
from tracking.samples import deciding_stage


@dataclass(frozen=True, slots=True)
class Evidence:
    """Figures of one trial; None where nobody told them.

    Attributes:
        ttft_s, tpot_s: means that the client measured, seconds.
        decode_s: mean time from a request's first token to its end, as the client saw it, seconds.
        output_throughput: output tokens per second of the whole deployment.
        failed_ratio: failed requests over all.
        use: what the engine said of its work.
        engine_reports: whether it said anything.
        preemptions_per_request: how often a request was put back, on average.
        hit_ratio: share of prompt tokens that the engine found in its prefix cache.
        acceptance_length: tokens per verification of a draft.
        throttled_ratio: of the device that was slowed most.
        communication_ratio: share of a decode step, as predicted.
    """

    trial: int
    gpus: int
    ttft_s: float | None
    tpot_s: float | None
    decode_s: float | None
    output_throughput: float | None
    failed: int
    failed_ratio: float
    use: EngineUse
    engine_reports: bool
    preemptions: float | None
    preemptions_per_request: float | None
    hit_ratio: float | None
    acceptance_length: float | None
    throttled_ratio: float | None
    communication_ratio: float | None


def evidence(data: RunData, trial: TrialRecord) -> Evidence:
    """Everything that is known of why `trial` is as fast as it is."""
    stage = deciding_stage(data, trial)
    measured = trial.measurement
    ttft = measured.ttft_ms.mean / 1e3 if measured and measured.ttft_ms else None
    e2e = measured.e2e_ms.mean / 1e3 if measured and measured.e2e_ms else None
    requests = measured.requests_completed + measured.requests_failed if measured else 0
    failed = measured.requests_failed if measured else 0
    use = (stage.engine_use if stage is not None else None) or EngineUse()
    preemptions = use.preemptions
    if preemptions is None and stage is not None and "preemptions_total" in stage.counters_after:
        before = stage.counters_before.get("preemptions_total", 0.0)
        preemptions = stage.counters_after["preemptions_total"] - before
    throttled = [
        gpu.throttled_ratio
        for gpu in (stage.gpu_use if stage is not None else ())
        if gpu.throttled_ratio is not None
    ]
    return Evidence(
        trial=trial.number,
        gpus=trial.gpus,
        ttft_s=ttft,
        tpot_s=measured.tpot_ms.mean / 1e3 if measured and measured.tpot_ms else None,
        decode_s=e2e - ttft if e2e is not None and ttft is not None else None,
        output_throughput=measured.output_throughput if measured else None,
        failed=failed,
        failed_ratio=failed / requests if requests else 0.0,
        use=use,
        engine_reports=use != EngineUse() or bool(stage is not None and stage.counters_after),
        preemptions=preemptions,
        preemptions_per_request=preemptions / requests
        if preemptions is not None and requests
        else None,
        hit_ratio=stage.observed_hit_rate if stage is not None else None,
        acceptance_length=stage.acceptance_length if stage is not None else None,
        throttled_ratio=max(throttled, default=None),
        communication_ratio=data.communication_ratios.get(trial.number),
    )
