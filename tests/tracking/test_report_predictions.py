"""Predicted against measured in the report: errors by engine, refined ones, and silence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from search.perfmodel.expected import Estimate, Expected
from search.trial import TrialState
from tests.tracking.run_samples import measurement, run_data, trial_record
from tracking.records import TrialRecord
from tracking.report import render_report
from tracking.report_predictions import comparisons, predictions_view


def estimate(value: float) -> Estimate:
    return Estimate(value, value * 0.8, value * 1.25)


def predicted_trial(number: int, *, factor: float, engine: str = "vllm") -> TrialRecord:
    """A trial measured `factor` times as slow as predicted, in every figure."""
    tpot_ms = 10.0 + number
    rate = 4000.0 / (1 + number)
    record = trial_record(
        number,
        engine=engine,
        measured=measurement(
            ttft_ms=100.0 * factor, tpot_ms=tpot_ms * factor, output_throughput=rate / factor
        ),
    )
    expected = Expected(estimate(100.0), estimate(tpot_ms), estimate(rate), 4.0 + number)
    return replace(record, predicted=expected)


def test_a_study_without_predictions_shows_nothing() -> None:
    data = run_data([trial_record(0), trial_record(1)])
    assert predictions_view(data) is None
    assert 'id="predictions"' not in render_report(data)


def test_errors_are_of_the_prediction_and_medians_by_engine() -> None:
    trials = [predicted_trial(number, factor=1.25) for number in range(3)]
    trials += [predicted_trial(number, factor=1.0, engine="sglang") for number in (3, 4)]
    view = predictions_view(run_data(trials))
    assert view is not None
    by_name = {row.engine: row for row in view.engines}
    assert [row.trials for row in view.engines] == [2, 3]
    assert [cells[0] for cells in by_name["sglang"].figures] == ["0.0 %"] * 3
    assert [cells[0] for cells in by_name["vllm"].figures] == ["20 %", "20 %", "25 %"]
    first = next(row for row in view.trials if row.trial == 0)
    assert first.figures[1] == ("10.0 ± 22 %", "12.5", "−20 %")


def test_a_common_bias_is_gone_after_refinement() -> None:
    found = comparisons(run_data([predicted_trial(n, factor=1.2) for n in range(10)]))
    for compared in found.values():
        assert len(compared) == 10
        for one in compared:
            assert abs(one.refined_error) < abs(one.error) / 4


@pytest.mark.parametrize(
    "left_out",
    [
        replace(predicted_trial(1, factor=1.0), state=TrialState.FAILED, measurement=None),
        replace(predicted_trial(1, factor=1.0), flags=("not_idle",)),
        replace(predicted_trial(1, factor=1.0), predicted=None),
    ],
    ids=["failed", "doubtful", "not-predicted"],
)
def test_what_cannot_be_compared_is_left_out(left_out: TrialRecord) -> None:
    found = comparisons(run_data([predicted_trial(0, factor=1.0), left_out]))
    assert {one.trial.number for compared in found.values() for one in compared} == {0}


def test_a_load_that_was_predicted_to_be_too_much_has_no_error_in_ttft() -> None:
    trial = predicted_trial(0, factor=1.0)
    assert trial.predicted is not None
    endless = Estimate(math.inf, math.inf, math.inf)
    view = predictions_view(
        run_data([replace(trial, predicted=replace(trial.predicted, ttft_ms=endless))])
    )
    assert view is not None
    assert view.trials[0].figures[0] == ("–", "–", "–")
    assert view.trials[0].figures[1][2] == "+0 %"


def test_the_report_shows_them_trial_by_trial() -> None:
    page = render_report(run_data([predicted_trial(number, factor=1.1) for number in range(4)]))
    section = page.partition('id="predictions"')[2].partition("</section>")[0]
    assert "Errors of the predictions" in section
    assert section.partition("Trial by trial")[2].count('<td class="engine">vllm</td>') == 4


def test_the_report_says_how_many_are_left_out_and_why() -> None:
    doubtful = [
        replace(predicted_trial(1, factor=1.0), flags=("not_idle",)),
        replace(predicted_trial(2, factor=1.0), flags=("not_idle", "content_sensitive")),
    ]
    words = "2 completed trials left out, whose measurement is doubtful: not_idle (2)."
    for trials in ([predicted_trial(0, factor=1.0), *doubtful], doubtful):
        view = predictions_view(run_data(trials))
        assert view is not None
        assert (view.left_out, len(view.trials)) == (words, len(trials) - 2)
        assert words in render_report(run_data(trials))
    whole = predictions_view(run_data([predicted_trial(0, factor=1.0)]))
    assert whole is not None
    assert whole.left_out == ""
