"""Speed for a user against output of a GPU."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from tests.tracking.run_samples import measurement, run_data, study, trial_record
from tracking.scatter import engines, frontier, points, scatter


def test_points_are_tokens_per_user_and_per_gpu() -> None:
    measured = measurement(output_throughput=3000.0, tpot_ms=25.0)
    (point,) = points(run_data([trial_record(0, gpus=4, measured=measured)]))
    assert point.user_tokens_per_s == 40.0
    assert point.gpu_tokens_per_s == 750.0
    assert point.slo_met


def test_only_completed_trials_with_both_figures_are_points() -> None:
    data = study()
    assert [point.trial.number for point in points(data)] == [0, 1, 2, 5, 6, 7, 9, 10]
    silent = replace(measurement(), tpot_ms=None)
    assert points(run_data([trial_record(0, measured=silent)])) == []
    assert scatter(run_data([trial_record(0, measured=silent)])) == ""


def test_the_frontier_holds_what_nothing_beats() -> None:
    found = points(study())
    front = frontier(found)
    assert [point.trial.number for point in front] == [9, 7, 5, 10]
    for point in found:
        beaten = any(
            other.user_tokens_per_s > point.user_tokens_per_s
            and other.gpu_tokens_per_s > point.gpu_tokens_per_s
            for other in found
        )
        assert beaten != (point in front)


def test_every_point_is_drawn_with_its_engines_mark_and_verdict() -> None:
    data = study()
    root = ElementTree.fromstring(scatter(data))
    drawn = {
        element.attrib["data-trial"]: (element.tag, element.attrib["class"])
        for element in root.iter()
        if "data-trial" in element.attrib
    }
    assert engines(points(data)) == [("sglang", "circle", 0), ("vllm", "square", 1)]
    assert drawn["9"] == ("polygon", "point engine-1 met")
    assert drawn["6"] == ("circle", "point engine-0 missed")
    assert len(drawn) == 8
    words = [element.text for element in root.iter("text")]
    assert "best: trial 9" in words
    assert "baseline: trial 0" in words


def test_a_single_point_is_enough() -> None:
    root = ElementTree.fromstring(scatter(run_data([trial_record(0)])))
    assert sum("data-trial" in element.attrib for element in root.iter()) == 1
    assert not list(root.iter("polyline"))
