"""Which nodes are faster or slower than the others, by one configuration measured on each."""

from __future__ import annotations

from dataclasses import dataclass

from search.analysis.differences import Difference, Sample, Verdict, compare
from search.trial import TrialState
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.samples import sample_of
from tracking.words import objective_words, trial_list

OFF_RATIO = 0.03
"""A node further than this from the others is off: a hundred GPUs of one kind differ by less."""


@dataclass(frozen=True, slots=True)
class NodeCheck:
    """The reference configuration on one node.

    Attributes:
        trial: its run there. `gpu_uuids`: the devices it had, or their numbers where no driver
            tells.
        value: of the deciding objective.
        difference: from the median of all nodes; of two, from the other.
        off: True when it is off by more than `OFF_RATIO`, and more than the measurements' noise.
    """

    node: str
    trial: int
    gpu_uuids: tuple[str, ...]
    value: float
    difference: Difference
    off: bool

    @property
    def words(self) -> str:
        """`5.1% below the usual (4.0% to 6.2%)`."""
        relative, low, high = self.difference.relative, self.difference.low, self.difference.high
        side = "below" if relative < 0 else "above"
        bounds = ""
        if low is not None and high is not None:
            near, far = sorted((abs(low), abs(high)))
            bounds = f" ({near:.1%} to {far:.1%})"
        return f"{abs(relative):.1%} {side} the usual{bounds}"


def node_checks(data: RunData) -> list[NodeCheck]:
    """Every node with a comparable run of the reference, by name; empty for fewer than two."""
    found: dict[str, tuple[TrialRecord, Sample]] = {}
    for trial in data.last_attempts():
        usable = trial.reference and trial.state is TrialState.COMPLETED and not trial.doubts
        measured = sample_of(data, trial) if usable else None
        if measured is not None:
            found[trial.node] = (trial, measured)
    if len(found) < 2:
        return []
    checks = []
    for _, (trial, ours) in sorted(found.items()):
        # Of two nodes none is the usual one: each is held against the other.
        against = [each for _, each in found.values() if len(found) > 2 or each is not ours]
        checks.append(_check(data, trial, ours, against))
    return checks


def _check(data: RunData, trial: TrialRecord, ours: Sample, all_of: list[Sample]) -> NodeCheck:
    # A measured value, so that it has an error: with an even number the lower middle one.
    median = sorted(all_of, key=lambda sample: sample.value)[(len(all_of) - 1) // 2]
    difference = compare([median], [ours], data.goals[0].direction)
    unsure = difference.low is not None and difference.verdict is Verdict.UNDECIDED
    return NodeCheck(
        node=trial.node,
        trial=trial.number,
        gpu_uuids=trial.gpu_uuids or trial.gpu_ids,
        value=ours.value,
        difference=difference,
        off=abs(difference.relative) > OFF_RATIO and not unsure,
    )


def node_caveats(data: RunData) -> list[str]:
    """A sentence for every node that is off, with the trials that ran on it."""
    caveats = []
    for check in node_checks(data):
        if check.off:
            there = [
                trial.number
                for trial in data.last_attempts()
                if trial.node == check.node and not trial.reference
            ]
            ran = f"; {trial_list(there)} ran there" if there else ""
            caveats.append(
                f"Node {check.node} is off: {objective_words(data.goals[0].name)} of the reference "
                f"(trial {check.trial}) is {check.words}{ran}."
            )
    return caveats
