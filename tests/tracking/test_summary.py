"""What a run comes to: the best, its gain, its caveats, and where the GPU time went."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.failure import FailureKind
from search.trial import TrialState
from tests.tracking.run_samples import measurement, out_of_memory, run_data, study, trial_record
from tracking.pareto import pareto_front
from tracking.report import render_report
from tracking.run_data import Goal
from tracking.summary import summarise_run

_SLOW = measurement(tpot_ms=60.0)
"""Breaks the limit on TPOT: p99 90 ms of 40 ms."""


def test_the_best_trial_is_told_with_its_command_and_gain() -> None:
    summary = summarise_run(study())
    assert summary.best is not None
    assert (summary.best.trial, summary.best.engine, summary.best.gpus) == (9, "vllm", 2)
    assert summary.best.command.splitlines() == [
        "vllm serve meta-llama/Llama-3.1-8B \\",
        "  --tensor-parallel-size 2 \\",
        "  --max-num-seqs 256 \\",
        "  --max-num-batched-tokens 16384",
    ]
    assert summary.best.value == pytest.approx(4320 / 256 / 2)
    assert summary.baseline_value == pytest.approx(5150 / 256 / 4)
    assert summary.gain_ratio == pytest.approx((4320 / 2) / (5150 / 4))
    assert summary.slo_met is True
    assert summary.caveats == ()


def test_counts_are_of_trials_and_failures_of_attempts() -> None:
    summary = summarise_run(study())
    assert summary.counts == {
        "completed": 8,
        "infeasible": 1,
        "failed": 1,
        "pruned": 1,
        "cancelled": 1,
    }
    assert summary.attempts == 13
    noted = [(note.trial, note.attempt, note.kind) for note in summary.failures]
    assert noted == [
        (2, 0, FailureKind.GPU_BUSY),
        (3, 0, FailureKind.OOM_WEIGHTS),
        (4, 0, FailureKind.CRASHED),
    ]
    assert summary.failures[1].remedy == "Lower gpu-memory-utilization or raise tp."


def test_flags_are_gathered_with_words() -> None:
    flags = ("request_errors", "zone_flag")
    trials = [
        trial_record(0, measured=measurement(flags=flags), flags=("request_errors",)),
        trial_record(1, goodput_per_gpu=99.0, flags=("zone_flag",)),
    ]
    summary = summarise_run(run_data(trials))
    assert [(item.flag, item.trials) for item in summary.flagged] == [
        ("request_errors", (0,)),
        ("zone_flag", (0, 1)),
    ]
    assert summary.flagged[0].words == "some of its requests failed"
    assert "The best trial is flagged: zone flag." in summary.caveats


def test_a_lossy_best_is_shown_beside_the_best_lossless_one() -> None:
    trials = [
        trial_record(0, goodput_per_gpu=5.0),
        trial_record(1, goodput_per_gpu=9.0, flags=("accuracy_unverified",)),
        trial_record(2, goodput_per_gpu=7.0, gpus=2),
        trial_record(3, goodput_per_gpu=8.0, flags=("accuracy_unverified",)),
    ]
    data = run_data(trials)
    summary = summarise_run(data)
    assert summary.best is not None
    assert summary.lossless is not None
    assert (summary.best.trial, summary.lossless.trial, summary.lossless.gpus) == (1, 2, 2)
    assert summary.lossless.command.startswith("vllm serve meta-llama/Llama-3.1-8B")
    assert data.best_lossless() == trials[2]
    assert (
        "The best trial is flagged: accuracy unverified: its precision may cost accuracy, which "
        "nobody measured." in summary.caveats
    )
    assert "Best without loss of accuracy: trial 2, 2 GPUs" in render_report(data)


def test_a_lossless_best_stands_alone_and_a_lossy_one_says_that_it_does() -> None:
    lossless = summarise_run(run_data([trial_record(0), trial_record(1, goodput_per_gpu=99.0)]))
    assert lossless.lossless is None
    lossy = run_data([trial_record(0, flags=("accuracy_unverified",))])
    summary = summarise_run(lossy)
    assert summary.lossless is None
    words = "No lossless trial was measured that the best one could be held against."
    assert words in summary.caveats
    assert "Best without loss of accuracy" not in render_report(lossy)


def test_a_smaller_value_that_is_better_gains_too() -> None:
    trials = [
        trial_record(0, objectives={"ttft_p99_ms": 400.0}, baseline=True),
        trial_record(1, objectives={"ttft_p99_ms": 100.0}),
    ]
    summary = summarise_run(run_data(trials, goals=[Goal("ttft_p99_ms", "minimize")]))
    assert summary.best is not None
    assert summary.best.trial == 1
    assert summary.gain_ratio == 4.0


def test_a_baseline_of_zero_gives_no_ratio() -> None:
    trials = [
        trial_record(0, objectives={"goodput_per_gpu": 0.0}, baseline=True),
        trial_record(1, objectives={"goodput_per_gpu": 3.0}),
    ]
    summary = summarise_run(run_data(trials))
    assert summary.baseline_value == 0.0
    assert summary.gain_ratio is None


def test_idle_time_is_what_no_attempt_held() -> None:
    trials = [
        trial_record(0, gpus=2, start_s=0, seconds=100),
        trial_record(1, gpus=4, start_s=50, seconds=150),
    ]
    summary = summarise_run(run_data(trials, capacity_gpus=8))
    assert summary.busy_gpu_seconds == 2 * 100 + 4 * 150
    assert summary.idle_gpu_seconds == 8 * 200 - 800
    assert summary.started_unix_s is not None
    assert summary.ended_unix_s == summary.started_unix_s + 200


def test_what_killed_attempts_held_is_busy_time() -> None:
    data = run_data([trial_record(0, gpus=2, seconds=100)], capacity_gpus=4)
    summary = summarise_run(replace(data, capacity_gpu_seconds=400.0, rowless_gpu_seconds=150.0))
    assert (summary.busy_gpu_seconds, summary.idle_gpu_seconds) == (350.0, 50.0)


def test_idle_time_is_never_negative() -> None:
    trials = [trial_record(0, gpus=4, seconds=100)]
    assert summarise_run(run_data(trials, capacity_gpus=0)).idle_gpu_seconds == 0.0
    overstated = replace(trials[0], gpu_seconds=5000.0)
    assert summarise_run(run_data([overstated], capacity_gpus=4)).idle_gpu_seconds == 0.0


def test_a_best_that_breaks_the_slo_says_by_how_much() -> None:
    summary = summarise_run(run_data([trial_record(0, measured=_SLOW, baseline=True)]))
    assert summary.slo_met is False
    assert summary.caveats[0] == (
        "No trial meets the service-level objective; trial 0 breaks it least "
        "(tpot p99 ≤ 40 ms, measured 90 ms)."
    )


def test_a_simulated_best_and_a_missing_baseline_are_caveats() -> None:
    summary = summarise_run(run_data([trial_record(0, simulated=True)]))
    assert summary.simulated
    assert any(words.startswith("Found on a simulated engine") for words in summary.caveats)
    assert any("no gain can be stated" in words for words in summary.caveats)


def test_random_weights_in_the_command_are_a_caveat() -> None:
    data = study()
    dummy = replace(data, experiment={**data.experiment, "weights": "dummy"})
    added = set(summarise_run(dummy).caveats) - set(summarise_run(data).caveats)
    assert len(added) == 1
    assert "random weights" in added.pop()


def test_a_baseline_that_breaks_the_slo_is_a_caveat() -> None:
    trials = [trial_record(0, measured=_SLOW, baseline=True), trial_record(1)]
    summary = summarise_run(run_data(trials))
    (caveat,) = summary.caveats
    assert caveat == (
        "The engine's defaults (trial 0) break the service-level objective: tpot p99 ≤ 40 ms "
        "(90.0 ms, here 30.0 ms); request throughput per GPU 1.00× theirs."
    )
    assert summary.gain_ratio is None


def test_a_run_that_was_killed_says_how_to_go_on() -> None:
    summary = summarise_run(run_data([trial_record(0, baseline=True)], ended=""))
    (caveat,) = summary.caveats
    assert "servetune resume demo-20260101T000000Z-abcd" in caveat


def test_how_to_go_on_names_the_folder_that_the_run_was_read_from() -> None:
    data = replace(run_data([], ended=""), folder="/data/my runs/demo", unread_trials=1)
    killed, unread, _ = summarise_run(data).caveats
    assert "`servetune resume '/data/my runs/demo'` goes on" in killed
    assert "`servetune resume '/data/my runs/demo'` measure" in unread


def test_without_a_measurement_there_is_no_best() -> None:
    failed = trial_record(0, state=TrialState.FAILED, failure=out_of_memory())
    for trials in ([], [failed]):
        summary = summarise_run(run_data(trials))
        assert summary.best is None
        assert summary.gain_ratio is None
        assert summary.slo_met is None
        assert "no configuration to recommend" in summary.caveats[-1]


def test_the_pareto_front_is_counted_when_there_are_several_goals() -> None:
    goals = [Goal("goodput_per_gpu", "maximize"), Goal("ttft_p99_ms", "minimize")]
    figures = [(4.0, 300.0), (3.0, 200.0), (3.0, 250.0), (5.0, 300.0), (5.0, 300.0)]
    trials = [
        trial_record(number, objectives={"goodput_per_gpu": goodput, "ttft_p99_ms": ttft})
        for number, (goodput, ttft) in enumerate(figures)
    ]
    assert summarise_run(run_data(trials, goals=goals)).pareto_trials == (1, 3, 4)
    assert summarise_run(run_data(trials)).pareto_trials == ()


def test_trials_that_break_the_slo_leave_the_front_to_those_that_meet_it() -> None:
    slow = trial_record(0, measured=_SLOW, objectives={"goodput_per_gpu": 9.0})
    good = trial_record(1, objectives={"goodput_per_gpu": 2.0})
    assert [trial.number for trial in pareto_front(run_data([slow, good]))] == [1]
    assert [trial.number for trial in pareto_front(run_data([slow]))] == [0]
