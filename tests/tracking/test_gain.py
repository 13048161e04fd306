"""What is said of the gain over engines' defaults, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.failure import Failure, FailureKind
from runtimes.measurement import Interval
from search.analysis.differences import Verdict
from search.trial import TrialState
from tests.tracking.run_samples import measurement, run_data, trial_record
from tracking.gain import Gain
from tracking.records import TrialRecord
from tracking.run_data import Goal
from tracking.summary import Summary, summarise_run

TTFT = Goal("ttft_mean_ms", "minimize")


def trial(
    number: int,
    throughput: float = 2000.0,
    *,
    error: float | None = 0.02,
    engine: str = "vllm",
    baseline: bool = False,
    tpot_ms: float = 20.0,
    flags: tuple[str, ...] = (),
) -> TrialRecord:
    """One whose rates and mean TTFT are known to `error` at 95 %, as a share of them."""
    measured = measurement(output_throughput=throughput, tpot_ms=tpot_ms)
    if error is not None:
        rates = {"goodput": measured.goodput, "request_throughput": measured.request_throughput}
        assert measured.ttft_ms is not None
        intervals = {
            name: Interval(value * (1 - error), value * (1 + error))
            for name, value in {**rates, "ttft_mean_ms": measured.ttft_ms.mean}.items()
        }
        measured = replace(measured, intervals=intervals)
    return trial_record(
        number, measured=measured, engine=engine, baseline=baseline, flags=flags
    )  # fmt: skip


def summary(*trials: TrialRecord) -> Summary:
    return summarise_run(run_data(trials))


def gain(*trials: TrialRecord) -> Gain:
    found = summary(*trials).gain
    assert found is not None
    return found


def test_a_gain_has_its_interval() -> None:
    found = gain(trial(0, baseline=True), trial(1, 2680))
    assert found.ratio == pytest.approx(1.34)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.34 < found.high
    assert found.verdict is Verdict.BETTER
    assert found.words == "1.34× the engine's defaults (trial 0; 1.29–1.39, 99 %)"


def test_a_gain_within_the_noise_is_none() -> None:
    found = gain(trial(0, baseline=True), trial(1, 2020))
    assert found.verdict is Verdict.UNDECIDED
    assert found.words == (
        "no gain over the engine's defaults (trial 0) is shown (0.97–1.05×, 99 %)"
    )


def test_without_an_interval_there_is_only_the_ratio() -> None:
    found = gain(trial(0, baseline=True, error=None), trial(1, 2680))
    assert found.words == "1.34× the engine's defaults (trial 0; no interval)"


def test_less_that_is_better_is_a_gain_above_one() -> None:
    slow, fast = trial(0, baseline=True), trial(1)
    slow = replace(slow, objectives={"ttft_mean_ms": 400.0})
    fast = replace(fast, objectives={"ttft_mean_ms": 200.0})
    found = summarise_run(run_data([slow, fast], goals=[TTFT])).gain
    assert found is not None
    assert found.ratio == pytest.approx(2.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2.0 < found.high
    assert found.verdict is Verdict.BETTER


def test_defaults_that_break_the_slo_give_no_factor_of_goodput() -> None:
    broken = trial(0, 2200, baseline=True, tpot_ms=60.0)
    broken = replace(broken, objectives={"goodput_per_gpu": 0.01})
    found = summary(broken, trial(1, 2000))
    assert found.gain_ratio is None
    assert found.gain is not None
    assert not found.gain.comparable
    assert found.gain.objective == "request_throughput_per_gpu"
    assert found.gain.words == (
        "the engine's defaults (trial 0) break the service-level objective: "
        "tpot p99 ≤ 40 ms (90.0 ms, here 30.0 ms); "
        "request throughput per GPU 0.91× theirs (0.88–0.94, 99 %)"
    )
    assert any("break the service-level objective" in caveat for caveat in found.caveats)


def test_doubtful_defaults_are_not_compared() -> None:
    found = summary(trial(0, baseline=True, flags=("client_limited",)), trial(1, 2680))
    assert found.gain_ratio is None
    assert found.gain is not None
    assert found.gain.doubts == ("client_limited",)
    assert (
        "The engine's defaults (trial 0) could not be compared: the load generator could not keep "
        "up, so the engine may not be the limit." in found.caveats
    )


def test_defaults_that_failed_say_so() -> None:
    failure = Failure(FailureKind.OOM_WEIGHTS, "CUDA out of memory")
    failed = trial_record(0, state=TrialState.INFEASIBLE, failure=failure, baseline=True)
    found = summary(failed, trial(1))
    assert found.gain is None
    assert (
        "The engine's defaults (trial 0) ended infeasible: CUDA out of memory; no gain can be "
        "stated." in found.caveats
    )


def test_the_gain_is_over_the_best_engines_own_defaults() -> None:
    others = [trial(0, 2400, baseline=True), trial(1, 2000, baseline=True, engine="sglang")]
    found = summary(*others, trial(2, 2680, engine="sglang"))
    assert [(each.engine, each.own) for each in found.gains] == [("sglang", True), ("vllm", False)]
    assert found.baseline_trial == 1
    assert found.gain_ratio == pytest.approx(1.34)
    (caveat,) = (words for words in found.caveats if words.startswith("The defaults of vllm"))
    assert caveat == (
        "The defaults of vllm (trial 0) are better than those of sglang: 1.12× the defaults of "
        "vllm (trial 0; 1.08–1.16, 99 %)."
    )


def test_worse_defaults_of_another_engine_are_not_worth_a_word() -> None:
    others = [trial(0, 1500, baseline=True), trial(1, 2000, baseline=True, engine="sglang")]
    found = summary(*others, trial(2, 2680, engine="sglang"))
    assert [each.engine for each in found.gains] == ["sglang"]


def test_defaults_that_nothing_beats_gain_nothing() -> None:
    found = summary(trial(0, baseline=True), trial(1, 1500))
    assert found.gains == ()
    assert found.gain_ratio == 1.0
