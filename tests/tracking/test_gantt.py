"""The timeline: a bar for every attempt on every GPU it held."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

from search.trial import TrialState
from tests.tracking.run_samples import run_data, study, trial_record
from tracking.gantt import gantt


def _bars(drawing: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(drawing)
    return [box for box in root.iter("rect") if "data-trial" in box.attrib]


def test_every_attempt_has_a_bar_on_every_gpu_it_held() -> None:
    data = study()
    bars = _bars(gantt(data))
    drawn = [
        (bar.attrib["data-trial"], bar.attrib["data-attempt"], bar.attrib["data-device"])
        for bar in bars
    ]
    held = [
        (str(trial.number), str(trial.attempt), f"{trial.bundle}/{gpu}")
        for trial in data.trials
        for gpu in trial.gpu_ids
    ]
    assert sorted(drawn) == sorted(held)
    states = {(trial.number, trial.attempt): trial.state.value for trial in data.trials}
    for bar in bars:
        key = (int(bar.attrib["data-trial"]), int(bar.attrib["data-attempt"]))
        assert bar.attrib["class"] == f"bar state-{states[key]}"


def test_bars_lie_where_their_time_was() -> None:
    trials = [trial_record(0, start_s=0, seconds=50), trial_record(1, start_s=75, seconds=25)]
    first, second = _bars(gantt(run_data(trials)))
    start, width = float(first.attrib["x"]), float(first.attrib["width"])
    assert float(second.attrib["width"]) * 2 == width
    assert float(second.attrib["x"]) == start + width * 1.5


def test_bars_of_one_gpu_do_not_overlap_and_gaps_show_idle() -> None:
    root = ElementTree.fromstring(gantt(study()))
    assert len([box for box in root.iter("rect") if box.attrib["class"] == "idle"]) == 8
    rows: dict[str, list[tuple[float, float]]] = {}
    for bar in _bars(gantt(study())):
        start = float(bar.attrib["x"])
        end = start + float(bar.attrib["width"])
        rows.setdefault(bar.attrib["data-device"], []).append((start, end))
    for spans in rows.values():
        spans.sort()
        assert all(after[0] >= before[1] - 0.02 for before, after in pairwise(spans))


def test_gpus_are_in_natural_order_and_unused_ones_are_counted() -> None:
    trials = [trial_record(0, gpus=3, gpu_ids=("10", "9", "2"))]
    drawing = gantt(run_data(trials, capacity_gpus=8))
    labels = [label for label in re.findall(r">([^<>]*)<", drawing) if label.startswith("b0/")]
    assert list(dict.fromkeys(labels)) == ["b0/2", "b0/9", "b0/10"]
    assert "and 5 GPUs that no trial held" in drawing


def test_a_short_attempt_stays_visible() -> None:
    trials = [trial_record(0, seconds=0.001), trial_record(1, start_s=5, seconds=10_000)]
    short, _ = _bars(gantt(run_data(trials)))
    assert float(short.attrib["width"]) >= 0.5


def test_many_gpus_and_bundles_fit() -> None:
    trials = [
        replace(trial_record(number, gpus=8, start_s=number % 7), bundle=f"node-{number}")
        for number in range(64)
    ]
    drawing = gantt(run_data(trials, capacity_gpus=512))
    height = float(ElementTree.fromstring(drawing).attrib["viewBox"].split()[3])
    assert height < 3000
    assert len(_bars(drawing)) == 512


def test_without_devices_there_is_no_drawing() -> None:
    refused = replace(
        trial_record(0, state=TrialState.INFEASIBLE, gpu_ids=()),
        started_unix_s=None,
        ended_unix_s=None,
    )
    assert gantt(run_data([])) == ""
    assert gantt(run_data([refused])) == ""


def test_hostile_names_stay_text() -> None:
    hostile = '"><script>alert(1)</script>'
    trial = replace(trial_record(0, params={hostile: hostile}, engine=hostile), bundle=hostile)
    drawing = gantt(run_data([trial]))
    assert "<script" not in drawing
    (bar,) = _bars(drawing)
    assert bar.attrib["data-device"] == f"{hostile}/0"
