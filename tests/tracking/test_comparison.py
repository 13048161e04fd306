"""Two trials held against each other: what is better, what is the same, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from runtimes.json_types import Json
from runtimes.measurement import Interval, Measurement
from search.analysis.differences import Verdict
from tests.tracking.run_samples import measurement, run_data, trial_record
from tracking.comparison import Comparison, FigureDifference, compare_trials
from tracking.records import StageRecord, TrialRecord
from tracking.run_data import RunData

CONCURRENCIES = (8.0, 32.0)
WORKLOAD: dict[str, Json] = {
    "kind": "synthetic",
    "input_tokens": 512,
    "load": {"kind": "stages", "concurrency": [8, 32]},
}


def sure(measured: Measurement) -> Measurement:
    """With intervals of one percent to either side."""
    figures = {
        "output_throughput": measured.output_throughput,
        "goodput": measured.goodput,
        "request_throughput": measured.request_throughput,
        "ttft_mean_ms": measured.ttft_ms.mean if measured.ttft_ms else None,
    }
    bounds = {
        name: Interval(value * 0.99, value * 1.01)
        for name, value in figures.items()
        if value is not None
    }
    return replace(measured, intervals=bounds)


def stages(trial: TrialRecord, throughputs: Sequence[float]) -> list[StageRecord]:
    return [
        StageRecord(
            run=trial.run,
            number=trial.number,
            attempt=trial.attempt,
            stage=index,
            load="concurrency",
            load_value=CONCURRENCIES[index],
            started_unix_s=1e9,
            ended_unix_s=1e9 + 60,
            measurement=sure(measurement(output_throughput=throughput)),
        )
        for index, throughput in enumerate(throughputs)
    ]


def run(
    name: str,
    *throughputs: Sequence[float],
    workload: Mapping[str, Json] = WORKLOAD,
    model: str = "m/8b",
    **changes: object,
) -> RunData:
    """A run whose trial N has a stage for each of its throughputs; the last stage decides."""
    trials, made = [], []
    for number, values in enumerate(throughputs):
        deciding = sure(measurement(output_throughput=values[-1]))
        trial = trial_record(
            number,
            params={"max-num-seqs": 64 * (number + 1)},
            measured=deciding,
            baseline=number == 0,
        )
        trial = replace(trial, run=name, deciding_stage=len(values) - 1, **changes)  # type: ignore[arg-type]
        trials.append(trial)
        made += stages(trial, values)
    data = run_data(trials)
    return replace(
        data,
        run=name,
        stages=tuple(made),
        experiment={**data.experiment, "model": {"id": model}, "workload": {**workload}},
    )


def held(first: RunData, second: RunData, one: int = 0, other: int = 0) -> Comparison:
    return compare_trials((first, first.trials[one]), (second, second.trials[other]))


def figure(found: Sequence[FigureDifference], name: str) -> FigureDifference:
    return next(each for each in found if each.name == name)


def test_stages_of_the_same_load_are_paired() -> None:
    found = held(run("a", (1000, 2000)), run("b", (1100, 2200)))
    assert found.refused == ()
    assert found.loads == ("concurrency 8", "concurrency 32")
    output = figure(found.figures, "output_throughput")
    assert output.pairs == 2
    assert output.difference.relative == pytest.approx(0.1)
    assert output.difference.verdict is Verdict.BETTER
    assert figure(found.figures, "ttft_mean_ms").difference.verdict is Verdict.UNDECIDED
    (goal,) = found.objectives
    assert goal.name == "goodput_per_gpu" and goal.difference.relative == pytest.approx(0.1)


def test_only_loads_that_both_have_count() -> None:
    found = held(run("a", (1000, 2000)), run("b", (1000,)))
    assert found.loads == ("concurrency 8",)
    assert figure(found.figures, "output_throughput").difference.relative == pytest.approx(0.0)


def test_a_stage_that_repeats_another_takes_its_place() -> None:
    first, second = run("a", (1000,)), run("b", (500,))
    again = replace(second.stages[0], stage=1, repeat_of=0)
    again = replace(again, measurement=sure(measurement(output_throughput=1000)))
    found = held(first, replace(second, stages=(*second.stages, again)))
    assert figure(found.figures, "output_throughput").difference.relative == pytest.approx(0.0)


def test_equal_configurations_of_two_runs_are_paired() -> None:
    first = run("a", (1000, 2000), (1500, 2500), (900, 1900))
    second = run("b", (900, 1800), (1350, 2250), (810, 1710))
    found = held(first, second, one=1)
    assert found.configuration_pairs == ((0, 0), (1, 1), (2, 2))
    over = figure(found.configurations, "output_throughput")
    assert over.pairs == 6
    assert over.difference.relative == pytest.approx(-0.1)
    assert over.difference.verdict is Verdict.WORSE
    assert held(first, first, 0, 1).configuration_pairs == ()


def test_parameters_that_differ_are_listed() -> None:
    first = run("a", (1000,), (1100,))
    (setting,) = held(first, first, 0, 1).parameters
    assert (setting.name, setting.first, setting.second) == ("max-num-seqs", 64, 128)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (run("b", (1000,), model="m/70b"), "the models differ: m/8b and m/70b"),
        (
            run("b", (1000,), workload={**WORKLOAD, "input_tokens": 2048}),
            "the workloads differ: input_tokens is 512 and 2048",
        ),
        (run("b", (1000,), simulated=True), "b measured a simulated engine"),
        (run("b", (1000,), flags=("imported",)), "another load generator measured b"),
        (run("b", (1000,), flags=("client_limited",)), "trial 0 of b is doubtful"),
    ],
)
def test_what_is_not_comparable_is_refused(other: RunData, words: str) -> None:
    found = held(run("a", (1000,)), other)
    assert any(words in reason for reason in found.refused), found.refused
    assert found.figures == found.objectives == ()


def test_other_loads_alone_leave_nothing_to_compare() -> None:
    first, second = run("a", (1000,)), run("b", (1000,))
    moved = replace(second.stages[0], load_value=16.0)
    loads: dict[str, Json] = {**WORKLOAD, "load": {"kind": "concurrency", "value": 16}}
    second = replace(second, stages=(moved,), experiment={**second.experiment, "workload": loads})
    assert held(first, second).refused == ("no stage of one has the load of a stage of the other",)


def test_other_limits_leave_goodput_out_and_say_so() -> None:
    first, second = run("a", (1000,)), run("b", (1000,))
    second = replace(second, experiment={**second.experiment, "slo": {"ttft_ms": {"p99": 300}}})
    found = held(first, second)
    assert found.objectives == ()
    assert {"goodput", "goodput_per_gpu"}.isdisjoint(each.name for each in found.figures)
    assert any("goodput is not compared" in note for note in found.notes)


def test_defaults_that_changed_between_versions_are_listed() -> None:
    old = run(
        "a", (1000,), engine_version="0.32.0", engine_config={"max_num_seqs": "256", "x": "1"}
    )
    new = run(
        "b", (1000,), engine_version="0.33.0", engine_config={"max_num_seqs": "512", "x": "1"}
    )
    found = held(old, new)
    changed = {setting.name: (setting.first, setting.second) for setting in found.defaults}
    assert changed["max_num_seqs"] == ("256", "512")
    assert "x" not in changed
    assert "the engine versions are 0.32.0 and 0.33.0" in found.notes
    same = held(old, run("b", (1000,), engine_version="0.32.0", engine_config={"x": "2"}))
    assert same.defaults == ()


def test_an_argument_that_was_given_is_no_default() -> None:
    command = ("vllm", "serve", "m", "--max-num-seqs=64")
    old = run(
        "a", (1.0,), engine_version="0.32.0", command=command, engine_config={"max_num_seqs": "1"}
    )
    new = run("b", (1.0,), engine_version="0.33.0", engine_config={"max_num_seqs": "2"})
    assert "max_num_seqs" not in {setting.name for setting in held(old, new).defaults}
