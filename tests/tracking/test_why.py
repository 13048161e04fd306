"""Why trials lost: what the figures of engine, client and devices support, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.measurement import Interval, Measurement
from tests.tracking.run_samples import measurement, run_data, trial_record
from tracking.reasons import Cause
from tracking.records import EngineUse, GpuUse, StageRecord, TrialRecord
from tracking.run_data import RunData
from tracking.why import Loss, Role, losses


def measured(
    throughput: float, *, ttft_ms: float = 200.0, tpot_ms: float = 20.0, error: float = 0.02
) -> Measurement:
    found = measurement(output_throughput=throughput, ttft_ms=ttft_ms, tpot_ms=tpot_ms)
    bounds = Interval(found.goodput * (1 - error), found.goodput * (1 + error))
    return replace(found, intervals={"goodput": bounds})


def stage(
    trial: TrialRecord,
    use: EngineUse | None = None,
    *,
    gpu_use: tuple[GpuUse, ...] = (),
    hits: float | None = None,
) -> StageRecord:
    assert trial.measurement is not None
    return StageRecord(
        run=trial.run,
        number=trial.number,
        attempt=0,
        stage=0,
        load="poisson",
        load_value=4.0,
        started_unix_s=0.0,
        ended_unix_s=60.0,
        measurement=trial.measurement,
        engine_use=use,
        gpu_use=gpu_use,
        observed_hit_rate=hits,
    )


BEST = trial_record(1, measured=measured(2000), gpus=2)
CALM = EngineUse(
    kv_cache_usage_mean=0.5,
    kv_cache_usage_max=0.62,
    requests_running_mean=30.0,
    requests_waiting_mean=0.2,
    requests_waiting_max=3.0,
    preemptions=0.0,
    queue_mean_s=0.05,
    prefill_mean_s=0.12,
    decode_mean_s=5.1,
)


def worse(**figures: float) -> TrialRecord:
    found = measured(1640, **figures)
    return trial_record(7, measured=found, gpus=2)


def loss_of(
    trial: TrialRecord,
    use: EngineUse | None,
    best_use: EngineUse | None = CALM,
    communication: Mapping[int, float] | None = None,
) -> Loss:
    data = run_data([BEST, trial])
    data = replace(
        data,
        stages=(stage(BEST, best_use), stage(trial, use)),
        communication_ratios=communication or {},
    )
    (found,) = losses(data, BEST)
    return found


def causes(found: Loss) -> list[Cause]:
    return [reason.cause for reason in found.reasons]


def test_queueing_is_followed_by_the_full_cache_behind_it() -> None:
    use = replace(
        CALM, queue_mean_s=1.9, kv_cache_usage_max=0.99, preemptions=412.0, requests_waiting_mean=9
    )
    found = loss_of(worse(ttft_ms=2400), use)
    assert causes(found) == [Cause.QUEUEING, Cause.KV_CACHE]
    assert found.role is Role.RUNNER_UP
    assert found.words == (
        "trial 7, the runner-up, breaks ttft p99 ≤ 500 ms (3,600 ms): "
        "requests waited 1.90 s of 2.40 s TTFT in the engine (trial 1: 50.0 ms of 200 ms TTFT); "
        "its KV cache was 99 % full, 412 preemptions (trial 1: 62 %, none)"
    )
    assert found.reasons[1].figures["preemptions"] == (412.0, 0.0)


def test_requests_that_wait_while_the_cache_has_room_name_the_batch_limit() -> None:
    use = replace(CALM, queue_mean_s=0.45, requests_running_mean=8.0, requests_waiting_mean=22.0)
    found = loss_of(worse(ttft_ms=600), use)
    assert causes(found) == [Cause.QUEUEING, Cause.BATCH_LIMIT]
    assert "worked on 8.00 requests at once while 22.0 waited" in found.words


def test_a_longer_prefill_is_told_with_the_prefix_hits_it_lacks() -> None:
    slow = worse(ttft_ms=600)
    longer = replace(CALM, prefill_mean_s=0.5)
    stages = (stage(BEST, CALM, hits=0.58), stage(slow, longer, hits=0.12))
    (found,) = losses(replace(run_data([BEST, slow]), stages=stages), BEST)
    assert causes(found) == [Cause.PREFILL, Cause.PREFIX_HITS]
    assert "12 % of the prompt tokens were in its prefix cache (trial 1: 58 %)" in found.words


def test_slower_tokens_are_told_with_preemptions() -> None:
    use = replace(CALM, preemptions=80.0)
    found = loss_of(worse(tpot_ms=25.0), use)
    assert causes(found) == [Cause.DECODE, Cause.PREEMPTION]
    assert "each output token took 25.0 ms (trial 1: 20.0 ms)" in found.words
    assert "80 preemptions (trial 1: none)" in found.words


def test_a_device_that_was_held_down_is_named() -> None:
    slow = worse(tpot_ms=25.0)
    hot = (GpuUse("0", throttled_ratio=0.4), GpuUse("1", throttled_ratio=0.1))
    cool = (GpuUse("0", throttled_ratio=0.0), GpuUse("1"))
    stages = (stage(BEST, CALM, gpu_use=cool), stage(slow, CALM, gpu_use=hot))
    (found,) = losses(replace(run_data([BEST, slow]), stages=stages), BEST)
    assert causes(found) == [Cause.DECODE, Cause.THROTTLING]


def test_more_gpus_that_do_not_pay_are_told_with_what_they_say_to_each_other() -> None:
    wide = trial_record(7, measured=measured(2600, tpot_ms=15.0), gpus=4)
    found = loss_of(wide, CALM, communication={1: 0.12, 7: 0.31})
    assert causes(found) == [Cause.GPU_COUNT, Cause.COMMUNICATION]
    assert "4 GPUs gave 1.30× the output tokens per second that trial 1 got of 2" in found.words
    assert "communication is 31 % of a decode step (trial 1: 12 %), as predicted" in found.words


def test_more_gpus_that_make_requests_wait_name_that_before_what_is_predicted() -> None:
    wide = trial_record(7, measured=measured(1500, ttft_ms=330, tpot_ms=22.0), gpus=4)
    use = replace(CALM, queue_mean_s=0.9)
    found = loss_of(wide, use, communication={1: 0.12, 7: 0.31})
    assert causes(found) == [Cause.GPU_COUNT, Cause.QUEUEING]


def test_failed_requests_come_first() -> None:
    slow = worse(tpot_ms=25.0)
    assert slow.measurement is not None
    failing = replace(slow, measurement=replace(slow.measurement, requests_failed=12))
    found = loss_of(failing, CALM)
    assert causes(found)[0] is Cause.FAILED_REQUESTS
    assert "12 requests failed, 3 % of all (trial 1: 0 %)" in found.words


def test_only_the_part_of_a_request_whose_limit_broke_is_looked_at() -> None:
    """TTFT is longer too, but met its limit."""
    use = replace(CALM, queue_mean_s=0.15)
    found = loss_of(worse(ttft_ms=300, tpot_ms=60.0), use)
    assert [verdict.limit.metric for verdict in found.unmet] == ["tpot_ms"]
    assert causes(found) == [Cause.DECODE]


def test_a_record_without_engine_figures_says_what_the_client_saw() -> None:
    found = loss_of(worse(ttft_ms=600), None, None)
    assert causes(found) == [Cause.FIRST_TOKEN]
    assert "first tokens took 600 ms (trial 1: 200 ms)" in found.words


def test_a_phase_that_hardly_makes_a_request_longer_explains_nothing() -> None:
    assert causes(loss_of(worse(ttft_ms=300), replace(CALM, queue_mean_s=0.15))) == []


def test_what_nothing_explains_is_said_to_be_so() -> None:
    assert loss_of(worse(), CALM).words.endswith(": nothing that was reported explains it")
    bare = loss_of(worse(), None, None)
    assert bare.reasons == ()
    assert bare.words.endswith(": the engine reported nothing that would explain it")


def test_within_the_noise_no_reason_is_given() -> None:
    alike = trial_record(7, measured=measured(1980, tpot_ms=25.0), gpus=2)
    found = loss_of(alike, replace(CALM, preemptions=80.0))
    assert found.within_noise
    assert found.reasons == ()
    assert found.words == (
        "trial 7, the runner-up: no difference shown, 1 % less goodput per GPU (−5 % to +3 %, 99 %)"
    )


def test_the_best_that_is_surely_worse_stands_for_a_runner_up_within_the_noise() -> None:
    alike = trial_record(2, measured=measured(1980), gpus=2)
    doubtful = trial_record(3, measured=measured(1900), gpus=2, flags=("client_limited",))
    lost = trial_record(4, measured=measured(1700), gpus=2)
    found = losses(run_data([BEST, alike, doubtful, lost]), BEST)
    assert [(each.trial, each.role) for each in found] == [(4, Role.BEYOND_NOISE)]
    assert found[0].words.startswith("trial 4, the best that is surely worse, lost, ")
    (only,) = losses(run_data([BEST, alike, doubtful]), BEST)
    assert (only.trial, only.role) == (2, Role.RUNNER_UP)
    assert losses(run_data([BEST, doubtful]), BEST) == ()


def test_the_defaults_are_told_once() -> None:
    defaults = trial_record(0, measured=measured(1500), gpus=2, baseline=True)
    second = trial_record(4, measured=measured(1700), gpus=2)
    found = losses(run_data([defaults, BEST, second]), BEST)
    assert [(each.trial, each.role) for each in found] == [
        (4, Role.RUNNER_UP),
        (0, Role.BASELINE),
    ]
    assert found[1].words.startswith("trial 0, the engine's defaults, lost, 25 % less goodput")
    assert [each.trial for each in losses(run_data([defaults, BEST]), BEST)] == [0]


FIGURES = st.one_of(st.none(), st.floats(0, 5))
SHARES = st.one_of(st.none(), st.floats(0, 1))
USES = st.builds(
    EngineUse,
    kv_cache_usage_max=SHARES,
    requests_running_mean=FIGURES,
    requests_waiting_mean=FIGURES,
    preemptions=FIGURES,
    queue_mean_s=FIGURES,
    prefill_mean_s=FIGURES,
)


@given(ours=st.none() | USES, theirs=st.none() | USES, ttft_ms=st.floats(100, 5000))
def test_every_reason_has_both_figures_and_the_worse_is_worse(
    ours: EngineUse | None, theirs: EngineUse | None, ttft_ms: float
) -> None:
    trial = worse(ttft_ms=ttft_ms, tpot_ms=24.0)
    data: RunData = run_data([BEST, trial])
    data = replace(data, stages=(stage(BEST, theirs), stage(trial, ours)))
    (found,) = losses(data, BEST)
    assert len(found.reasons) <= 2
    assert len(set(causes(found))) == len(found.reasons)
    for reason in found.reasons:
        worst, best = next(iter(reason.figures.values()))
        assert worst is not None
        assert best is not None
        assert (worst < best) == (reason.cause in (Cause.PREFIX_HITS, Cause.BATCH_LIMIT))
        assert "None" not in reason.words
        assert "nan" not in reason.words


@pytest.mark.parametrize("use", [None, EngineUse(), CALM])
def test_words_never_break(use: EngineUse | None) -> None:
    assert loss_of(worse(tpot_ms=22.0), use, None).words
