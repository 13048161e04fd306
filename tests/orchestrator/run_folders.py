"""Run folders as a driver leaves them, written without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.spec.experiment import Experiment, dump_yaml
from tests.tracking.run_samples import START_UNIX_S
from tracking.events import BundleTaken, Ending, Event, Expanded, RunEnded, RunStarted
from tracking.journal import Journal
from tracking.layout import RunLayout
from tracking.parquet.write import RecordWriter
from tracking.records import TrialRecord

RUN = "demo-20260101T000000Z-abcd"


def write_run(
    parent: Path,
    trials: Sequence[TrialRecord],
    *,
    ended: str = "every combination was tried",
    ending: Ending = Ending.COMPLETE,
    excluded: dict[str, int] | None = None,
) -> RunLayout:
    """A run of these attempts below `parent`; without `ended` its driver was killed."""
    layout = RunLayout(parent / RUN)
    layout.create()
    experiment = Experiment.from_dict(
        {
            "name": "demo",
            "model": "meta-llama/Llama-3.1-8B",
            "engines": {"vllm": {}},
            "objectives": [{"maximize": "goodput_per_gpu"}],
            "slo": {"ttft_ms": {"p99": 500}, "tpot_ms": {"p99": 40}},
        }
    )
    layout.experiment.write_text(dump_yaml(experiment.resolved()), encoding="utf-8")
    writer = RecordWriter(layout, {"tp": "int"}, ["goodput_per_gpu"])
    for trial in trials:
        writer.trial(trial)
    events: list[Event] = [
        RunStarted(RUN, "0.1.0", resumed=False),
        Expanded(len(trials), 0, excluded or {}),
        BundleTaken("b0", "node-a", "H200", [str(index) for index in range(8)]),
    ]
    if ended:
        events.append(RunEnded(ended, ending))
    clock = iter(range(len(events)))
    with Journal(layout.journal_dir, clock=lambda: START_UNIX_S + 100 * next(clock)) as journal:
        for event in events:
            journal.append(event)
    return layout
