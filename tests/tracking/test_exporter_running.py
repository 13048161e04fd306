"""Gauges of running trials and totals of engines: what is shown, and for how long."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from runtimes.failure import Failure, FailureKind
from runtimes.slo import Slo, SloLimit
from search.perfmodel.expected import Estimate, Expected
from search.trial import TrialState
from tests.tracking.metric_samples import counts, exporter_of, exposed, request
from tests.tracking.run_samples import measurement, trial_record
from tracking.exporter import PHASES, Exporter
from tracking.live import LiveFigures
from tracking.records import DISQUALIFYING, FLAGS, StageRecord

_SLO = Slo((SloLimit("ttft_ms", "p99", 150.0),))


@pytest.fixture
def exporter() -> Exporter:
    made = exporter_of("vllm", slo=_SLO)
    made.trial_started(3, "vllm", 2)
    return made


def _figures(**changes: float) -> LiveFigures:
    made = LiveFigures(
        number=3, attempt=0, gpus=2, completed=1, failed=0, planned=4, output_tokens_per_s=8.0
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names of fields


def _read(exporter: Exporter) -> dict[str, float]:
    return exposed(exporter.text())


def _openmetrics(exporter: Exporter) -> str:
    body, _ = exporter._render("application/openmetrics-text;version=1.0.0")
    return body.decode()


def test_a_trial_is_in_one_phase_and_its_engine_is_up_while_it_serves(exporter: Exporter) -> None:
    up = []
    for phase in PHASES:
        exporter.phase_entered(3, phase)
        found = _read(exporter)
        series = [name for name in found if name.startswith("servetune_trial_phase{")]
        assert series == [f'servetune_trial_phase{{phase="{phase}",trial="3"}}']
        by_phase = {one: found[f'servetune_trials_by_phase{{phase="{one}"}}'] for one in PHASES}
        assert by_phase == {one: float(one == phase) for one in PHASES}
        up.append(found['servetune_engine_up{engine="vllm",trial="3"}'])
    assert up == [0, 1, 1, 0]


def test_time_in_phases_is_that_of_the_record(exporter: Exporter) -> None:
    for phase in ("warming", "measuring", "warming", "measuring", "stopping"):
        exporter.phase_entered(3, phase)
    exporter.trial_finished(replace(trial_record(3), startup_s=60.0, measure_s=0.0, stop_s=None))
    exporter.trial_finished(replace(trial_record(4), startup_s=30.0, measure_s=None, stop_s=2.5))
    found = _read(exporter)
    series = "servetune_trial_duration_seconds"
    spent_s = {one: found[f'{series}_sum{{phase="{one}"}}'] for one in PHASES}
    attempts = {one: found[f'{series}_count{{phase="{one}"}}'] for one in PHASES}
    warming_s = 2 * (trial_record(3).warmup_s or 0.0)
    assert spent_s == {"starting": 90, "warming": warming_s, "measuring": 0, "stopping": 2.5}
    assert attempts == {"starting": 2, "warming": 2, "measuring": 1, "stopping": 1}


def test_figures_of_the_load_go_when_the_trial_measures_no_more(exporter: Exporter) -> None:
    exporter.phase_entered(3, "measuring")
    exporter.live(_figures(in_flight=64, ttft_mean_ms=250.0, tpot_mean_ms=12.5))
    found = _read(exporter)
    assert found['servetune_trial_requests_in_flight{trial="3"}'] == 64
    assert found['servetune_trial_time_to_first_token_seconds{trial="3"}'] == 0.25
    assert found['servetune_trial_time_per_output_token_seconds{trial="3"}'] == 0.0125
    exporter.live(_figures(in_flight=64))
    assert 'servetune_trial_time_to_first_token_seconds{trial="3"}' not in _read(exporter)
    exporter.phase_entered(3, "stopping")
    assert 'servetune_trial_requests_in_flight{trial="3"}' not in _read(exporter)
    assert 'servetune_trial_gpus{engine="vllm",trial="3"}' in _read(exporter)


def test_a_phase_of_a_trial_that_does_not_run_is_passed_over(exporter: Exporter) -> None:
    exporter.phase_entered(9, "measuring")
    exporter.live(replace(_figures(lag_ms=3.0), number=9))
    assert 'trial="9"' not in exporter.text()
    assert _read(exporter)["servetune_load_generator_lag_seconds_count"] == 0


def test_engine_counters_grow_with_figures_and_end_at_the_record(exporter: Exporter) -> None:
    series = 'servetune_engine_generation_tokens_total{engine="vllm"}'
    shown = []
    for tokens in (1000.0, 1400.0, 1300.0):
        exporter.live(_figures(generation_tokens=tokens))
        shown.append(_read(exporter)[series])
    assert shown == [0, 400, 400]
    before = {"generation_tokens_total": 900.0}
    record = StageRecord(
        "r", 3, 0, 0, "poisson", 8.0, 0.0, 1.0, measurement(), counters_before=before
    )
    done = replace(record, counters_after={"generation_tokens_total": 1650.0})
    exporter.stage_ended("vllm", done)
    assert _read(exporter)[series] == 750
    # The next stage begins with warm-up, which is not counted.
    exporter.live(_figures(generation_tokens=5000.0, stage=1))
    exporter.live(_figures(generation_tokens=5010.0, stage=1))
    assert _read(exporter)[series] == 760
    # Its engine dies: nothing is known after. Another attempt's engine counts from zero.
    exporter.stage_ended("vllm", replace(record, stage=1, counters_after={}))
    exporter.trial_finished(trial_record(3, state=TrialState.FAILED))
    exporter.trial_started(3, "vllm", 2)
    for tokens in (3.0, 10.0):
        exporter.live(_figures(generation_tokens=tokens, attempt=1))
    assert _read(exporter)[series] == 767


def test_lag_and_failed_scrapes_are_counted(exporter: Exporter) -> None:
    for errors in (0, 2, 2):
        exporter.live(_figures(lag_ms=7.0, scrape_errors=errors))
    exporter.live(_figures(stage=1, scrape_errors=1))
    found = _read(exporter)
    assert found["servetune_scrape_errors_total"] == 3
    assert found["servetune_load_generator_lag_seconds_count"] == 3
    assert found['servetune_load_generator_lag_seconds_bucket{le="0.01"}'] == 3


def test_predictions_are_held_against_what_was_measured(exporter: Exporter) -> None:
    def off(value: float) -> Estimate:
        return Estimate(value, value, value)

    measured = measurement(output_throughput=1000.0, ttft_ms=200.0, tpot_ms=20.0)
    assert measured.ttft_ms is not None
    assert measured.tpot_ms is not None
    expected = Expected(
        off(measured.ttft_ms.mean * 1.04), off(measured.tpot_ms.mean * 0.5), off(1900.0), 8.0
    )
    record = replace(trial_record(3), measurement=measured)
    exporter.trial_finished(replace(record, predicted=expected))
    exporter.trial_finished(
        replace(record, number=4, predicted=replace(expected, ttft_ms=off(float("inf"))))
    )
    exporter.trial_finished(replace(record, number=5, predicted=None))
    found = _read(exporter)
    bucket = 'servetune_prediction_error_ratio_bucket{{figure="{}",le="{}"}}'
    assert found[bucket.format("ttft", "0.02")] == 0
    assert found[bucket.format("ttft", "0.05")] == found[bucket.format("ttft", "+Inf")] == 1
    assert found[bucket.format("tpot", "0.3")] == 0
    assert found[bucket.format("tpot", "1.0")] == 2
    assert found[bucket.format("output_throughput", "1.0")] == 2


def test_flags_are_counted_once_an_attempt(exporter: Exporter) -> None:
    for flag in FLAGS:
        assert _read(exporter)[f'servetune_trials_flagged_total{{flag="{flag}"}}'] == 0
    assert DISQUALIFYING < FLAGS
    flagged = replace(trial_record(3), flags=("not_idle", "not_idle", "gpu_throttled"))
    exporter.trial_finished(flagged)
    found = _read(exporter)
    assert found['servetune_trials_flagged_total{flag="not_idle"}'] == 1
    assert found['servetune_trials_flagged_total{flag="gpu_throttled"}'] == 1


def test_what_is_planned_is_absent_until_it_is_known(exporter: Exporter) -> None:
    assert "# TYPE servetune_trials_planned gauge" in exporter.text()
    assert "servetune_trials_planned" not in _read(exporter)
    exporter.planned(60)
    assert _read(exporter)["servetune_trials_planned"] == 60
    exporter.planned(None)
    assert "servetune_trials_planned" not in _read(exporter)


def test_progress_is_an_end_or_a_stage(exporter: Exporter) -> None:
    name = "servetune_last_progress_timestamp_seconds"
    at = [_read(exporter)[name]]
    exporter.requests(3, "vllm", counts(slo=_SLO))
    at.append(_read(exporter)[name])
    exporter.suggested("tpe", 0.1)
    assert _read(exporter)[name] == at[-1]
    exporter.trial_finished(trial_record(3))
    at.append(_read(exporter)[name])
    assert at == sorted(set(at))


def test_exemplars_name_the_trial_and_the_worst_request(exporter: Exporter) -> None:
    found = counts(request(0, ttft_ms=120.0), request(1, ttft_ms=140.0), slo=_SLO)
    exporter.requests(3, "vllm", found)
    failure = Failure(FailureKind.CRASHED, "it crashed")
    exporter.trial_finished(trial_record(3, state=TrialState.FAILED, failure=failure))
    text = _openmetrics(exporter)
    ttft = 'request_time_to_first_token_seconds_bucket{engine="vllm",le="0.15"} 2.0'
    assert f'servetune_{ttft} # {{trial="3"}} 0.14 ' in text
    for counted in ('trial_failures_total{kind="crashed"}', 'requests_total{outcome="ok"}'):
        assert re.search(rf'servetune_{re.escape(counted)} \S+ # {{trial="3"}} ', text), counted
    assert " # {" not in exporter.text()


def test_counts_of_other_buckets_are_refused(exporter: Exporter) -> None:
    other = counts(slo=Slo((SloLimit("ttft_ms", "p99", 151.0),)))
    with pytest.raises(ValueError, match="counts of buckets"):
        exporter.requests(3, "vllm", other)
