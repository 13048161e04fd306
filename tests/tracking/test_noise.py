"""Trials that the best one only seems to beat."""

from __future__ import annotations

from dataclasses import replace

from runtimes.measurement import Interval
from tests.tracking.run_samples import measurement, run_data, trial_record
from tracking.noise import not_surely_worse
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.summary import summarise_run


def trial(
    number: int,
    throughput: float,
    *,
    error: float | None = 0.02,
    baseline: bool = False,
    flags: tuple[str, ...] = (),
    tpot_ms: float = 20.0,
) -> TrialRecord:
    """One whose goodput is known to `error`, as a share of it, with 95 %."""
    measured = measurement(output_throughput=throughput, tpot_ms=tpot_ms)
    if error is not None:
        bounds = Interval(measured.goodput * (1 - error), measured.goodput * (1 + error))
        measured = replace(measured, intervals={"goodput": bounds})
    return trial_record(number, measured=measured, baseline=baseline, flags=flags)


def alike(*trials: TrialRecord) -> tuple[int, ...]:
    data: RunData = run_data(trials)
    best = data.best()
    assert best is not None
    return not_surely_worse(data, best)


def test_a_lead_beyond_the_intervals_is_one() -> None:
    assert alike(trial(0, 2000), trial(1, 2200)) == ()


def test_a_lead_within_them_is_none() -> None:
    assert alike(trial(0, 2000), trial(1, 2020), trial(2, 1500), trial(3, 1990)) == (0, 3)


def test_of_what_has_no_interval_nothing_is_said() -> None:
    assert alike(trial(0, 2000, error=None), trial(1, 2020)) == ()
    assert alike(trial(0, 2000), trial(1, 2020, error=None)) == ()


def test_only_trials_that_could_have_been_the_best_are_named() -> None:
    doubtful = trial(0, 2010, flags=("client_limited",))
    breaks_the_slo = trial(1, 2015, tpot_ms=60.0)
    assert alike(doubtful, breaks_the_slo, trial(2, 2000)) == ()


def test_the_summary_says_so_and_that_no_gain_is_shown() -> None:
    data = run_data([trial(0, 2000, baseline=True), trial(1, 2020), trial(2, 2010)])
    (caveat,) = summarise_run(data).caveats
    assert caveat == (
        "Its lead in goodput per GPU over trials 0 and 2 is within the noise of the measurements; "
        "trial 0 is the engine's defaults, so that no gain over them is shown."
    )
    alone = run_data([trial(0, 2000, baseline=True), trial(1, 2020)])
    (caveat,) = summarise_run(alone).caveats
    assert caveat.endswith("; it is the engine's defaults, so that no gain over them is shown.")


def test_a_long_list_of_trials_is_cut_and_names_the_engine_whose_defaults_are_in_it() -> None:
    others = [trial(number, 2010) for number in range(2, 21)]
    best = replace(trial(1, 2020), engine="sglang")
    (caveat, *_) = summarise_run(run_data([trial(0, 2000, baseline=True), best, *others])).caveats
    assert "over trials 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 8 more is within" in caveat
    assert "; trial 0 is the defaults of vllm, so" in caveat
