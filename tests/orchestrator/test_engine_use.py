"""What an engine did in a stage, from its gauges and its counters."""

from __future__ import annotations

from orchestrator.engine_use import use_of
from runtimes.engines.base import CANONICAL_METRICS
from tests.orchestrator.attempts import attempted, order
from tracking.records import EngineUse, Sample


def sample(metric: str, value: float) -> Sample:
    return Sample(0, 0.0, 0, metric, f"vllm:{metric}", value)


def test_gauges_are_of_the_samples_and_times_of_the_requests_that_finished() -> None:
    assert {
        f"{phase}_{part}_total"
        for phase in ("queue", "prefill", "decode")
        for part in ("seconds", "requests")
    } < set(CANONICAL_METRICS)
    samples = [
        *(sample("kv_cache_usage_ratio", value) for value in (0.2, 0.9, 0.4)),
        *(sample("requests_running", value) for value in (8, 16)),
        *(sample("requests_waiting", value) for value in (0, 3)),
    ]
    before = {"queue_seconds_total": 1.0, "queue_requests_total": 10.0, "preemptions_total": 2.0}
    after = {
        "queue_seconds_total": 4.0, "queue_requests_total": 22.0, "preemptions_total": 5.0,
        "decode_seconds_total": 6.0, "decode_requests_total": 12.0,
        "prefill_seconds_total": 0.0, "prefill_requests_total": 0.0,
    }  # fmt: skip
    assert use_of(samples, before, after) == EngineUse(
        kv_cache_usage_mean=0.5,
        kv_cache_usage_max=0.9,
        requests_running_mean=12,
        requests_waiting_mean=1.5,
        requests_waiting_max=3,
        preemptions=3,
        queue_mean_s=0.25,
        prefill_mean_s=None,
        decode_mean_s=0.5,
    )


def test_nothing_said_is_no_use() -> None:
    assert use_of([], {}, {}) is None
    failed = use_of([sample("requests_running", 2)], {"preemptions_total": 1.0}, {})
    assert failed == EngineUse(requests_running_mean=2)
    assert use_of([sample("lateness_seconds_total", 2)], {}, {}) is None


def test_an_engine_s_own_times_add_up_to_what_the_client_saw() -> None:
    attempt = attempted(order(requests=32, streams=8))
    (stage,) = attempt.stages
    use, measured = stage.record.engine_use, stage.record.measurement
    assert use is not None
    assert use.requests_running_mean is not None
    assert 0 < use.requests_running_mean <= 4
    assert use.preemptions == 0
    assert use.queue_mean_s is not None
    assert use.prefill_mean_s is not None
    assert use.decode_mean_s is not None
    assert min(use.queue_mean_s, use.prefill_mean_s, use.decode_mean_s) > 0
    engine_ms = 1e3 * (use.queue_mean_s + use.prefill_mean_s + use.decode_mean_s)
    assert measured.e2e_ms is not None
    assert engine_ms <= measured.e2e_ms.mean
