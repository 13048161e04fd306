"""Nodes told apart by one configuration."""

from __future__ import annotations

from dataclasses import replace

from runtimes.measurement import Interval
from tests.tracking.run_samples import measurement, run_data, trial_record
from tracking.nodes import node_caveats, node_checks
from tracking.records import TrialRecord
from tracking.run_data import Goal

GOALS = (Goal("output_throughput", "maximize"),)


def on(
    node: str, throughput: float, number: int, *, error: float = 0.004, reference: bool = True
) -> TrialRecord:
    bounds = Interval(throughput * (1 - 1.96 * error), throughput * (1 + 1.96 * error))
    measured = replace(
        measurement(output_throughput=throughput), intervals={"output_throughput": bounds}
    )
    record = trial_record(number, measured=measured, objectives={"output_throughput": throughput})
    return replace(record, node=node, reference=reference)


def test_a_node_more_than_three_percent_from_the_others_is_off() -> None:
    data = run_data(
        [on("a", 1000, 0), on("b", 1005, 1), on("c", 950, 2), on("c", 940, 3, reference=False)],
        goals=GOALS,
    )
    assert {check.node: check.off for check in node_checks(data)} == {
        "a": False,
        "b": False,
        "c": True,
    }
    (caveat,) = node_caveats(data)
    assert "Node c is off" in caveat and "5.0% below the usual" in caveat
    assert "trial 3 ran there" in caveat


def test_within_the_noise_no_node_is_off() -> None:
    data = run_data([on("a", 1000, 0, error=0.03), on("b", 950, 1, error=0.03)], goals=GOALS)
    assert not any(check.off for check in node_checks(data))
    assert node_caveats(data) == []


def test_of_two_nodes_that_differ_both_are_shown() -> None:
    data = run_data([on("a", 1000, 0), on("b", 900, 1)], goals=GOALS)
    assert [check.off for check in node_checks(data)] == [True, True]


def test_a_doubtful_reference_and_a_single_node_tell_nothing() -> None:
    doubtful = replace(on("b", 900, 1), flags=("gpu_throttled",))
    assert node_checks(run_data([on("a", 1000, 0), doubtful], goals=GOALS)) == []
    assert node_checks(run_data([on("a", 1000, 0)], goals=GOALS)) == []


def test_a_reference_is_never_the_best() -> None:
    data = run_data([on("a", 1000, 0), on("b", 900, 1, reference=False)], goals=GOALS)
    best = data.best()
    assert best is not None and best.number == 1
